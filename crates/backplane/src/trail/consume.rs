//! Consuming a trail, until it is dropped.
//!
//! Owns: which part is taken by whom and when, what is tried again, what is put aside. A part is consumed by one node at a time:
//! taken, handed over, settled; whatever fails in between comes again. Must not know: who takes the steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::pace::{Outcome, Rules, Tries};
use super::{Backlog, Step, Taken, Trail, Turn};
use crate::{Clock, Fault};

/// Between two looks for what happened.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at how much waits.
const COUNT: Duration = Duration::from_secs(10);
/// How much longer than a hand-over and a wait a part is held.
const LEEWAY: Duration = Duration::from_secs(10);

/// Who takes what happened.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Takes these, oldest first: all of them, or it is as if there were none. They may come again.
    async fn hand_over(&self, part: usize, steps: &[Step]) -> Outcome;

    /// A step was put aside.
    fn given_up(&self, step: &Step);

    /// What waits, at all nodes.
    fn waits(&self, backlog: &Backlog);
}

/// How a trail is consumed.
#[derive(Clone)]
pub struct Plan {
    /// The consumer's name, as [`Turn::group`].
    pub group: &'static str,
    /// How long a hand-over takes at most.
    pub patience: Duration,
    /// Hand-overs under way at once. Who only waits to try again is none: a part that is refused holds up no other.
    pub at_once: usize,
    /// When again, and when no more.
    pub rules: Rules,
    /// For what is given up for its age.
    pub clock: Clock,
}

/// Has what happens consumed, until it is dropped.
pub async fn consume(trail: Arc<dyn Trail>, consumer: Arc<dyn Consumer>, plan: Plan) {
    let (turns, dropped) = (Semaphore::new(plan.at_once), AtomicU64::new(0));
    Arc::new(Consuming { trail, consumer, plan, turns, dropped }).run().await;
}

struct Consuming {
    trail: Arc<dyn Trail>,
    consumer: Arc<dyn Consumer>,
    plan: Plan,
    turns: Semaphore,
    /// As it was told last.
    dropped: AtomicU64,
}

impl Consuming {
    /// Looks for parts in which something waits: each has a task of its own, and there are not more than parts.
    async fn run(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tasks, mut under_way) = (JoinSet::new(), BTreeSet::new());
        let mut counted: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                Some(ended) = tasks.join_next() => {
                    match ended {
                        Ok(part) => drop(under_way.remove(&part)),
                        // One that panicked: its part is taken up again when the hold ends.
                        Err(error) => {
                            tracing::error!(%error, group = self.plan.group, "consuming what happened");
                            tasks.abort_all();
                            under_way.clear();
                        }
                    }
                    continue;
                }
            }
            if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                counted = Some(Instant::now());
                self.count().await;
            }
            for part in self.waiting().await {
                if under_way.insert(part) {
                    let consuming = self.clone();
                    tasks.spawn(async move {
                        consuming.part(part).await;
                        part
                    });
                }
            }
        }
    }

    /// Parts with something, from anywhere on: nodes do not all begin with the same.
    async fn waiting(&self) -> Vec<usize> {
        match self.trail.waiting().await {
            Ok(mut parts) => {
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

    async fn count(&self) {
        match self.trail.backlog(self.plan.group).await {
            Ok(backlog) => {
                let before = self.dropped.swap(backlog.dropped, Ordering::Relaxed);
                if backlog.dropped > before {
                    let steps = backlog.dropped;
                    tracing::error!(
                        steps,
                        "too many steps waited: the oldest are lost to whoever had not had them"
                    );
                }
                self.consumer.waits(&backlog);
            }
            Err(fault) => tracing::debug!(%fault, "counting what waits"),
        }
    }

    fn turn(&self, part: usize, wait: Duration) -> Turn {
        Turn { group: self.plan.group, part, hold: self.plan.patience + wait + LEEWAY }
    }

    /// Consumes a part until nothing waits there, or another node has it.
    async fn part(&self, part: usize) {
        let mut tries = Tries::default();
        loop {
            tries = match self.in_turn(part, tries).await {
                Ok(Some(after)) => after,
                Ok(None) => return,
                Err(fault) => {
                    tracing::debug!(%fault, part, "what happened is not to be had; later");
                    return;
                }
            };
            let Some(wait) = tries.wait(&self.plan.rules, rand::random()) else { continue };
            // Held for the time of the wait.
            if !matches!(self.trail.take(&self.turn(part, wait), 1).await, Ok(Taken::Steps(_))) {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// [`Self::once`], one after the other where more want to.
    async fn in_turn(&self, part: usize, tries: Tries) -> Result<Option<Tries>, Fault> {
        let closed = |_| Fault::Unavailable("nothing is consumed any more".to_owned());
        let _turn = self.turns.acquire().await.map_err(closed)?;
        self.once(part, tries).await
    }

    /// Takes what comes next, hands it over and settles it; `None`: there is nothing, or another node has the part.
    async fn once(&self, part: usize, tries: Tries) -> Result<Option<Tries>, Fault> {
        let (turn, rules) = (self.turn(part, Duration::ZERO), &self.plan.rules);
        let Taken::Steps(steps) = self.trail.take(&turn, tries.together(rules)).await? else {
            return Ok(None);
        };
        let Some(first) = steps.first() else { return Ok(None) };
        if tries.is_hopeless(rules, first, (self.plan.clock)()) {
            self.consumer.given_up(first);
            let one = steps.get(..1).unwrap_or_default();
            return Ok(self.trail.bury(&turn, one).await?.then(|| tries.after(Outcome::Taken, 1)));
        }
        let outcome = self.consumer.hand_over(part, &steps).await;
        if outcome == Outcome::Taken && !self.trail.settle(&turn, &steps).await? {
            return Ok(None);
        }
        Ok(Some(tries.after(outcome, steps.len())))
    }
}
