//! Who is present in which conversation right now.
//!
//! Owns: the meaning of entering and leaving, and what is told of it. Must not know: who may enter, what
//! clients are told.

use async_trait::async_trait;
use parlance_model::{Author, ConnectionId, ConversationId, Time, UserId};

use crate::Fault;

/// A connection becomes present in conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entering {
    /// Which; repeated ones are one.
    pub conversations: Vec<ConversationId>,
    /// Whose connection, as others are shown them.
    pub author: Author,
    /// Which connection. It holds a lease (see [`crate::Presence`]); without one nothing is entered.
    pub connection: ConnectionId,
    /// The client asked, not its dialect by itself.
    pub explicit: bool,
}

/// A connection leaves conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Which; those it is not in are fine.
    pub conversations: Vec<ConversationId>,
    /// Whose connection, as others are shown them.
    pub author: Author,
    /// Which connection.
    pub connection: ConnectionId,
    /// The client asked.
    pub explicit: bool,
}

/// A connection came into a conversation or left it: published on the conversation's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomChanged {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub author: Author,
    /// Came, or left.
    pub present: bool,
    /// It was the user's first connection in, or the last one out.
    pub flipped: bool,
    /// The client asked for it.
    pub explicit: bool,
    /// When.
    pub at: Time,
}

/// Who is present in a conversation right now, counted per (conversation, user) over all connections and
/// nodes.
///
/// Guarantees:
/// - [`crate::Publication::Room`] is published exactly once, in the same step, when a change is a user's
///   first connection in or last connection out (`flipped`), or was asked for (`explicit`); otherwise
///   nothing is published. Publications of one conversation come in the order of the changes.
/// - A connection is in a conversation once. Entering again changes nothing, but for the first explicit
///   entering of a connection that was in implicitly: it is published, explicit and not flipped. Leaving
///   what the connection is not in changes nothing and publishes nothing.
/// - Presence in rooms ends with the lease: [`crate::Presence::close`] and [`crate::Presence::sweep`] take
///   the connection out of every conversation and publish what flipped (`explicit: false`) in the same
///   step, once over all nodes. A connection without a lease enters nothing, quietly: nothing would ever
///   take it out. A lease that ended and is taken again brings nothing back: whom
///   [`crate::Presence::refresh`] reports as missing enters again after the touch.
/// - Membership is the caller's to check. A member who is removed, and everybody when the conversation is
///   deleted, is out in the same step (published like the end of a lease, after the log's record of it).
///   An entering that was checked before the removal and arrives after it stands: a node that hears of the
///   removal has its connections of that user leave.
/// - Publications may be lost like others ([`crate::Delivery::Lost`]); [`Self::present`] is the truth.
/// - Nothing of it survives the connections: after a restart of everything the rooms are empty.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// A connection becomes present.
    async fn enter(&self, entering: Entering) -> Result<(), Fault>;

    /// A connection leaves.
    async fn leave(&self, leaving: Leaving) -> Result<(), Fault>;

    /// Who is present, in order of user id.
    async fn present(&self, conversation: &ConversationId) -> Result<Vec<UserId>, Fault>;
}
