//! From the load to the outcome: the measured window, waiting for what is on the way, and the checker's verdict.
//!
//! Must not know: any one scenario.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::common::Stage;
use super::crowd::{Ended, Who};
use super::mouth::Spoken;
use crate::load::procfs::{Snapshot, Ticks, machine};
use crate::outcome::{Better, Checks, Join, Outcome, Server};

/// What a hypervisor may take of the time before that is worth a warning.
const STOLEN: f64 = 0.05;
/// So many of those that lack something are named.
const EXAMPLES: usize = 20;
/// How often memory and rates are sampled.
const SAMPLE: Duration = Duration::from_millis(500);

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Bytes of the texts they came in.
    pub bytes: u64,
    /// Other events.
    pub events: u64,
}

/// What was measured between two moments.
#[derive(Debug, Default)]
pub struct Window {
    /// What the watched processes used.
    pub servers: Vec<Server>,
    /// How long it was.
    pub seconds: f64,
    /// What happened in it.
    pub counted: Counted,
    /// Seconds and deliveries per second.
    pub rates: Vec<(f64, f64)>,
    /// Seconds and KiB of all watched processes.
    pub memory: Vec<(f64, f64)>,
    /// Which share of the time a hypervisor gave to others while there was something to do.
    pub stolen: f64,
}

/// One moment: where CPU time and counters stand.
pub struct Moment {
    at: Instant,
    cpu: Snapshot,
    ticks: Ticks,
    counted: Counted,
}

impl Moment {
    /// This one.
    pub fn now(stage: &mut Stage) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: stage.watcher.snapshot()?,
            ticks: Ticks::now(),
            counted: counted(stage),
        })
    }

    /// What was between this moment and now.
    pub fn until_now(&self, stage: &mut Stage) -> Result<Window> {
        let now = Self::now(stage)?;
        Ok(Window {
            servers: stage.watcher.servers(&self.cpu, &now.cpu),
            seconds: now.at.duration_since(self.at).as_secs_f64(),
            counted: now.counted.since(self.counted),
            stolen: now.ticks.stolen_since(self.ticks),
            ..Window::default()
        })
    }
}

fn counted(stage: &Stage) -> Counted {
    let counts = &stage.run.counts;
    Counted {
        sent: counts.sent.load(Relaxed),
        acked: counts.acked.load(Relaxed),
        delivered: counts.delivered.load(Relaxed),
        bytes: counts.delivered_bytes.load(Relaxed),
        events: counts.events.load(Relaxed),
    }
}

impl Counted {
    fn since(self, from: Self) -> Self {
        Self {
            sent: self.sent - from.sent,
            acked: self.acked - from.acked,
            delivered: self.delivered - from.delivered,
            bytes: self.bytes - from.bytes,
            events: self.events - from.events,
        }
    }

    const fn all(self) -> u64 {
        self.sent + self.acked + self.delivered + self.events
    }
}

/// Measures from the end of the warm-up until everything has been sent and `arrived` says that nothing is on the way
/// any more, or nothing has come for a while.
pub async fn measure(stage: &mut Stage, arrived: impl Fn(Counted) -> bool) -> Result<Window> {
    let run = stage.run.clone();
    run.until(run.warm).await;
    let (begun, from) = (Instant::now(), Moment::now(stage)?);
    let (mut rates, mut memory) = (Vec::new(), Vec::new());
    let mut last = (Instant::now(), from.counted);
    let mut moved = Instant::now();
    let patience = Duration::from_secs_f64(stage.common.patience);
    while run.now() < run.end || !arrived(counted(stage)) {
        let now = counted(stage);
        if run.now() < run.end || now.all() != last.1.all() {
            moved = Instant::now();
        } else if moved.elapsed() > patience {
            break;
        }
        if last.0.elapsed() >= SAMPLE {
            let at = begun.elapsed().as_secs_f64();
            let rate = (now.delivered - last.1.delivered) as f64 / last.0.elapsed().as_secs_f64();
            rates.push((at, rate));
            memory.push((at, stage.watcher.sample() as f64));
            let done = at / (run.end - run.warm) as f64 * 1e6;
            stage.progress.show(
                "measuring",
                done,
                &format!("{} sent, {} delivered", now.sent, now.delivered),
            );
            last = (Instant::now(), now);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.progress.clear();
    Ok(Window { rates, memory, ..from.until_now(stage)? })
}

/// Stops all tasks and takes what they had.
pub async fn stop(stage: &Stage, tasks: &mut JoinSet<Ended>) -> Result<Vec<Ended>> {
    stage.run.stop.cancel();
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        all.push(ended?);
    }
    Ok(all)
}

/// What every sender of the run sent, those of other load processes as their plan says.
pub fn spoken(ended: &[Ended], senders: usize, planned: &[u64]) -> Vec<(u64, BTreeSet<u64>)> {
    let mut all: Vec<_> =
        (0..senders).map(|sender| (planned.get(sender).copied().unwrap_or(0), BTreeSet::new())).collect();
    for one in ended {
        if let Who::Sender(sender) = one.who {
            all[sender as usize] = (one.spoken.sent, one.spoken.refused.clone());
        }
    }
    all
}

/// Compares what everybody had with what was sent. `hears` says whether one hears a sender.
pub fn check(
    stage: &Stage,
    ended: &[Ended],
    sent: &[(u64, BTreeSet<u64>)],
    hears: impl Fn(Who) -> Vec<u32>,
) -> Checks {
    let mut checks = Checks { errors: stage.run.errors(), ..Checks::default() };
    for one in ended {
        let Spoken { sent: own, unacked, .. } = &one.spoken;
        checks.sent += own;
        if *unacked > 0 {
            *checks.errors.entry("never acknowledged".to_owned()).or_default() += unacked;
        }
        checks.doubled += one.seen.doubled;
        checks.disordered += one.seen.disordered;
        for sender in hears(one.who) {
            let (count, refused) = &sent[sender as usize];
            checks.expected += count - refused.len() as u64;
            let lost = one.seen.lost(sender, *count, refused);
            checks.lost += lost.len() as u64;
            if !lost.is_empty() && checks.examples.len() < EXAMPLES {
                checks.examples.push(format!("{:?} lacks {lost:?} of {count} of sender {sender}", one.who));
            }
        }
    }
    let now = counted(stage);
    checks.acked = now.acked;
    checks.delivered = now.delivered;
    checks
}

/// An outcome with everything that does not depend on the scenario.
pub fn outcome(stage: &Stage, scenario: &str, window: &Window) -> Result<Outcome> {
    let mut outcome = Outcome::new(scenario, stage.common.target.described());
    outcome.label.clone_from(&stage.common.label);
    outcome.started = rfc3339(stage.opened);
    outcome.seconds = window.seconds;
    outcome.machine = machine();
    stage.common.settings(&mut outcome);
    for (timing, times) in stage.run.times()? {
        outcome.times(timing.name(), &times)?;
    }
    outcome.servers.clone_from(&window.servers);
    if window.stolen > STOLEN {
        outcome.warn(format!(
            "The hypervisor gave {:.0} % of the time in which there was something to do to other machines: processor \
             times and latencies are too high.",
            window.stolen * 100.0
        ));
    }
    if !window.rates.is_empty() {
        outcome.series("deliveries", "1/s", Join::Sum, window.rates.clone());
    }
    if !stage.watcher.is_empty() && !window.memory.is_empty() {
        outcome.series("memory of the servers", "KiB", Join::Max, window.memory.clone());
    }
    Ok(outcome)
}

/// The figures of scenarios that send messages.
pub fn message_figures(outcome: &mut Outcome, window: &Window) {
    let Counted { sent, acked, delivered, bytes, .. } = window.counted;
    let per_second = |count: u64| count as f64 / window.seconds.max(1e-9);
    outcome.figure("messages", sent as f64, "", Better::None, Join::Sum);
    outcome.figure("deliveries", delivered as f64, "", Better::None, Join::Sum);
    outcome.figure("messages_per_second", per_second(sent), "1/s", Better::Higher, Join::Sum);
    outcome.figure("deliveries_per_second", per_second(delivered), "1/s", Better::Higher, Join::Sum);
    outcome.figure("acks_per_second", per_second(acked), "1/s", Better::Higher, Join::Sum);
    if delivered > 0 {
        outcome.figure("bytes_per_delivery", bytes as f64 / delivered as f64, "B", Better::None, Join::Mean);
    }
    outcome.cost("cpu_us_per_delivery", "deliveries");
    outcome.cost("cpu_us_per_message", "messages");
}

fn rfc3339(micros: u64) -> String {
    jiff::Timestamp::from_microsecond(micros as i64).map(|at| at.to_string()).unwrap_or_default()
}
