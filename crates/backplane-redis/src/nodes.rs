//! Which nodes there are: their last words with a lifetime, in one partition.

use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::{Fault, LiveNode, NodeState, Nodes, Pass};
use parlance_model::{NodeId, Time};
use serde::{Deserialize, Serialize};

use crate::engine::{Args, Node, millis};

/// A node's state as it is kept. Further fields of other releases are ignored.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    address: String,
    pass: String,
    version: String,
    started: u64,
    connections: u64,
    lag: u64,
    draining: bool,
    /// Of releases that have none: the first, and without room.
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    room: bool,
}

#[async_trait]
impl Nodes for Node {
    async fn beat(&self, state: NodeState, ttl: Duration) -> Result<(), Fault> {
        let id = state.id.to_string();
        let kept =
            serde_json::to_vec(&Kept::from(state)).map_err(|error| Fault::Corrupt(error.to_string()))?;
        let args = self.timed().and(millis(ttl).max(1)).and(id).bytes(kept);
        self.call("gw1_node_beat", &self.keys.nodes(), args).await.map(drop)
    }

    async fn live(&self) -> Result<Vec<LiveNode>, Fault> {
        let all = self.list("gw1_node_live", &self.keys.nodes(), self.timed()).await?;
        // Better one node less than none: what another release wrote may be unreadable.
        let read = |reply: &crate::link::Reply| {
            let read = reply.text().and_then(parse);
            read.inspect_err(|fault| tracing::warn!(%fault, "a node's state")).ok()
        };
        Ok(all.iter().filter_map(read).collect())
    }

    async fn leave(&self, id: &NodeId) -> Result<(), Fault> {
        self.call("gw1_node_leave", &self.keys.nodes(), Args::none().and(id)).await.map(drop)
    }
}

impl From<NodeState> for Kept {
    fn from(state: NodeState) -> Self {
        Self {
            id: state.id.to_string(),
            address: state.address,
            pass: state.pass.0,
            version: state.version,
            started: state.started_at.millis(),
            connections: state.connections,
            lag: state.lag_ms,
            draining: state.draining,
            generation: state.generation,
            room: state.room,
        }
    }
}

fn parse(text: &str) -> Result<LiveNode, Fault> {
    // Not the text itself: it holds a pass.
    let bad = || Fault::Corrupt("a node's state is none".to_owned());
    let (seen, state) = text.split_once(' ').ok_or_else(bad)?;
    let seen = Time(seen.parse().map_err(|_| bad())?);
    let kept: Kept = serde_json::from_str(state).map_err(|_| bad())?;
    let state = NodeState {
        id: NodeId::parse(&kept.id).map_err(|_| bad())?,
        address: kept.address,
        pass: Pass(kept.pass),
        version: kept.version,
        started_at: Time(kept.started),
        connections: kept.connections,
        lag_ms: kept.lag,
        draining: kept.draining,
        generation: kept.generation,
        room: kept.room,
    };
    Ok(LiveNode { state, seen })
}
