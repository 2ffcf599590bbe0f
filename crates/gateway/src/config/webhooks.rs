//! What the application's backend is told of.

use std::fmt;
use std::path::PathBuf;

use parlance_backplane::trail::Kinds;
use serde::{Deserialize, Serialize};

use super::validate::{Checked, not_zero, refuse};
use crate::{auth, webhooks};

/// What may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Told {
    /// A message came into a conversation's log.
    #[serde(rename = "message.accepted")]
    MessageAccepted,
    /// A reaction was added or taken back.
    #[serde(rename = "reaction.changed")]
    ReactionChanged,
    /// A member read on.
    #[serde(rename = "read.moved")]
    ReadMoved,
    /// A user came, went, or said so.
    #[serde(rename = "presence.changed")]
    PresenceChanged,
    /// A conversation is used for the first time.
    #[serde(rename = "conversation.created")]
    ConversationCreated,
    /// Users came into a conversation, or are out of it.
    #[serde(rename = "members.changed")]
    MembersChanged,
    /// A user's connection came.
    #[serde(rename = "user.connected")]
    UserConnected,
    /// A user's connection went.
    #[serde(rename = "user.disconnected")]
    UserDisconnected,
}

impl Told {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::MessageAccepted,
        Self::ReactionChanged,
        Self::ReadMoved,
        Self::PresenceChanged,
        Self::ConversationCreated,
        Self::MembersChanged,
        Self::UserConnected,
        Self::UserDisconnected,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessageAccepted => "message.accepted",
            Self::ReactionChanged => "reaction.changed",
            Self::ReadMoved => "read.moved",
            Self::PresenceChanged => "presence.changed",
            Self::ConversationCreated => "conversation.created",
            Self::MembersChanged => "members.changed",
            Self::UserConnected => "user.connected",
            Self::UserDisconnected => "user.disconnected",
        }
    }
}

/// Telling the application's backend. Times in milliseconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Where events are posted; absent: nowhere.
    pub url: Option<String>,
    /// Which.
    pub events: Vec<Told>,
    /// Signs the calls, when set.
    pub secret: Option<String>,
    /// The same from a file.
    pub secret_file: Option<PathBuf>,
    /// How long a call may take.
    pub timeout_ms: u64,
    /// Events in a call at most.
    pub batch: usize,
    /// Calls of a node under way at once.
    pub max_in_flight: usize,
    /// Between the first failure and the next attempt; each time twice as long.
    pub backoff_ms: u64,
    /// At most.
    pub backoff_max_ms: u64,
    /// An event that is refused so often is put aside.
    pub attempts: u32,
    /// And one that could not be told for so long.
    pub give_up_hours: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            url: None,
            events: Told::ALL.to_vec(),
            secret: None,
            secret_file: None,
            timeout_ms: 10_000,
            batch: 100,
            max_in_flight: 4,
            backoff_ms: 1_000,
            backoff_max_ms: 60_000,
            attempts: 10,
            give_up_hours: 72,
        }
    }
}

impl Webhooks {
    /// What has to be written down for it.
    pub fn kinds(&self) -> Kinds {
        let wants = |some: &[Told]| self.url.is_some() && self.events.iter().any(|told| some.contains(told));
        Kinds {
            entries: wants(&[
                Told::MessageAccepted,
                Told::ReactionChanged,
                Told::ConversationCreated,
                Told::MembersChanged,
            ]),
            cursors: wants(&[Told::ReadMoved]),
            presence: wants(&[Told::PresenceChanged]),
            connections: wants(&[Told::UserConnected, Told::UserDisconnected]),
        }
    }

    pub(super) fn validate(&self) -> Checked {
        if self.url.is_none() && self.secret.is_some() {
            return refuse("webhooks.secret: is of no use without webhooks.url");
        }
        if let Some(url) = &self.url {
            webhooks::check_url(url).map_err(super::ConfigError)?;
        }
        if self.secret.as_ref().is_some_and(|secret| secret.len() < auth::SHORTEST_SECRET) {
            return refuse(format!(
                "webhooks.secret: a secret must have at least {} bytes",
                auth::SHORTEST_SECRET
            ));
        }
        if self.batch > 1_000 {
            return refuse("webhooks.batch: at most 1000");
        }
        not_zero(
            "webhooks",
            &[
                ("timeout_ms", self.timeout_ms),
                ("batch", self.batch as u64),
                ("max_in_flight", self.max_in_flight as u64),
                ("backoff_ms", self.backoff_ms),
                ("backoff_max_ms", self.backoff_max_ms),
                ("attempts", u64::from(self.attempts)),
                ("give_up_hours", self.give_up_hours),
            ],
        )
    }
}

/// Never shows the secret.
impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("events", &self.events).finish_non_exhaustive()
    }
}
