//! From the trail into PostgreSQL, until it is dropped.
//!
//! A part is written by one node at a time: taken, written in one transaction, settled. Whatever fails in between comes again,
//! and writing it again changes nothing. While PostgreSQL is away the part is held and tried again; nothing is put aside for that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::trail::{Backlog, Step, Taken, Turn};
use parlance_backplane::{Fault, Trail};
use parlance_postgres::Refused;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::GROUP;
use crate::pace::{Outcome, Tries};
use crate::rows::Rows;
use crate::store::Store;
use crate::store::{Address, connect};

/// Connections to PostgreSQL; each has its share of the parts.
const WORKERS: usize = 2;
/// Between two looks for what happened.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at how much waits.
const COUNT: Duration = Duration::from_secs(10);
/// How long a transaction may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than that, and than a wait, a part is held.
const LEEWAY: Duration = Duration::from_secs(5);
/// Then it is another part's turn.
const IN_A_ROW: usize = 20;

/// How it is done.
#[derive(Clone)]
pub struct Settings {
    /// Where to.
    pub address: Address,
    /// Steps in a transaction at most.
    pub batch: usize,
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
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (trail, settings, tally) = (trail.clone(), settings.clone(), tally.clone());
        let worker = Worker { trail, settings, tally, number, store: None, away: false };
        workers.spawn(worker.work());
    }
    let mut counts = tokio::time::interval(COUNT);
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = counts.tick() => match trail.backlog(GROUP).await {
                Ok(backlog) => tally.waits(&backlog),
                Err(fault) => tracing::debug!(%fault, "counting what waits for the archive"),
            },
            Some(ended) = workers.join_next() => {
                // They end by a panic only: what one had taken comes again, at another node at the latest.
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the archive's sink has stopped; it starts again with the node");
                }
            }
        }
    }
}

struct Worker {
    trail: Arc<dyn Trail>,
    settings: Settings,
    tally: Arc<dyn Tally>,
    number: usize,
    store: Option<Store>,
    /// It was said that PostgreSQL is away.
    away: bool,
}

impl Worker {
    async fn work(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for part in self.waiting().await {
                self.part(part).await;
            }
        }
    }

    /// Its parts with something, from anywhere on: nodes do not all begin with the same.
    async fn waiting(&self) -> Vec<usize> {
        match self.trail.waiting().await {
            Ok(mut parts) => {
                parts.retain(|part| part % WORKERS == self.number);
                if !parts.is_empty() {
                    let from = rand::random_range(0..parts.len());
                    parts.rotate_left(from);
                }
                parts
            }
            Err(fault) => {
                tracing::debug!(%fault, "looking for what happened");
                Vec::new()
            }
        }
    }

    fn turn(part: usize, wait: Duration) -> Turn {
        Turn { group: GROUP, part, hold: PATIENCE + wait + LEEWAY }
    }

    /// Writes a part until nothing waits there, or another node has it.
    async fn part(&mut self, part: usize) {
        let (mut tries, mut in_a_row) = (Tries::default(), 0);
        while in_a_row < IN_A_ROW {
            match self.once(part, tries).await {
                Ok(Some(after)) => tries = after,
                Ok(None) => return,
                Err(fault) => {
                    tracing::debug!(%fault, part, "what happened is not to be had; later");
                    return;
                }
            }
            let Some(wait) = tries.wait(rand::random()) else {
                in_a_row += 1;
                continue;
            };
            // Held for the time of the wait.
            if !matches!(self.trail.take(&Self::turn(part, wait), 1).await, Ok(Taken::Steps(_))) {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes what comes next, writes it and settles it; `None`: there is nothing, or another node has the part.
    async fn once(&mut self, part: usize, tries: Tries) -> Result<Option<Tries>, Fault> {
        let turn = Self::turn(part, Duration::ZERO);
        let Taken::Steps(steps) = self.trail.take(&turn, tries.together(self.settings.batch)).await? else {
            return Ok(None);
        };
        let Some(first) = steps.first() else { return Ok(None) };
        if tries.is_hopeless() {
            self.tally.buried();
            tracing::error!(id = first.id, "PostgreSQL refuses an event for what is in it: it is put aside");
            let one = steps.get(..1).unwrap_or_default();
            return Ok(self.trail.bury(&turn, one).await?.then(|| tries.after(Outcome::Written, 1)));
        }
        let began = Instant::now();
        let outcome = match self.write(part, &steps).await {
            Ok(()) => Outcome::Written,
            Err(refused) => self.failed(&refused),
        };
        self.tally.came(outcome, steps.len(), began.elapsed());
        if outcome == Outcome::Written {
            if std::mem::take(&mut self.away) {
                tracing::info!("PostgreSQL is back");
            }
            if !self.trail.settle(&turn, &steps).await? {
                return Ok(None);
            }
        }
        Ok(Some(tries.after(outcome, steps.len())))
    }

    fn failed(&mut self, why: &Refused) -> Outcome {
        let outcome = Outcome::of(why);
        match outcome {
            Outcome::Away => {
                self.store = None;
                if !std::mem::replace(&mut self.away, true) {
                    tracing::error!(%why, "the archive cannot be written to; what happens is kept until it can");
                }
            }
            _ => tracing::warn!(%why, "PostgreSQL refuses a batch for its content"),
        }
        outcome
    }

    async fn write(&mut self, part: usize, steps: &[Step]) -> Result<(), Refused> {
        let rows = Rows::of(steps);
        if rows.is_empty() {
            return Ok(());
        }
        let store = match self.store.take().filter(|store| !store.is_closed()) {
            Some(store) => store,
            None => connect(&self.settings.address, PATIENCE).await?,
        };
        self.store.insert(store).apply(&BTreeSet::from([part]), &rows, PATIENCE).await
    }
}
