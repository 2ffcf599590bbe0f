//! What a user who polls hears, and up to where each log has been gone through.
//!
//! Owns: the kept positions. Every entry up to one has the user's integer, or is told in no words. A lost or outdated
//! position is harmless: what has an integer keeps it. Must not know: integers, answers.
//!
//! Over HTTP nobody subscribes. A poll hears the user's notifications, all the user's conversations, `feed:updates`, and
//! what a connection with the same token has subscribed besides.

use std::collections::BTreeMap;
use std::time::Duration;

use parlance_backplane::Fault;
use parlance_model::{Channel, ConversationId, Identity, LogKey, Time, Topic, UserId};
use serde::{Deserialize, Serialize};

use crate::config::Mount;
use crate::node::Node;
use crate::session;

/// A user who did not poll for so long begins anew.
const KEPT: Duration = Duration::from_secs(8 * 24 * 3600);
/// Positions that did not move are kept on this often.
const REFRESH: Duration = Duration::from_secs(24 * 3600);
/// Everybody who polls hears it: there is no way to ask for it.
const FEED: &str = "feed:updates";

/// A log the user hears.
#[derive(Debug)]
pub(super) struct Source {
    pub log: LogKey,
    /// The conversation's integer id; 0 for others.
    pub number: u32,
    /// Nothing up to here is the user's to hear.
    pub floor: u64,
    /// Everything up to here was gone through; `None`: never looked at.
    pub mark: Option<u64>,
    /// The version of its cursors that the user was told of.
    pub receipts: Option<u64>,
    /// How its position is kept.
    name: String,
}

/// Everything a user hears.
#[derive(Debug)]
pub(super) struct Scope {
    pub user: UserId,
    pub sources: Vec<Source>,
    /// Of what came before the first poll only the logs are told.
    pub since: Time,
    /// Conversations out of reach, which the user may be in.
    away: Vec<ConversationId>,
    /// Topics without a log.
    passing: Vec<Topic>,
    kept: Kept,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    at: u64,
    /// Channels besides conversations and notifications.
    #[serde(default)]
    channels: Vec<String>,
    /// When the first poll was.
    #[serde(default)]
    since: u64,
    marks: BTreeMap<String, u64>,
    /// Versions of cursors.
    #[serde(default)]
    receipts: BTreeMap<String, u64>,
}

fn key(user: &UserId) -> String {
    format!("poll:{user}")
}

impl Scope {
    /// Finds out what a user hears now.
    pub(super) async fn load(node: &Node, mount: &Mount, identity: &Identity) -> Result<Self, Fault> {
        let user = identity.user.clone();
        let (found, kept, subscribed) = futures_util::try_join!(
            node.backplane.conversations.found_of_user(&user),
            async { node.backplane.shared.load(&key(&user)).await },
            async { Ok(subscribed(node, mount, identity).await) },
        )?;
        let mut kept = read(kept);
        if let Some(subscribed) = subscribed {
            let besides = |c: &&Channel| !matches!(c, Channel::Notifications | Channel::Conversation(_));
            kept.channels = subscribed.iter().filter(besides).map(Channel::name).collect();
        }
        if !kept.channels.iter().any(|name| name == FEED) {
            kept.channels.push(FEED.to_owned());
        }
        if kept.since == 0 {
            kept.since = node.clock.now().millis();
        }
        let mark = |name: &str| kept.marks.get(name).copied();
        let mut sources = vec![Source {
            log: LogKey::User(user.clone()),
            number: 0,
            floor: 0,
            mark: mark("~"),
            receipts: None,
            name: "~".to_owned(),
        }];
        for membership in found.here {
            let name = format!("n{}", membership.number);
            sources.push(Source {
                log: LogKey::Conversation(membership.conversation),
                number: membership.number,
                floor: membership.joined_seq,
                mark: mark(&name),
                receipts: kept.receipts.get(&name).copied(),
                name,
            });
        }
        let mut passing = Vec::new();
        for channel in kept.channels.iter().filter_map(|name| Channel::parse(name)) {
            let (topic, name) = (channel.topic(&user), channel.name());
            match LogKey::of_topic(&topic) {
                Some(log) => {
                    sources.push(Source { log, number: 0, floor: 0, mark: mark(&name), receipts: None, name })
                }
                None => passing.push(topic),
            }
        }
        let since = Time::from_millis(kept.since);
        Ok(Self { user, sources, since, away: found.away, passing, kept })
    }

    /// Where all of it is published.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.sources.iter().map(|source| source.log.topic()).chain(self.passing.iter().cloned()).collect()
    }

    /// The source of a log, when the user hears it.
    pub(super) fn source(&self, log: &LogKey) -> Option<&Source> {
        self.sources.iter().find(|source| source.log == *log)
    }

    /// Whether something of what the user hears is out of reach.
    pub(super) fn is_partial(&self) -> bool {
        !self.away.is_empty()
    }

    /// Whether it cannot be known now what the user may hear of a log.
    pub(super) fn is_away(&self, log: &LogKey) -> bool {
        matches!(log, LogKey::Conversation(id) if self.away.contains(id))
    }

    /// Keeps the positions, when they moved or it is time again.
    pub(super) async fn save(&mut self, node: &Node, now: Time) -> Result<(), Fault> {
        let mut marks = BTreeMap::new();
        let mut receipts = BTreeMap::new();
        if self.is_partial() {
            // Those out of reach stay where they are.
            (marks, receipts) = (self.kept.marks.clone(), self.kept.receipts.clone());
        }
        for source in &self.sources {
            marks.extend(source.mark.map(|mark| (source.name.clone(), mark)));
            receipts.extend(source.receipts.map(|version| (source.name.clone(), version)));
        }
        let old = Time::from_millis(self.kept.at) + REFRESH < now;
        if marks == self.kept.marks && receipts == self.kept.receipts && !old {
            return Ok(());
        }
        (self.kept.marks, self.kept.receipts, self.kept.at) = (marks, receipts, now.millis());
        let bytes = serde_json::to_vec(&self.kept).map_err(|error| Fault::Corrupt(error.to_string()))?;
        node.backplane.shared.save(&key(&self.user), bytes, Some(KEPT)).await
    }
}

/// Out of reach counts as not there: then what was subscribed before goes on.
async fn subscribed(node: &Node, mount: &Mount, identity: &Identity) -> Option<Vec<Channel>> {
    let found = session::subscribed(node, &mount.name, identity).await;
    found.inspect_err(|fault| tracing::debug!(%fault, "a poll cannot see what is subscribed")).ok().flatten()
}

fn read(bytes: Option<Vec<u8>>) -> Kept {
    let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
    // Unreadable is as good as absent; the next save heals it.
    let kept = read.and_then(|read| {
        read.inspect_err(|error| tracing::warn!(%error, "kept positions of polls are unreadable")).ok()
    });
    kept.unwrap_or_default()
}
