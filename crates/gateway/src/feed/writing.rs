//! Writing what was delivered, by whoever delivered it: no connection's task is woken for what its socket takes.
//!
//! Owns: how much is written where. Must not know: rooms, what is written.

use std::sync::Arc;

use parlance_hub::Outbox;

use crate::node::Node;

/// Connections written to in one go: with more, others write at the same time, and what comes next need not wait.
const CHUNK: usize = 256;

/// Writes what was delivered since the last time.
pub(super) fn write_out(node: &Node) {
    let mut listed = node.hub.take_listed();
    while listed.len() > CHUNK {
        let rest = listed.split_off(listed.len() - CHUNK);
        // An outbox is on one list at a time: there are never more of these than connections.
        node.tracker.spawn(async move { write(&rest) });
    }
    write(&listed);
}

fn write(outboxes: &[Arc<Outbox>]) {
    outboxes.iter().for_each(|outbox| outbox.deliver());
}
