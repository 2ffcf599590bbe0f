//! Acknowledgements that survive the loss of a primary: what is promised as kept goes over a lane per primary, which
//! answers when enough replicas have it.
//!
//! Owns: which functions those are, and which lane a call takes. Must not know: what the functions do.

mod lane;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use socket::{Socket, answer};

use crate::engine::Options;
use crate::keys::slot;
use crate::library::Library;
use crate::link::{LinkFault, Reply};
use crate::topology::{Address, Topology};
use lane::{Job, Lane};

/// Functions whose answer is, or leads to, an acknowledgement: messages, reactions, posts, conversations with their
/// members and numbers, revocations and the maintenance switch; and those that find what was acknowledged, as a resend is answered from them. Receipts,
/// presence, typing, rates and integers of users are said again or made anew after a failover.
const PROMISED: [&str; 16] = [
    "gw1_append",
    "gw1_belong",
    "gw1_change",
    "gw1_claim",
    "gw1_delete",
    "gw1_enlist",
    "gw1_enlisted",
    "gw1_holds",
    "gw1_keep",
    "gw1_known",
    "gw1_next_number",
    "gw1_post",
    "gw1_react",
    "gw1_unbelong",
    "gw1_used",
    "gw1_uses",
];
/// Between two looks for a server whose place in the layout is in doubt.
const PAUSE: Duration = Duration::from_millis(50);

/// How many replicas must have what is acknowledged, and how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many.
    pub count: u32,
    /// How long.
    pub within: Duration,
}

/// What every lane needs.
pub struct Setting {
    library: Arc<Library>,
    topology: Topology,
    replicas: Replicas,
    /// How long anything may take, replicas apart.
    patience: Duration,
    /// What every key begins with.
    prefix: String,
}

impl Setting {
    /// As the options say.
    pub fn new(options: &Options, topology: &Topology, library: &Arc<Library>) -> Self {
        Self {
            library: library.clone(),
            topology: topology.clone(),
            replicas: options.replicas,
            patience: options.patience,
            prefix: options.prefix.clone(),
        }
    }
}

/// The lanes.
pub struct Durable {
    shared: Arc<Setting>,
    lanes: Mutex<FxHashMap<Address, Lane>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Durable {
    /// No lanes yet; their tasks are tracked by `tasks` and end with `stop`.
    pub fn new(setting: Setting, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { shared: Arc::new(setting), lanes: Mutex::default(), tasks, stop }
    }

    /// Whether a function's answer has to wait for replicas.
    pub fn promises(function: &str) -> bool {
        PROMISED.binary_search(&function).is_ok()
    }

    /// Calls a function; an answer means that enough replicas have whatever the primary had when it was given.
    ///
    /// # Errors
    /// As the call failed; [`LinkFault::Failed`] also when too few replicas have it, though it may be executed.
    pub async fn call(&self, function: &str, keys: &[String], args: &[&[u8]]) -> Result<Reply, LinkFault> {
        let slot = keys.first().map_or(0, |key| slot(key));
        let deadline = Instant::now() + self.shared.patience;
        let mut layouts = self.shared.topology.watch();
        loop {
            layouts.mark_unchanged();
            let fault = match self.lane(slot) {
                Some(lane) => {
                    let (answer, answered) = oneshot::channel();
                    let job = Job {
                        function: function.to_owned(),
                        keys: keys.to_vec(),
                        args: args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect(),
                        answer,
                    };
                    match self.ask(&lane, job, answered).await {
                        Err(LinkFault::Elsewhere(why)) => LinkFault::Elsewhere(why),
                        answer => return answer,
                    }
                }
                None => LinkFault::Elsewhere(format!("no primary has slot {slot}")),
            };
            // It was not executed, so it may be tried again.
            self.shared.topology.doubt();
            if Instant::now() + PAUSE > deadline {
                return Err(fault);
            }
            if let Ok(Err(_)) = tokio::time::timeout(PAUSE, layouts.changed()).await {
                // Of a standalone server there is only one layout.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn ask(
        &self,
        lane: &Lane,
        job: Job,
        answered: oneshot::Receiver<Result<Reply, LinkFault>>,
    ) -> Result<Reply, LinkFault> {
        let most = self.shared.patience + self.shared.replicas.within;
        // At once where there is room: what one caller asks at the same time keeps its order only if nothing is awaited.
        let waiting = match lane.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) => Some(job),
        };
        let asked = async {
            if let Some(job) = waiting {
                lane.send(job).await.ok()?;
            }
            answered.await.ok()
        };
        match tokio::time::timeout(most, asked).await {
            Ok(Some(answer)) => answer,
            // The lane ended: its server is no primary any more, or the engine closes.
            Ok(None) => Err(LinkFault::Failed("the connection to Redis was given up".to_owned())),
            Err(_) => Err(LinkFault::Failed("Redis does not confirm in time".to_owned())),
        }
    }

    fn lane(&self, slot: u16) -> Option<Lane> {
        let layout = self.shared.topology.layout();
        let address = layout.of_slot(slot)?;
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(address) {
            return Some(lane.clone());
        }
        // A lane ends with its last sender.
        let primaries = layout.primaries();
        lanes.retain(|address, _| primaries.contains(&address));
        let (lane, keeper) = lane::open(self.shared.clone(), address.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(keeper.run()).await });
        lanes.insert(address.clone(), lane.clone());
        Some(lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_looked_up() {
        assert!(PROMISED.is_sorted());
        assert!(PROMISED.iter().all(|function| Durable::promises(function)));
        assert!(!Durable::promises("gw1_typing"));
    }
}
