//! Writing what was delivered, by whoever delivered it: no connection's task is woken for what its socket takes.
//!
//! Owns: how much is written where, and noting when it is. Must not know: rooms, what is written.

use std::sync::Arc;

use parlance_hub::Outbox;

use crate::metrics::Told;
use crate::node::Node;

/// Connections written to in one go: with more, others write at the same time, and what comes next need not wait.
const CHUNK: usize = 256;

/// Log entries that are being written. The last one who writes notes when that is done.
struct Round {
    node: Arc<Node>,
    told: Vec<Told>,
}

impl Drop for Round {
    fn drop(&mut self) {
        note(&self.node, &self.told);
    }
}

/// Once for each entry, not for each connection.
fn note(node: &Node, told: &[Told]) {
    node.journal.wrote(node);
    if !told.is_empty() {
        node.metrics.delivery.written(told, &node.backplane.stats, node.clock.now());
    }
}

/// Writes what was delivered since the last time.
pub(super) fn write_out(node: &Arc<Node>) {
    let mut listed = node.hub.take_listed();
    let told = node.metrics.delivery.take_told();
    if listed.len() <= CHUNK {
        write(&listed);
        return note(node, &told);
    }
    let round = Arc::new(Round { node: node.clone(), told });
    while listed.len() > CHUNK {
        let rest = listed.split_off(listed.len() - CHUNK);
        let round = round.clone();
        // An outbox is on one list at a time: there are never more of these than connections.
        node.tracker.spawn(async move {
            write(&rest);
            drop(round);
        });
    }
    write(&listed);
}

fn write(outboxes: &[Arc<Outbox>]) {
    outboxes.iter().for_each(|outbox| outbox.deliver());
}
