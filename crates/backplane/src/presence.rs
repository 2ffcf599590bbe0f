//! Presence leases and typing deadlines.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{Author, ConnectionId, ConversationId, Status, Time, UserId};

use crate::Fault;

/// A lease on presence: one connection of a user is there until `deadline`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Whose.
    pub user: UserId,
    /// Which connection.
    pub connection: ConnectionId,
    /// The mount it came through: limits count per mount.
    pub mount: Arc<str>,
    /// The connection's status; `None` keeps what it has (a new one is online).
    pub status: Option<Status>,
    /// When the lease ends without another touch (engine time).
    pub deadline: Time,
    /// When the connection was heard of last. A lease is as long after that as it was when it was touched.
    pub heard: Time,
    /// At most so many connections of the user on this mount; 0 = unlimited. Only a new one is refused.
    pub max: u32,
}

/// A lease that would not end later than this by a refresh is left as it is.
pub const WORTH: Duration = Duration::from_millis(500);

/// Within this what lingered ends when its user has come back.
pub const RETURNED: Duration = Duration::from_secs(5);

/// What came of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The lease stands.
    Ok,
    /// Refused: the user has `max` live connections on the mount.
    TooMany,
}

/// Which leases of a refresh are not refreshed, by their indexes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refreshed {
    /// They had ended: touch them again.
    pub ended: Vec<usize>,
    /// They are out of reach: refresh them again.
    pub away: Vec<usize>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Leases that ended.
    pub leases: usize,
    /// Typists that fell silent.
    pub typists: usize,
    /// How long the most overdue of them was past its deadline.
    pub late: Duration,
}

/// A user's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPresence {
    /// The combined status of the live connections.
    pub status: Status,
    /// Live connections.
    pub devices: usize,
    /// When the user was last heard of, through any lease; `None` if never.
    pub last_seen: Option<Time>,
}

/// Presence leases.
///
/// Guarantees: a user's status is [`parlance_model::presence::combined`] of the live leases; each change of
/// it is published exactly once, in the same atomic step, on `Topic::Presence(user)` and
/// `Topic::PresenceAll`, whichever node causes or notices it. A lease that is not refreshed ends at its
/// deadline at the next sweep (any node may sweep). With a lease end the connection's entries in [`crate::Rooms`].
#[async_trait]
pub trait Presence: Send + Sync {
    /// Takes or refreshes a lease.
    async fn touch(&self, touch: Touch) -> Result<Touched, Fault>;

    /// Prolongs many at once, and does nothing else: statuses and limits are not looked at. One that is prolonged by less
    /// than [`WORTH`] is left as it is. What is out of reach now is passed over, unless it is everything.
    async fn refresh(&self, touches: &[Touch]) -> Result<Refreshed, Fault>;

    /// Ends a lease now. Unknown ones are fine.
    async fn close(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Fault>;

    /// Leaves a lease to its deadline although its connection has ended: its node sends its client elsewhere. It counts for no
    /// limit and as no device any more; one such lease of a mount ends within [`RETURNED`] when the user has come
    /// back there, by when the new connection is where the old one was. Unknown ones are fine.
    async fn linger(&self, touch: &Touch) -> Result<(), Fault>;

    /// Ends what is past its deadline, of presence and of typing. Nodes share the work: each does its part, and all
    /// parts together are everything.
    async fn sweep(&self) -> Result<Swept, Fault>;

    /// The presence of each of these users.
    async fn status(&self, users: &[UserId]) -> Result<Vec<UserPresence>, Fault>;
}

/// What came of a typing change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypingOutcome {
    /// Published: typing began or ended.
    Published,
    /// A heartbeat (published as a refresh, so that nodes move their own deadlines), or a stop of nothing.
    Refreshed,
    /// Not a member, or no such conversation: ignored.
    Ignored,
}

/// Typing deadlines.
///
/// Guarantees: per (conversation, user) starts and stops alternate; a stop is published once, by the
/// typist or by [`Presence::sweep`] 4 s (the engine's `typing_ttl`) after the last heartbeat.
#[async_trait]
pub trait Typing: Send + Sync {
    /// A member starts, refreshes or stops typing. `to`: whom to tell; empty = all members.
    async fn set(
        &self,
        conversation: &ConversationId,
        author: &Author,
        on: bool,
        to: &[UserId],
    ) -> Result<TypingOutcome, Fault>;
}
