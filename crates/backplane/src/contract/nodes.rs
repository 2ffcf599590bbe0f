//! Which nodes there are.

use std::time::Duration;

use parlance_model::{NodeId, Time};

use super::Rig;
use crate::{Backplane, NodeState, Pass};

const TTL: Duration = Duration::from_secs(6);

fn state(id: &str, connections: u64) -> NodeState {
    NodeState {
        id: NodeId::parse(id).unwrap(),
        address: format!("{id}.example:8083"),
        pass: Pass(format!("pass of \"{id}\"")),
        version: "1.2.3".to_owned(),
        started_at: Time(1_755_633_600_123),
        connections,
        lag_ms: 7,
        draining: connections == 0,
        generation: 3,
        room: connections < 5,
    }
}

async fn live(node: &Backplane) -> Vec<NodeState> {
    node.nodes.live().await.unwrap().into_iter().map(|node| node.state).collect()
}

pub async fn beats_are_seen_by_all_and_the_last_one_counts(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    assert_eq!(live(&nodes[0]).await, []);
    nodes[1].nodes.beat(state("n2", 5), TTL).await.unwrap();
    nodes[0].nodes.beat(state("n1", 3), TTL).await.unwrap();
    nodes[1].nodes.beat(state("n2", 0), TTL).await.unwrap();
    for node in &nodes {
        assert_eq!(live(node).await, [state("n1", 3), state("n2", 0)]);
    }
    let seen = nodes[0].nodes.live().await.unwrap()[0].seen;
    assert_eq!(seen, rig.now().await);
    assert!(!format!("{:?}", state("n1", 3)).contains("pass of"), "a pass is not shown");
}

pub async fn a_silent_node_is_not_live_until_it_beats_again(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    nodes[0].nodes.beat(state("n1", 1), TTL).await.unwrap();
    nodes[1].nodes.beat(state("n2", 2), TTL * 2).await.unwrap();
    rig.advance(TTL - Duration::from_secs(1)).await;
    assert_eq!(live(&nodes[1]).await.len(), 2);
    rig.advance(Duration::from_secs(2)).await;
    assert_eq!(live(&nodes[1]).await, [state("n2", 2)]);
    // Anybody's beat may sweep; the silent one comes back with its own.
    nodes[1].nodes.beat(state("n2", 3), TTL).await.unwrap();
    nodes[0].nodes.beat(state("n1", 4), TTL).await.unwrap();
    assert_eq!(live(&nodes[0]).await, [state("n1", 4), state("n2", 3)]);
}

pub async fn a_node_that_leaves_is_gone_at_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    nodes[0].nodes.beat(state("n1", 1), TTL).await.unwrap();
    nodes[1].nodes.beat(state("n2", 2), TTL).await.unwrap();
    for _ in 0..2 {
        nodes[0].nodes.leave(&state("n1", 0).id).await.unwrap();
        assert_eq!(live(&nodes[1]).await, [state("n2", 2)]);
    }
}
