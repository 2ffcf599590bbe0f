//! The nodes, in memory: those attached to this engine.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{NodeId, Time};

use super::Node;
use crate::{Fault, LiveNode, NodeState, Nodes};

/// The nodes that beat, and until when each is live.
#[derive(Default)]
pub struct Cluster(BTreeMap<NodeId, (Time, LiveNode)>);

#[async_trait]
impl Nodes for Node {
    async fn beat(&self, state: NodeState, ttl: Duration) -> Result<(), Fault> {
        let seen = self.engine.now();
        let mut cluster = self.engine.cluster.lock();
        cluster.0.retain(|_, (until, _)| *until > seen);
        cluster.0.insert(state.id.clone(), (seen + ttl, LiveNode { state, seen }));
        Ok(())
    }

    async fn live(&self) -> Result<Vec<LiveNode>, Fault> {
        let now = self.engine.now();
        let cluster = self.engine.cluster.lock();
        Ok(cluster.0.values().filter(|(until, _)| *until > now).map(|(_, node)| node.clone()).collect())
    }

    async fn leave(&self, id: &NodeId) -> Result<(), Fault> {
        self.engine.cluster.lock().0.remove(id);
        Ok(())
    }
}
