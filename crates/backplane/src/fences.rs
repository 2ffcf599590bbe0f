//! Noticing that a log lost entries, and going on without using any place twice.
//!
//! Owns: the meaning of "lost", and what is done about it. Must not know: how a store comes to lose something.

use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{Head, LogKey, Time};

use crate::{Fault, Stored};

/// Sequences left free beyond everything the fencing node saw: others may have seen a little more. One that saw still
/// more fences again.
pub const FENCE_MARGIN: u64 = 1024;

/// What happens to a log so soon after an entry need not change its group's stamp: see [`Fences::stamps`].
pub const SOON: Duration = Duration::from_secs(1);

/// What is at a log's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing, nor was there ever anything, as far as is known here. Whoever has seen something there knows better: it was lost.
    Nothing {
        /// The epoch a log would begin in; another one than before means that what was there is lost. 0: not known.
        epoch: u32,
    },
    /// The log of a conversation that was deleted.
    Deleted(Head),
    /// The log of a conversation that was lost, with its members, and fenced: it begins again where the conversation is created again.
    Lost(Head),
    /// A log.
    Log(Head),
}

impl Place {
    /// Where a living log stands.
    pub const fn log(self) -> Option<Head> {
        if let Self::Log(head) = self { Some(head) } else { None }
    }
}

/// What a node knows of a log: up to where, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The last sequence it saw.
    pub seq: u64,
    /// That entry's time; `None`: not known.
    pub at: Option<Time>,
    /// That entry's epoch; 0: not known.
    pub epoch: u32,
    /// The log's first number; 0: not known.
    pub number: u32,
    /// The first sequence that may be another one there than the node saw.
    pub from: u64,
}

/// What came of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// What was seen is not there: it was lost. The log goes on behind the record of that.
    Begun(Stored),
    /// What was seen is there, or was trimmed in its time: nothing was lost.
    There,
    /// It was lost, and somebody fenced it already: the record of that comes after what was seen.
    Already,
}

/// Noticing that logs lost entries.
///
/// A store may lose the end of what it acknowledged, or everything. A node that delivered entries compares what it saw
/// with what is there, and fences what differs, so that no reader takes other entries for those it has and no id is used twice.
///
/// Guarantees of a fence, all in one atomic step: of nodes that saw the same, one begins it; the log goes on at a sequence
/// beyond everything that was seen and [`FENCE_MARGIN`] more, in a greater epoch, with a [`parlance_model::Record::Lost`]
/// that names what may be missing and is published like any other entry; [`Head::since`] is its sequence; versions of
/// members and cursors grow. What was not lost stays: entries, ids, client ids. A feed or channel that is not there is
/// made; so is a log for a conversation that is not there, but not the conversation: it has no members until it is created
/// again, then goes on in this log, under its number where that is free, and its members' `joined_seq` lies before the record.
/// Of a user's feed the integers of [`crate::Sequences`] go on above all earlier ones too.
#[async_trait]
pub trait Fences: Send + Sync {
    /// Where these logs stand. Those of a part of the store that is away fail alone.
    async fn heads(&self, logs: &[LogKey]) -> Vec<Result<Place, Fault>>;

    /// The group of logs that a log belongs to, for [`Self::stamps`]; `None`: there are no groups, ask about each log.
    fn group(&self, _log: &LogKey) -> Option<u32> {
        None
    }

    /// A number for each group: while it stays the same, nothing happened to any log of the group, except to one whose last
    /// entry came less than [`SOON`] before. `None`: not known.
    ///
    /// So a log of which nothing was heard for that long, or that was looked at that long after the last entry that was
    /// heard, stands where it stood as long as the number is the same.
    async fn stamps(&self, groups: &[u32]) -> Vec<Option<u64>> {
        vec![None; groups.len()]
    }

    /// Makes sure that what was seen of a log is there, or that its loss stands in it.
    async fn fence(&self, log: &LogKey, seen: Seen) -> Result<Fenced, Fault>;
}
