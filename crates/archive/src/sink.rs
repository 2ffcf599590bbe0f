//! From the trail into PostgreSQL, until it is dropped.
//!
//! What is handed over is written in one transaction, and writing it again changes nothing. While PostgreSQL is away the part is
//! held and tried again; nothing is put aside for that. Must not know: how a trail is consumed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::trail::{Backlog, Consumer, Outcome, Plan, Rules, Step, consume};
use parlance_backplane::{Clock, Trail};
use parlance_postgres::Refused;
use tokio::time::Instant;

use crate::GROUP;
use crate::rows::Rows;
use crate::store::{Address, Store, connect};

/// Connections to PostgreSQL.
const CONNECTIONS: usize = 2;
/// How long a transaction may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How it is done.
#[derive(Clone)]
pub struct Settings {
    /// Where to.
    pub address: Address,
    /// Steps in a transaction at most.
    pub batch: usize,
    /// The time.
    pub clock: Clock,
}

/// Who counts.
pub trait Tally: Send + Sync {
    /// Something came of a batch of so many steps.
    fn came(&self, outcome: Outcome, steps: usize, took: Duration);
    /// A step was put aside.
    fn buried(&self);
    /// What waits, at all nodes.
    fn waits(&self, backlog: &Backlog);
}

/// Writes what happens, until it is dropped.
pub async fn run(trail: Arc<dyn Trail>, settings: Settings, tally: Arc<dyn Tally>) {
    let rules = Rules {
        batch: settings.batch,
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(10),
        attempts: 5,
        // Whatever is away comes back.
        give_up: None,
    };
    let Settings { address, clock, .. } = settings;
    let plan = Plan { group: GROUP, patience: PATIENCE * 2, at_once: CONNECTIONS, rules, clock };
    let sink = Sink { address, tally, stores: Mutex::default(), away: AtomicBool::new(false) };
    consume(trail, Arc::new(sink), plan).await;
}

struct Sink {
    address: Address,
    tally: Arc<dyn Tally>,
    /// Connections that nobody writes over now.
    stores: Mutex<Vec<Store>>,
    /// It was said that PostgreSQL is away.
    away: AtomicBool,
}

/// What a failure comes to.
pub const fn outcome(why: &Refused) -> Outcome {
    match why {
        Refused::Away(_) => Outcome::Away,
        Refused::Content(_) => Outcome::Refused,
    }
}

#[async_trait]
impl Consumer for Sink {
    async fn hand_over(&self, part: usize, steps: &[Step]) -> Outcome {
        let began = Instant::now();
        let outcome = match self.write(part, steps).await {
            Ok(()) => self.written(),
            Err(refused) => self.failed(&refused),
        };
        self.tally.came(outcome, steps.len(), began.elapsed());
        outcome
    }

    fn given_up(&self, step: &Step) {
        self.tally.buried();
        if step.is_unreadable {
            tracing::error!(id = step.id, "an event that this release cannot read is put aside");
        } else {
            tracing::error!(id = step.id, "PostgreSQL refuses an event for what is in it: it is put aside");
        }
    }

    fn waits(&self, backlog: &Backlog) {
        self.tally.waits(backlog);
    }
}

impl Sink {
    async fn write(&self, part: usize, steps: &[Step]) -> Result<(), Refused> {
        let rows = Rows::of(steps);
        if rows.is_empty() {
            return Ok(());
        }
        let known = self.stores.lock().pop().filter(|store| !store.is_closed());
        let mut store = match known {
            Some(store) => store,
            None => connect(&self.address, PATIENCE).await?,
        };
        let written = store.apply(&BTreeSet::from([part]), &rows, PATIENCE).await;
        // What becomes of a transaction that got no answer is not known: that connection is not used again.
        if !matches!(written, Err(Refused::Away(_))) {
            self.stores.lock().push(store);
        }
        written
    }

    fn written(&self) -> Outcome {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("PostgreSQL is back");
        }
        Outcome::Taken
    }

    fn failed(&self, why: &Refused) -> Outcome {
        let outcome = outcome(why);
        match outcome {
            Outcome::Away => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::error!(%why, "the archive cannot be written to; what happens is kept until it can");
                }
            }
            _ => tracing::warn!(%why, "PostgreSQL refuses a batch for its content"),
        }
        outcome
    }
}
