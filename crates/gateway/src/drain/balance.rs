//! Giving clients to nodes that have fewer, where that is configured: after a scale-up nobody would come to a fresh node
//! until somebody leaves an old one.
//!
//! Owns: how many go, and who. Must not know: how they are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_backplane::NodeState;
use tokio::time::MissedTickBehavior;

use super::{Farewell, in_order, send};
use crate::node::Node;
use crate::session::Link;

/// Between two looks: long enough that those who were sent away are counted where they came.
const LOOK: Duration = Duration::from_secs(15);
/// The pace of a round.
const ROUND: Duration = Duration::from_secs(10);
/// Fewer than so many more than the mean are not worth it.
const FEW: u64 = 20;

/// The node has more than the others.
const ELSEWHERE: Farewell = Farewell { code: 1012, reason: "another server has more room; reconnect" };

/// How many of a node's clients go in one round: half of what it has beyond the mean, where that is much. Half, because the
/// others count a moment late, and nobody is to be sent to and fro.
fn surplus(own: u64, all: &[u64], percent: u32) -> u64 {
    let nodes = u64::try_from(all.len()).unwrap_or(u64::MAX);
    if nodes < 2 {
        return 0;
    }
    let mean = all.iter().sum::<u64>() / nodes;
    let tolerated = mean + (mean * u64::from(percent) / 100).max(FEW);
    if own <= tolerated { 0 } else { (own - mean) / 2 }
}

/// The clients of the nodes that clients may come to now: of this generation or a greater one.
fn counts(live: &[Arc<NodeState>], generation: u64) -> Vec<u64> {
    let takes = |state: &&Arc<NodeState>| !state.draining && state.generation >= generation;
    live.iter().filter(takes).map(|state| state.connections).collect()
}

/// Looks until the node stops.
pub(crate) async fn balance(node: Arc<Node>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.leaving.cancelled() => return,
            _ = every.tick() => {}
        }
        let drain = node.config.load().drain.clone();
        if !drain.rebalance {
            continue;
        }
        let own = node.links.len() as u64;
        let generation = node.generation.load(Ordering::Relaxed);
        let counts = counts(&node.forward.roster.all(), generation);
        let going = usize::try_from(surplus(own, &counts, drain.rebalance_percent)).unwrap_or(usize::MAX);
        if going == 0 {
            continue;
        }
        // Only those who find again what they had.
        let mut leaving: Vec<Arc<Link>> = node
            .links
            .iter()
            .filter(|link| link.is_resumable() && !link.is_busy())
            .map(|link| link.value().clone())
            .collect();
        in_order(&mut leaving);
        leaving.truncate(going);
        tracing::info!(
            own,
            nodes = counts.len(),
            going = leaving.len(),
            "others have fewer clients: some are sent there"
        );
        tokio::select! {
            () = node.leaving.cancelled() => return,
            () = send(&node, &leaving, ROUND, ELSEWHERE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_much_more_than_the_mean_goes_and_half_of_it_at_a_time() {
        for (own, others, going) in [
            (1_000, vec![], 0),
            (1_000, vec![1_000], 0),
            (1_100, vec![900], 0),
            (1_000, vec![0], 250),
            (30, vec![0], 0),
            (3_000, vec![3_000, 0], 500),
            (0, vec![3_000], 0),
        ] {
            let all: Vec<u64> = std::iter::once(own).chain(others.clone()).collect();
            assert_eq!(surplus(own, &all, 20), going, "{own} {others:?}");
        }
    }

    #[test]
    fn it_comes_to_rest_whatever_it_begins_with() {
        let mut nodes = [9_000_u64, 200, 0, 4_000];
        let mut rounds = 0;
        loop {
            let going: Vec<u64> = nodes.iter().map(|own| surplus(*own, &nodes, 20)).collect();
            let sum: u64 = going.iter().sum();
            if sum == 0 {
                break;
            }
            for (node, going) in nodes.iter_mut().zip(going) {
                *node -= going;
            }
            // Whoever leaves comes to any node, as a balancer without a memory would have it.
            for node in &mut nodes {
                *node += sum / 4;
            }
            rounds += 1;
            assert!(rounds < 20, "{nodes:?}");
        }
        let (least, most) = (nodes.iter().min().unwrap(), nodes.iter().max().unwrap());
        assert!(most - least < 2_000, "{nodes:?}");
    }
}
