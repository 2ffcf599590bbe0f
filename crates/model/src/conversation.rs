//! A conversation's state as every engine keeps it.

use std::sync::Arc;

use crate::{ConversationId, Time, UserId};

/// What kind of conversation it is (`POST /api/v1/conversations`, `type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ConversationKind {
    /// Two people.
    Dm,
    /// A closed group.
    Group,
    /// A channel of an application.
    Channel,
}

impl ConversationKind {
    /// `dm`, `group` or `channel`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dm => "dm",
            Self::Group => "group",
            Self::Channel => "channel",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dm, Self::Group, Self::Channel].into_iter().find(|k| k.as_str() == text)
    }
}

/// Where a log stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// The newest sequence; 0 for an empty log.
    pub seq: u64,
    /// Grows when entries were lost (a fence): positions of another epoch are void.
    pub epoch: u32,
    /// The newest entry's time.
    pub at: Time,
    /// Grows with every cursor move.
    pub cursor_version: u64,
    /// Grows with every change of members or title.
    pub version: u64,
    /// The first sequence of the epoch: a position further back than the one before it lies in front of a loss, or in
    /// an earlier life of the conversation.
    pub since: u64,
}

/// A member of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// The log's head when the member joined: earlier entries are not theirs to receive live.
    pub joined_seq: u64,
}

/// How far one member has received and read; cursors only move forward.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Whose.
    pub user: UserId,
    /// Every entry up to here was delivered.
    pub delivered: u64,
    /// Every entry up to here was read; never beyond `delivered`.
    pub read: u64,
    /// When `read` last moved.
    pub read_at: Time,
}

/// A conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its kind.
    pub kind: ConversationKind,
    /// Its title.
    pub title: Option<Arc<str>>,
    /// Block numbers, first first: see [`crate::MessageId`].
    pub numbers: Vec<u32>,
    /// Who created it.
    pub created_by: Option<UserId>,
    /// When it was created.
    pub created_at: Time,
    /// When members or title last changed.
    pub updated_at: Time,
    /// Who is in it, by user id.
    pub members: Vec<Member>,
    /// Where its log stands.
    pub head: Head,
}

impl Conversation {
    /// The member entry of `user`.
    pub fn member(&self, user: &UserId) -> Option<&Member> {
        self.members.iter().find(|m| m.user == *user)
    }

    /// The integer id a lingochat client uses: the first block's number.
    pub fn number(&self) -> u32 {
        self.numbers.first().copied().unwrap_or(0)
    }
}
