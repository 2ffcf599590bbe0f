//! The trail trait: what happened, kept until everybody it is for has it.
//!
//! Owns: what a consumer of events outside Parlance is promised, and how one goes about it. Must not know: who consumes them, how
//! they are sent.

mod consume;
mod pace;
mod words;

use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{ConversationId, Entry, Time, UserId};

pub use consume::{Consumer, Plan, consume};
pub use pace::{Outcome, Rules};
pub use words::{cursor, presence, read, status, status_digit, write};

use crate::{CursorChanged, Fault, PresenceChanged};

/// What of a trail is written down at all. Nothing by default: then nothing of it costs anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    /// Entries of conversations, and that a conversation was created.
    pub entries: bool,
    /// Cursors that moved.
    pub cursors: bool,
    /// Users whose presence changed.
    pub presence: bool,
    /// Connections that came and went.
    pub connections: bool,
}

impl Kinds {
    /// Everything there is.
    pub const ALL: Self = Self { entries: true, cursors: true, presence: true, connections: true };

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is of either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            entries: self.entries || other.entries,
            cursors: self.cursors || other.cursors,
            presence: self.presence || other.presence,
            connections: self.connections || other.connections,
        }
    }

    /// The letters of the words that are kept, each kind's in one place always.
    pub fn letters(self) -> String {
        let all = [(self.entries, "en"), (self.cursors, "c"), (self.presence, "p"), (self.connections, "l")];
        all.iter().filter(|(wanted, _)| *wanted).map(|(_, letters)| *letters).collect()
    }

    /// Whether something of the kind is kept.
    pub const fn has(self, what: &Happening) -> bool {
        match what {
            Happening::Entry { .. } | Happening::Created { .. } => self.entries,
            Happening::Cursor(_) => self.cursors,
            Happening::Presence(_) => self.presence,
            Happening::Connection(_) => self.connections,
        }
    }
}

/// A connection came or went: a presence lease, which the client's next connection does not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionChanged {
    /// Whose.
    pub user: UserId,
    /// Which: as the node that has it names it.
    pub connection: String,
    /// Where it is connected.
    pub mount: String,
    /// It came; or it went.
    pub on: bool,
    /// When.
    pub at: Time,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A conversation is used for the first time, or again after it was deleted. Its first entry comes next.
    Created {
        /// Which.
        conversation: ConversationId,
        /// By whom, where somebody did.
        by: Option<UserId>,
        /// When.
        at: Time,
    },
    /// An entry came into a conversation's log.
    Entry {
        /// Which conversation.
        conversation: ConversationId,
        /// The entry.
        entry: Entry,
    },
    /// A member's cursor moved.
    Cursor(CursorChanged),
    /// A user's presence changed.
    Presence(PresenceChanged),
    /// A connection came or went.
    Connection(ConnectionChanged),
}

impl Happening {
    /// When.
    pub const fn at(&self) -> Time {
        match self {
            Self::Created { at, .. } => *at,
            Self::Entry { entry, .. } => entry.at,
            Self::Cursor(changed) => changed.at,
            Self::Presence(changed) => changed.at,
            Self::Connection(changed) => changed.at,
        }
    }
}

/// One step of a trail.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its id: never used twice within an installation, and the same each time the step is taken. ASCII without spaces.
    pub id: String,
    /// Where it lies now, for the engine.
    pub place: String,
    /// How often it was taken, this time included.
    pub taken: u64,
    /// What happened; `None`: it is for another group, or cannot be read.
    pub what: Option<Happening>,
    /// A later release wrote it, or it is damaged: put aside, it can be read when there is such a release.
    pub is_unreadable: bool,
}

/// What came of taking.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// Another node has this part, for so long unless it says otherwise.
    Held(Duration),
    /// These, oldest first; none: the part is empty, and nobody's.
    Steps(Vec<Step>),
}

/// Who takes, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The consumer's name, the same at every node: `[a-z]+`.
    pub group: &'static str,
    /// Which part of the trail, below [`Trail::parts`].
    pub part: usize,
    /// For how long this node has the part then.
    pub hold: Duration,
}

/// How far behind a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Steps that it has not settled.
    pub steps: u64,
    /// Since when the oldest of them waits.
    pub since: Option<Time>,
    /// Steps that were given up and put aside.
    pub dead: u64,
    /// Steps that went although some group had not settled them: too many waited.
    pub dropped: u64,
}

/// A group that no node names for so long holds nothing back any more.
pub const ABANDONED: Duration = Duration::from_secs(24 * 3_600);

/// What happened, for consumers outside: each (a *group*, of which every node has a part) gets every step.
///
/// Guarantees: a step is written in the same atomic step as what it tells of (on the embedded engine presence and
/// connections, which live in memory, are written soon after); a step is given to a group until the group has settled it, and
/// is kept until every group that ever took anything has, as long as some node is configured for it ([`ABANDONED`]); steps of one conversation, and of one user's presence and connections, lie in one
/// part in the order they happened, and one node at a time takes from a part: at least once, in order.
#[async_trait]
pub trait Trail: Send + Sync {
    /// What is written down.
    fn kinds(&self) -> Kinds;

    /// How many parts there are.
    fn parts(&self) -> usize;

    /// The part in which a conversation's steps lie.
    fn part_of(&self, conversation: &ConversationId) -> usize;

    /// Parts in which something may wait for some group. Cheap; may name too many, never too few.
    async fn waiting(&self) -> Result<Vec<usize>, Fault>;

    /// Takes the oldest steps that the group has not settled, at most so many, again each time; the part is this node's then.
    async fn take(&self, turn: &Turn, most: usize) -> Result<Taken, Fault>;

    /// These, the oldest that were taken, need not come again. `false`: another node has the part now.
    async fn settle(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault>;

    /// As [`Trail::settle`], of what is given up: it is put aside.
    async fn bury(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault>;

    /// The oldest that were put aside in a part: at most so many.
    async fn buried(&self, group: &'static str, part: usize, most: usize) -> Result<Vec<Step>, Fault>;

    /// Has what was put aside in a part taken again, by that group, behind what waits. How many there were.
    async fn revive(&self, group: &'static str, part: usize) -> Result<u64, Fault>;

    /// How far behind the group is; what was dropped is of all groups together.
    async fn backlog(&self, group: &'static str) -> Result<Backlog, Fault>;
}
