//! Bringing history from before the archive into it: how a node is asked to, and what it tells of that.
//!
//! Must not know: how it is done; whoever wires the archive to the node says so.

use async_trait::async_trait;
use parlance_model::{ConversationId, Time};
use serde::Serialize;
use utoipa::ToSchema;

/// Where a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BackfillState)]
pub enum State {
    /// It goes on, or waits for something that is away.
    Running,
    /// It went through everything.
    Finished,
    /// It ended before.
    Failed,
}

/// What is to be told of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub ended: Option<Time>,
    /// Conversations that it went through.
    pub conversations: u64,
    /// Entries that it wrote: they were not there before.
    pub entries: u64,
    /// Entries that are refused for their content.
    pub refused: u64,
    /// Conversations of which something could not be read or written.
    pub unreadable: u64,
    /// What it waits for, or why it failed.
    pub why: Option<String>,
}

/// Why one was not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBegun {
    /// One is under way, here or at another node.
    Taken,
    /// The archive is away.
    Away(String),
}

/// Who does it.
#[async_trait]
pub trait Backfill: Send + Sync {
    /// Begins, in the background: with these conversations, or with all.
    async fn begin(&self, only: Option<Vec<ConversationId>>) -> Result<Status, NotBegun>;

    /// The latest that this node began.
    fn latest(&self) -> Option<Status>;
}
