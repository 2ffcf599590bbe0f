//! Nodes that were there and are not any more: their notes are gone with them, and whoever asks is to be told so.
//!
//! Owns: when each was seen last. Must not know: why it went.

use parking_lot::Mutex;
use parlance_backplane::LiveNode;
use parlance_model::{NodeId, Time};

/// Nodes remembered; of more the longest gone are forgotten.
const MOST: usize = 512;

/// A node that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub id: NodeId,
    pub address: String,
    pub version: String,
    pub started: Time,
    pub last: Time,
    /// It was stopping: it ended in good order.
    pub leaving: bool,
}

/// The nodes that were seen, in no order.
#[derive(Default)]
pub(super) struct Gone(Mutex<Vec<Seen>>);

impl Gone {
    pub fn saw(&self, own: &NodeId, live: &[LiveNode], now: Time) {
        let mut seen = self.0.lock();
        for LiveNode { state, .. } in live.iter().filter(|node| node.state.id != *own) {
            let leaving = state.draining;
            match seen.iter_mut().find(|seen| seen.id == state.id) {
                Some(known) => (known.last, known.leaving) = (now, leaving),
                None => seen.push(Seen {
                    id: state.id.clone(),
                    address: state.address.clone(),
                    version: state.version.clone(),
                    started: state.started_at,
                    last: now,
                    leaving,
                }),
            }
        }
        while seen.len() > MOST
            && let Some(oldest) = (0..seen.len()).min_by_key(|at| seen.get(*at).map(|seen| seen.last))
        {
            seen.swap_remove(oldest);
        }
    }

    /// Those that were there, but not these.
    pub fn but(&self, there: &[NodeId]) -> Vec<Seen> {
        self.0.lock().iter().filter(|seen| !there.contains(&seen.id)).cloned().collect()
    }
}
