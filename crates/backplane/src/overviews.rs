//! A user's conversations at a glance: what a list of chats shows of each.
//!
//! Owns: what counts as unread, and how much of a log is looked at to say so. Must not know: who asks, how it is
//! shown.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{ConversationId, ConversationKind, Entry, Head, Time, UserId};

use crate::Fault;

/// Unread messages counted at most.
pub const COUNTED: u64 = 100;
/// Entries of one log looked at, at most.
pub const SCANNED: u64 = 1000;
/// Bytes of one log's entries after which no further one is looked at.
pub const SCANNED_BYTES: usize = 256 * 1024;
/// Entries looked at for the message a cursor stands at, which may stand at one that is none.
pub const BEHIND: u64 = 64;
/// Members that are named, where there are no more.
pub const FEW: u64 = 8;

/// Some of a user's conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Belonging {
    /// Which, by id. One may be among them that the user is not in (any more): [`Overviews::overviews`] knows.
    pub ids: Vec<ConversationId>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// One conversation as one of its members sees it in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// Which.
    pub conversation: ConversationId,
    /// Its kind.
    pub kind: ConversationKind,
    /// Its title.
    pub title: Option<Arc<str>>,
    /// Block numbers, first first.
    pub numbers: Vec<u32>,
    /// Where its log stands.
    pub head: Head,
    /// Who is in it, by id, where they are at most [`FEW`].
    pub members: Option<Vec<UserId>>,
    /// What the user has read.
    pub read: Reading,
    /// Messages of others behind what was read and behind the user's coming, of those that are kept; [`COUNTED`] at
    /// most.
    pub unread: u64,
    /// There are, or may be, more of them than were counted.
    pub more_unread: bool,
    /// The newest message. `None` also where there is none among the newest entries.
    pub last: Option<Entry>,
}

/// How far a member has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Every entry up to here was read, or was there before the member.
    pub seq: u64,
    /// When the member last read something; 0 for never.
    pub at: Time,
    /// Sequence and time of the newest message up to there, if it is kept. Only where something was read.
    pub message: Option<(u64, Time)>,
}

/// Conversations at a glance.
///
/// Guarantees: an overview is of one moment of its conversation. What it costs does not grow with the length of a
/// log, nor with the members.
#[async_trait]
pub trait Overviews: Send + Sync {
    /// The user's conversations behind `after`, by id, at most `limit`.
    async fn belonging(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Belonging, Fault>;

    /// What a member sees of each; `None` where the user is none. Those of a part of the store that is away fail alone.
    async fn overviews(
        &self,
        user: &UserId,
        conversations: &[ConversationId],
    ) -> Vec<Result<Option<Overview>, Fault>>;
}
