//! Consuming a trail, until it is dropped.
//!
//! Owns: which part is taken by whom and when, what is tried again, what is put aside. A part is consumed by one node at a time:
//! taken, handed over, settled; whatever fails in between comes again. Must not know: who takes the steps.

use std::collections::{BTreeMap, BTreeSet};
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
/// Between two looks at a part in which nothing is found.
const SELDOM: Duration = Duration::from_secs(2);
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

/// Parts in which there was nothing although something waits there: for another group, or another node has them. They are looked
/// at less and less often, up to [`SELDOM`].
#[derive(Default)]
struct Quiet(BTreeMap<usize, (Duration, Instant)>);

impl Quiet {
    fn after(&mut self, part: usize, found: bool, now: Instant) {
        if found {
            self.0.remove(&part);
            return;
        }
        let before = self.0.get(&part).map_or(LOOK / 2, |(wait, _)| *wait);
        let wait = (before * 2).min(SELDOM);
        self.0.insert(part, (wait, now + wait));
    }

    fn is_over(&self, part: usize, now: Instant) -> bool {
        self.0.get(&part).is_none_or(|(_, until)| now >= *until)
    }
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
        let (mut tasks, mut under_way, mut quiet) = (JoinSet::new(), BTreeSet::new(), Quiet::default());
        let mut counted: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                Some(ended) = tasks.join_next() => {
                    match ended {
                        Ok((part, came)) => {
                            under_way.remove(&part);
                            quiet.after(part, came, Instant::now());
                        }
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
            let now = Instant::now();
            for part in self.waiting().await {
                if quiet.is_over(part, now) && under_way.insert(part) {
                    let consuming = self.clone();
                    tasks.spawn(async move { (part, consuming.part(part).await) });
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

    /// Consumes a part until nothing waits there, or another node has it. Whether there was something.
    async fn part(&self, part: usize) -> bool {
        let (mut tries, mut found) = (Tries::default(), false);
        loop {
            tries = match self.in_turn(part, tries).await {
                Ok(Some(after)) => after,
                Ok(None) => return found,
                Err(fault) => {
                    tracing::debug!(%fault, part, "what happened is not to be had; later");
                    return found;
                }
            };
            found = true;
            let Some(wait) = tries.wait(&self.plan.rules, rand::random()) else { continue };
            // Held for the time of the wait.
            if !matches!(self.trail.take(&self.turn(part, wait), 1).await, Ok(Taken::Steps(_))) {
                return found;
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
        // No attempt makes it readable: a later release may.
        if first.is_unreadable || tries.is_hopeless(rules, first, (self.plan.clock)()) {
            self.consumer.given_up(first);
            let one = steps.get(..1).unwrap_or_default();
            return Ok(self.trail.bury(&turn, one).await?.then(|| tries.after(Outcome::Taken, 1)));
        }
        let readable = steps.iter().position(|step| step.is_unreadable).unwrap_or(steps.len());
        let steps = steps.get(..readable).unwrap_or_default();
        let outcome = self.consumer.hand_over(part, steps).await;
        if outcome == Outcome::Taken && !self.trail.settle(&turn, steps).await? {
            return Ok(None);
        }
        Ok(Some(tries.after(outcome, steps.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_in_which_nothing_is_found_is_looked_at_less_often() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        assert!(quiet.is_over(1, now));
        let mut waits = Vec::new();
        for _ in 0..6 {
            quiet.after(1, false, now);
            waits.push(quiet.0[&1].0.as_millis());
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 2_000, 2_000]);
        assert!(!quiet.is_over(1, now) && quiet.is_over(1, now + SELDOM) && quiet.is_over(2, now));
        quiet.after(1, true, now);
        assert!(quiet.is_over(1, now));
    }
}
