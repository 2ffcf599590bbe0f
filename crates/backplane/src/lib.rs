//! What nodes share, as traits with their guarantees written on them, the record format, the contract
//! suite every engine must pass, and the Embedded engine.
//!
//! Owns: the meaning of "accepted", order, dedupe, membership, leases. Must not know: dialects, sockets.
#![warn(missing_docs)]

mod bus;
pub mod contract;
mod conversations;
pub mod embedded;
mod fences;
mod limits;
mod log;
mod members;
mod nodes;
mod overviews;
mod presence;
pub mod record;
mod rooms;
mod shared;
pub mod stats;
pub mod trail;

use std::sync::Arc;

pub use bus::{
    Behind, Bus, Delivery, Inbox, PresenceCause, PresenceChanged, Publication, Signal, TypingChanged,
};
pub use conversations::{
    Change, ChangeRefused, Changed, Conversations, CursorChanged, CursorSet, Cursors, Found, Listed,
    MemberSet, Membership,
};
pub use fences::{FENCE_MARGIN, Fenced, Fences, Place, SOON, Seen};
pub use limits::{Limits, Rule, Verdict};
pub use log::{Appended, Find, Log, Page, Posted, Range, Reacted, Reactions, Sequences, Standing, Stored};
pub use members::{Enlisted, Enlistment, MANY, Members, NAMED, Outline};
pub use nodes::{LiveNode, NodeState, Nodes, Pass};
pub use overviews::{BEHIND, Belonging, COUNTED, FEW, Overview, Overviews, Reading, SCANNED, SCANNED_BYTES};
use parlance_model::Time;
pub use presence::{
    Presence, RETURNED, Refreshed, Swept, Touch, Touched, Typing, TypingOutcome, UserPresence, WORTH,
};
pub use rooms::{Entering, Leaving, RoomChanged, Rooms};
pub use shared::{Over, Shared};
pub use stats::Stats;
pub use trail::{Happening, Trail};

/// The engine's time source: milliseconds since the epoch, given by whoever builds the engine.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The engine could not do it now. The command had no effect, or its effect is harmless to repeat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Out of reach, overloaded or stopped: worth a retry.
    #[error("the backplane is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read: worth a log line and an operator.
    #[error("the backplane holds something unreadable: {0}")]
    Corrupt(String),
}

/// How durable an acknowledged message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckLevel {
    /// Nothing survives the process.
    Memory,
    /// Survives `kill -9` of the process: a durable file with fsync group commit.
    File,
    /// Survives what Redis survives: with an append-only file synced each second, `kill -9` of Redis.
    Redis,
    /// Survives the loss of the primary: replicas have it.
    RedisWait,
    /// Survives power loss of the Redis host: its append-only file is synced first.
    RedisFsync,
    /// As [`AckLevel::File`], and a database outside has it.
    FileArchived,
    /// As [`AckLevel::Redis`], and a database outside has it.
    RedisArchived,
}

impl AckLevel {
    /// The engine that gives it.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Memory | Self::File | Self::FileArchived => "embedded",
            Self::Redis | Self::RedisWait | Self::RedisFsync | Self::RedisArchived => "redis",
        }
    }

    /// The word used in configuration and `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Redis => "redis",
            Self::RedisWait => "redis-wait",
            Self::RedisFsync => "redis-fsync",
            Self::FileArchived | Self::RedisArchived => "archived",
        }
    }
}

/// One node's handle on everything shared: one field per trait. Cheap to clone.
#[derive(Clone)]
pub struct Backplane {
    /// Append, read and find log entries. Where a log goes on elsewhere that is read along, as long as it is there: whoever
    /// catches up waits for nothing, and is told what is missing.
    pub log: Arc<dyn Log>,
    /// The same for whoever reads history: what cannot be read now is a fault, and not the end.
    pub history: Arc<dyn Log>,
    /// Only what is kept here: for whoever looks at what is newest, and needs nothing older.
    pub kept: Arc<dyn Log>,
    /// The reactions that stand.
    pub reactions: Arc<dyn Reactions>,
    /// Conversations and their members.
    pub conversations: Arc<dyn Conversations>,
    /// Their members, where they may be many.
    pub members: Arc<dyn Members>,
    /// Conversations at a glance.
    pub overviews: Arc<dyn Overviews>,
    /// Noticing what logs lost.
    pub fences: Arc<dyn Fences>,
    /// Delivered and read cursors.
    pub cursors: Arc<dyn Cursors>,
    /// Per-user integer sequences.
    pub sequences: Arc<dyn Sequences>,
    /// Presence leases.
    pub presence: Arc<dyn Presence>,
    /// Who is present in a conversation.
    pub rooms: Arc<dyn Rooms>,
    /// Typing deadlines.
    pub typing: Arc<dyn Typing>,
    /// Rate windows.
    pub limits: Arc<dyn Limits>,
    /// Publish and subscribe.
    pub bus: Arc<dyn Bus>,
    /// Small shared values with a lifetime.
    pub shared: Arc<dyn Shared>,
    /// Which nodes there are.
    pub nodes: Arc<dyn Nodes>,
    /// What happened, for consumers outside.
    pub trail: Arc<dyn Trail>,
    /// What an acknowledgement means here.
    pub ack_level: AckLevel,
    /// And what an acknowledged message survives, in words, as far as the engine can see.
    pub survives: Arc<str>,
    /// What is counted of the servers behind it.
    pub stats: Arc<Stats>,
}
