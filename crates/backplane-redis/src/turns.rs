//! Whose turn it is to sweep which partition, and when: shared out over the live nodes without a leader. Pure.
//!
//! For each partition every node ranks the live nodes in the same way. The first one sweeps it whenever something may
//! be due; the second one often enough that the first one's end is not taken for a silence of the whole cluster, which
//! would put off the ends of leases; all others now and then, should the lists of nodes differ.
//! Must not know: what a sweep does.

use std::time::Duration;

use parlance_model::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use crate::keys::PARTITIONS;

/// Below the silence that a sweep takes for a fault, by more than a sweeper's pause.
const DEPUTY: u64 = 2_000;
const FALLBACK: u64 = 10_000;
/// What is not due yet is looked at this often: leases and typists may have come meanwhile.
const LOOK: u64 = 2_000;

/// One node's plan. Times are milliseconds since any fixed moment.
pub struct Turns {
    me: NodeId,
    /// Nothing that comes meanwhile is due before this.
    least: u64,
    nodes: Vec<NodeId>,
    /// How many nodes come before this one.
    ranks: Vec<usize>,
    /// When each partition is looked at next.
    next: Vec<u64>,
}

impl Turns {
    /// A node that knows of no other yet. `typing_ttl`: the shortest deadline there is.
    pub fn new(me: NodeId, typing_ttl: Duration) -> Self {
        let least = u64::try_from(typing_ttl.as_millis()).unwrap_or(u64::MAX);
        let mut turns = Self { me, least, nodes: Vec::new(), ranks: Vec::new(), next: vec![0; PARTITIONS] };
        turns.among(Vec::new(), 0);
        turns
    }

    /// These nodes are live.
    pub fn among(&mut self, mut nodes: Vec<NodeId>, now: u64) {
        if !nodes.contains(&self.me) {
            nodes.push(self.me.clone());
        }
        nodes.sort();
        if nodes == self.nodes {
            return;
        }
        let ranks: Vec<usize> = (0..PARTITIONS).map(|partition| rank(&nodes, &self.me, partition)).collect();
        for (partition, (next, rank)) in self.next.iter_mut().zip(&ranks).enumerate() {
            let before = self.ranks.get(partition).copied().unwrap_or(usize::MAX);
            *next = match rank {
                _ if *rank == before => *next,
                0 => now,
                1 => (*next).min(now + DEPUTY),
                // Not all at once.
                _ => now + FALLBACK * (partition as u64 + 1) / PARTITIONS as u64,
            };
        }
        (self.nodes, self.ranks) = (nodes, ranks);
    }

    /// The partitions to be swept now.
    pub fn due(&self, now: u64) -> Vec<usize> {
        self.next.iter().enumerate().filter(|(_, at)| **at <= now).map(|(partition, _)| partition).collect()
    }

    /// The partitions for which this node comes first.
    pub fn own(&self) -> Vec<usize> {
        self.ranks
            .iter()
            .enumerate()
            .filter(|(_, rank)| **rank == 0)
            .map(|(partition, _)| partition)
            .collect()
    }

    /// A partition was swept; `idle`: in so many milliseconds something is due there, `None`: it is empty.
    pub fn swept(&mut self, partition: usize, now: u64, idle: Option<u64>) {
        let wait = match self.ranks.get(partition) {
            Some(0) => idle.unwrap_or(LOOK).min(LOOK.min(self.least / 2)),
            Some(1) => DEPUTY,
            _ => FALLBACK,
        };
        if let Some(next) = self.next.get_mut(partition) {
            *next = now + wait;
        }
    }
}

/// How many nodes have more weight for a partition: by the same order everywhere, whoever else there is.
fn rank(nodes: &[NodeId], me: &NodeId, partition: usize) -> usize {
    let weight = |node: &NodeId| xxh3_64(format!("{node}/{partition}").as_bytes());
    let own = weight(me);
    nodes.iter().filter(|node| weight(node) > own).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::parse(&format!("node-{number}")).unwrap()
    }

    fn plan(me: usize, of: usize) -> Turns {
        let mut turns = Turns::new(node(me), Duration::from_secs(4));
        turns.among((0..of).map(node).collect(), 0);
        turns
    }

    fn first(turns: &Turns, rank: usize) -> Vec<usize> {
        (0..PARTITIONS).filter(|partition| turns.ranks[*partition] == rank).collect()
    }

    #[test]
    fn every_partition_has_one_sweeper_and_one_deputy() {
        let plans: Vec<Turns> = (0..3).map(|me| plan(me, 3)).collect();
        for rank in 0..3 {
            let mut all: Vec<usize> = plans.iter().flat_map(|plan| first(plan, rank)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..PARTITIONS).collect::<Vec<_>>());
            assert!(plans.iter().all(|plan| first(plan, rank).len() > PARTITIONS / 6), "about a third each");
        }
    }

    #[test]
    fn a_node_that_goes_leaves_its_partitions_to_their_deputies() {
        let (gone, mut stays) = (plan(2, 3), plan(1, 3));
        let deputy = first(&stays, 1);
        let orphans: Vec<usize> = first(&gone, 0).into_iter().filter(|it| deputy.contains(it)).collect();
        stays.among(vec![node(0), node(1)], 100);
        assert!(orphans.iter().all(|it| stays.ranks[*it] == 0 && stays.due(100).contains(it)));
        assert!(!orphans.is_empty());
    }

    #[test]
    fn a_partition_is_looked_at_when_something_is_due_and_before_silence_is_noticed() {
        let mut alone = plan(0, 1);
        assert_eq!(alone.due(0).len(), PARTITIONS);
        alone.swept(7, 0, None);
        alone.swept(8, 0, Some(300));
        alone.swept(9, 0, Some(60_000));
        for (now, expected) in [(299, vec![]), (300, vec![8]), (1_999, vec![8]), (2_000, vec![7, 8, 9])] {
            let due: Vec<usize> = alone.due(now).into_iter().filter(|it| [7, 8, 9].contains(it)).collect();
            assert_eq!(due, expected, "at {now}");
        }
    }

    #[test]
    fn any_node_looks_at_any_partition_now_and_then() {
        let mut third = plan(0, 3);
        let mut looked = vec![0; PARTITIONS];
        for now in (0..20_000).step_by(500) {
            for partition in third.due(now) {
                looked[partition] += 1;
                third.swept(partition, now, None);
            }
        }
        let last = first(&third, 2);
        assert!(last.iter().all(|it| (1..=3).contains(&looked[*it])), "{looked:?}");
        assert!(first(&third, 1).iter().all(|it| (8..=11).contains(&looked[*it])), "{looked:?}");
    }
}
