//! Which nodes there are, and how they are reached.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{NodeId, Time};

use crate::Fault;

/// Opens a node's door to the other nodes. Not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pass(pub String);

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Which one; new at every start.
    pub id: NodeId,
    /// Where other nodes reach its internal listener: `host:port`.
    pub address: String,
    /// What they present there.
    pub pass: Pass,
    /// Release.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Time,
    /// Authenticated connections.
    pub connections: u64,
    /// Milliseconds since its feed last came round.
    pub lag_ms: u64,
    /// It is stopping: its clients are being sent elsewhere.
    pub draining: bool,
    /// Which rollout it belongs to.
    pub generation: u64,
    /// It takes new connections, and has room for many.
    pub room: bool,
}

/// A node that was heard of lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// What it said last.
    pub state: NodeState,
    /// When it said so (engine time).
    pub seen: Time,
}

/// The nodes of the cluster.
///
/// Guarantees: a node is live from its first beat until it leaves or its last beat is older than that beat's
/// lifetime, for every node alike. Nothing is published; whoever wants to know asks.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// A node is there, and stays so for `ttl` without another beat.
    async fn beat(&self, state: NodeState, ttl: Duration) -> Result<(), Fault>;

    /// The live nodes, in the order of their ids.
    async fn live(&self) -> Result<Vec<LiveNode>, Fault>;

    /// A node is there no more. Unknown ones are fine.
    async fn leave(&self, id: &NodeId) -> Result<(), Fault>;
}
