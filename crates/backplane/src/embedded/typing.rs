//! Typing deadlines, in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::typing::{Transition, Typist};
use parlance_model::{Author, ConversationId, Time, Topic, UserId};

use super::Node;
use super::bus::Hub;
use super::tables::MEMBERS;
use crate::{Fault, Publication, Typing, TypingChanged, TypingOutcome};

type Key = (ConversationId, UserId);

/// Who types where.
#[derive(Default)]
pub struct Typists {
    all: HashMap<Key, Active>,
    deadlines: BTreeSet<(Time, Key)>,
}

struct Active {
    typist: Typist,
    author: Author,
    to: Vec<UserId>,
}

impl Typists {
    /// Whether a stop would have something to stop.
    pub fn knows(&self, key: &Key) -> bool {
        self.all.contains_key(key)
    }

    fn heartbeat(&mut self, key: Key, author: &Author, to: &[UserId], moment: &Moment<'_>) -> TypingOutcome {
        self.expire_one(&key, moment);
        let fresh = || Active { typist: Typist::default(), author: author.clone(), to: Vec::new() };
        let typing = self.all.entry(key.clone()).or_insert_with(fresh);
        let before = typing.typist.deadline();
        let transition = typing.typist.heartbeat(moment.now, moment.ttl);
        // Whoever was told of the start is told of the stop, also when a heartbeat names others.
        if transition == Transition::Start || to.is_empty() {
            typing.to = to.to_vec();
        } else if !typing.to.is_empty() {
            for user in to {
                if !typing.to.contains(user) {
                    typing.to.push(user.clone());
                }
            }
        }
        let until = typing.typist.deadline().unwrap_or(moment.now);
        moment.tell(&key.0, typing, true, until);
        if let Some(before) = before {
            self.deadlines.remove(&(before, key.clone()));
        }
        self.deadlines.insert((until, key));
        if transition == Transition::Start { TypingOutcome::Published } else { TypingOutcome::Refreshed }
    }

    fn stop(&mut self, key: &Key, moment: &Moment<'_>) -> TypingOutcome {
        let Some(typing) = self.all.remove(key) else { return TypingOutcome::Refreshed };
        if let Some(deadline) = typing.typist.deadline() {
            self.deadlines.remove(&(deadline, key.clone()));
        }
        moment.tell(&key.0, &typing, false, moment.now);
        TypingOutcome::Published
    }

    /// A sweep may be late: silence that has lasted long enough ends before a new start.
    fn expire_one(&mut self, key: &Key, moment: &Moment<'_>) {
        let deadline = self.all.get(key).and_then(|typing| typing.typist.deadline());
        if deadline.is_some_and(|deadline| deadline <= moment.now) {
            self.stop(key, moment);
        }
    }

    /// Ends what is past its deadline: how many there were, and the earliest deadline of them.
    pub fn sweep(&mut self, moment: &Moment<'_>) -> (usize, Option<Time>) {
        let (mut ended, mut earliest) = (0, None);
        while let Some((deadline, key)) = self.deadlines.first().cloned() {
            if deadline > moment.now {
                break;
            }
            self.deadlines.pop_first();
            self.stop(&key, moment);
            ended += 1;
            earliest.get_or_insert(deadline);
        }
        (ended, earliest)
    }
}

/// When, and how to tell.
pub struct Moment<'a> {
    /// Now.
    pub now: Time,
    /// How long a heartbeat lasts.
    pub ttl: Duration,
    /// Where to publish.
    pub hub: &'a Hub,
}

impl Moment<'_> {
    fn tell(&self, conversation: &ConversationId, typing: &Active, on: bool, until: Time) {
        let changed = TypingChanged {
            conversation: conversation.clone(),
            author: typing.author.clone(),
            on,
            to: typing.to.clone(),
            until,
            at: self.now,
        };
        self.hub.publish(Topic::Conversation(conversation.clone()), Publication::Typing(changed));
    }
}

#[async_trait]
impl Typing for Node {
    async fn set(
        &self,
        conversation: &ConversationId,
        author: &Author,
        on: bool,
        to: &[UserId],
    ) -> Result<TypingOutcome, Fault> {
        let key = (conversation.clone(), author.id.clone());
        // Who was told of a start is told of its stop, also when the typist is no member any more.
        let ends = !on && self.engine.typists.lock().knows(&key);
        if !ends && !self.is_member(key.clone()).await? {
            return Ok(TypingOutcome::Ignored);
        }
        let engine = &self.engine;
        let mut typists = engine.typists.lock();
        let moment = Moment { now: engine.now(), ttl: engine.options.typing_ttl, hub: &engine.hub };
        Ok(if on { typists.heartbeat(key, author, to, &moment) } else { typists.stop(&key, &moment) })
    }
}

impl Node {
    async fn is_member(&self, key: Key) -> Result<bool, Fault> {
        let (conversation, user) = key;
        self.engine
            .read(move |txn| {
                let members = txn.open_table(MEMBERS)?;
                Ok(members.get((conversation.as_str(), user.as_str()))?.is_some())
            })
            .await
    }
}
