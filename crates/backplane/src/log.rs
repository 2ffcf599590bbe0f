//! The log traits: appending, reading, finding, the reactions that stand, and the per-user integer sequence.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{Author, ConversationId, Entry, LogKey, Message, MessageId, Record, Time, UserId};

use crate::Fault;

/// Where an entry was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// Its time.
    pub at: Time,
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, durable as the ack level says, and was published.
    New(Stored),
    /// The same (sender, conversation, client id) is in the log already; nothing was published.
    Duplicate(Stored),
    /// The sender is not a member. Nothing happened.
    NotMember,
    /// There is no such conversation. Nothing happened.
    NoConversation,
}

/// What came of a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reacted {
    /// Appended and published.
    New(Stored),
    /// The reaction stands already (where it was put, unless that was not kept), or is gone already (`None`);
    /// nothing was published.
    Same(Option<Stored>),
    /// Not a member. Nothing happened.
    NotMember,
    /// No message has that sequence. Nothing happened.
    NoMessage,
}

/// A reaction that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The sequence of the message.
    pub target: u64,
    /// The emoji or reaction word.
    pub kind: Arc<str>,
    /// Who reacted.
    pub user: UserId,
    /// The sequence of the reaction.
    pub seq: u64,
    /// When.
    pub at: Time,
}

/// What came of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// Where it is.
    pub stored: Stored,
    /// It was put there now; else it was there before, and nothing was published.
    pub fresh: bool,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Entries after `seq`, oldest first.
    After {
        /// Exclusive lower bound.
        seq: u64,
        /// At most so many.
        limit: usize,
    },
    /// The newest entries before `seq` (`u64::MAX`: the newest of all), returned oldest first.
    Before {
        /// Exclusive upper bound.
        seq: u64,
        /// At most so many.
        limit: usize,
    },
    /// Entries appended at or after a time, oldest first.
    Since {
        /// Inclusive lower bound.
        at: Time,
        /// At most so many.
        limit: usize,
    },
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The entries, oldest first, dense in sequence but for what was lost: a [`Record::Lost`] comes after it.
    pub entries: Vec<Entry>,
    /// Whether the log holds more in the direction of reading.
    pub more: bool,
    /// The first sequence still kept (1 unless trimmed); `head + 1` for an empty log.
    pub first: u64,
    /// The log's head when it was read.
    pub head: u64,
    /// The log's epoch when it was read.
    pub epoch: u32,
}

/// Append-only logs with dense sequences.
///
/// Guarantees, for every method that appends: dedupe, membership, append and publish are one atomic
/// step (a crash leaves all of it or none); the sequence is dense from 1 per log (but for [`crate::Fences`]); `at` never runs
/// backwards within a log; publications of a log reach each subscribed inbox in sequence order (or the
/// inbox says [`crate::Delivery::Lost`]); once the future resolves the entry survives what the ack
/// level says. Appends of one caller keep the order in which their futures are first polled, also when they are under way
/// together (some hundreds of them); but one that is tried again, because its place moves, may come after later ones:
/// whoever needs the order then awaits each.
#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
pub trait Log: Send + Sync {
    /// Appends a message of a member; with a client id, once per (sender, conversation, client id)
    /// within the dedupe window, for concurrent resends too.
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault>;

    /// Adds or removes a member's reaction to the message at `target`; idempotent.
    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault>;

    /// Appends to a user's feed or an application channel. Creates the log when it is not there.
    /// `key` must not be a conversation. What comes with a name of its own is stored once per (log, name) within the
    /// dedupe window, for concurrent repetitions too.
    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault>;

    /// Reads a part of a log; an unknown log is an empty page.
    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault>;

    /// Waits until an entry of a conversation that was read is as durable as [`Log::append`] makes what it answers for: for
    /// whoever acknowledges what is in the log already without appending it again.
    async fn confirm(&self, conversation: &ConversationId, seq: u64) -> Result<(), Fault>;

    /// Finds messages and numbers: `None` where there is none (or it was trimmed and forgotten).
    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault>;
}

/// Reactions as they stand, for whoever reads history: the log itself has every coming and going of them.
///
/// Guarantees: what [`Log::react`] answered `New` or `Same` for is seen by a later read.
#[async_trait]
pub trait Reactions: Send + Sync {
    /// The reactions to the messages `first..=last` that stand, by message and then in the order they were
    /// made. Unknown conversations have none.
    async fn standing(
        &self,
        conversation: &ConversationId,
        first: u64,
        last: u64,
    ) -> Result<Vec<Standing>, Fault>;
}

/// How [`Log::find`] looks for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// By the author's own id; the newest when the author used it in several conversations, unless
    /// `conversation` names one.
    ClientId {
        /// The author.
        author: UserId,
        /// The author's id for it.
        id: Arc<str>,
        /// Where, when known.
        conversation: Option<ConversationId>,
    },
    /// By server id.
    Id(MessageId),
    /// Not a message: the conversation that has this number for one of its blocks, with the sequence of
    /// offset 0 in that block (0 in the first one, as sequences begin at 1).
    Number(u32),
}

/// Per-user integer sequences (socialhub `seq`, `last_poll_id`): pointers to log entries.
///
/// Guarantees: for one user the same (log, sequence) always has the same integer; integers grow by
/// assignment, start at 1, stay below `2^53`, and survive what the ack level says before they are
/// returned; concurrent assignments of the same pointer from several nodes agree.
#[async_trait]
pub trait Sequences: Send + Sync {
    /// The integers of these pointers, assigning those that have none, in the order given.
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Result<Vec<u64>, Fault>;

    /// The pointers after `after`, in order, at most `limit`: `(integer, log, sequence)`.
    async fn pointers(
        &self,
        user: &UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogKey, u64)>, Fault>;

    /// For each log the highest sequence that has an integer: what is beyond is still to be assigned.
    async fn marks(&self, user: &UserId) -> Result<Vec<(LogKey, u64)>, Fault>;
}
