//! Presence and typing publications on their way to the hub; what of presence was lost is asked for.

use futures_util::FutureExt as _;
use parlance_backplane::{Fault, PresenceCause, PresenceChanged, TypingChanged, UserPresence};
use parlance_hub::Announce;
use parlance_model::{Event, PresenceEvent, Topic, TypingEvent};

use super::{
    Feed, Outcome,
    announce::Announcement,
    deliver::{Ready, To},
    known::{Found, Missed, Question},
};
use crate::config::Mount;

impl Feed {
    pub(super) fn heard_presence(&mut self, topic: &Topic, change: &PresenceChanged, ready: &mut Vec<Ready>) {
        if *topic == Topic::PresenceAll {
            self.node.metrics.presence.transition(change.status);
        }
        if !self.open.contains_key(topic) {
            return;
        }
        // Listeners may know less than was published, or more: what was lost was asked for.
        let before = self.known.heard(topic, &change.user, change.status);
        if before != Some(change.status) {
            let change = PresenceChanged { before: before.unwrap_or(change.before), ..change.clone() };
            self.changed(topic, &change, ready);
        }
    }

    fn changed(&mut self, topic: &Topic, change: &PresenceChanged, ready: &mut Vec<Ready>) {
        let now = self.node.clock.now();
        for policy in self.policies() {
            if let Some(told) = self.announcer.heard(topic, policy, change, now) {
                ready.push(self.announce(told));
            }
        }
    }

    /// Asks for the presence of users of whom publications may be lost.
    pub(super) fn ask_presence(&mut self) {
        let Some(question) = self.known.question(self.node.clock.now()) else { return };
        let node = self.node.clone();
        let ask = async move {
            let answer = node.backplane.presence.status(&question.users).await;
            Outcome::Looked(question, answer)
        };
        self.under_way.push(ask.boxed());
    }

    pub(super) fn looked(&mut self, question: Question, answer: Result<Vec<UserPresence>, Fault>) {
        let now = self.node.clock.now();
        let all = match answer {
            Ok(all) => all,
            Err(fault) => {
                tracing::warn!(%fault, "reading presence; trying again");
                return self.known.failed(question, now);
            }
        };
        self.known.answered();
        let mut ready = Vec::new();
        for (user, presence) in question.users.iter().zip(all) {
            let found = Found { status: presence.status, remembered: presence.last_seen.is_some() };
            for Missed { topic, before } in self.known.found(&question, user, found, now) {
                let change = PresenceChanged {
                    user: user.clone(),
                    status: presence.status,
                    before,
                    last_seen: presence.last_seen.unwrap_or(now),
                    at: now,
                    cause: PresenceCause::Said,
                };
                self.changed(&topic, &change, &mut ready);
            }
        }
        self.tell(ready);
        self.ask_presence();
    }

    /// The distinct policies of the mounts.
    fn policies(&self) -> Vec<Announce> {
        let config = self.node.config.load();
        let policy = |m: &Mount| Announce { hold_ms: m.background_ms, throttle_ms: m.presence_throttle_ms };
        let mut policies: Vec<Announce> = config.mounts.iter().map(policy).collect();
        policies.sort_unstable();
        policies.dedup();
        policies
    }

    pub(super) fn announcements_due(&mut self, ready: &mut Vec<Ready>) {
        for told in self.announcer.due(self.node.clock.now()) {
            ready.push(self.announce(told));
        }
    }

    fn announce(&self, told: Announcement) -> Ready {
        // Whoever listens to everybody hears a user's transition there, not a second time here.
        let not = match &told.topic {
            Topic::Presence(_) => {
                self.node.hub.listeners(&Topic::PresenceAll).iter().map(|l| l.number).collect()
            }
            _ => Vec::new(),
        };
        let change = told.change;
        let to = To::Presence { announce: told.policy, user: change.user.clone(), not };
        let event = Event::Presence(PresenceEvent {
            user: change.user,
            status: change.status,
            last_seen: change.last_seen,
            at: change.at,
        });
        Ready::Event { topic: told.topic, event, to }
    }

    pub(super) fn heard_typing(&mut self, topic: &Topic, change: TypingChanged, ready: &mut Vec<Ready>) {
        let ttl = self.node.config.load().timings.typing_ttl();
        if let Some(told) = self.typing.heard(topic, change, self.node.clock.now(), ttl) {
            ready.push(self.tell_typing(topic.clone(), told));
        }
    }

    pub(super) fn typing_due(&mut self, ready: &mut Vec<Ready>) {
        if !self.typing.is_empty() {
            let due = self.typing.expire(self.node.clock.now());
            for (topic, change) in due {
                ready.push(self.tell_typing(topic, change));
            }
        }
    }

    fn tell_typing(&self, topic: Topic, change: TypingChanged) -> Ready {
        // In a user's feed: typing in a conversation that does not exist yet. It goes to those who hear their
        // conversations without subscribing.
        let implied = matches!(topic, Topic::User(_));
        let to = To::Among { users: change.to, author: change.author.id.clone(), implied };
        let event = Event::Typing(TypingEvent {
            conversation: change.conversation,
            number: self.node.hub.number(&topic),
            author: change.author,
            on: change.on,
            at: change.at,
        });
        Ready::Event { topic, event, to }
    }
}
