//! What a run found, as data: the JSON that a run writes, and that joining, comparing and the page read.
//!
//! Owns: the shape of an outcome and how a scenario fills it. Must not know: how a load is made, or how an outcome is shown.

use std::collections::BTreeMap;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod compare;
mod file;
mod join;
mod page;
mod threshold;
mod times;

pub use compare::compare;
pub use file::{read, write};
pub use join::join;
pub use page::page;
pub use threshold::Threshold;
pub use times::Times;

#[cfg(test)]
pub mod sample;

/// The version of the JSON; a reader refuses any other.
pub const VERSION: u32 = 1;

/// One run, or several that were joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`VERSION`].
    pub version: u32,
    /// The scenario's name, as on the command line.
    pub scenario: String,
    /// What the runner calls this run (`--label`); may be empty.
    pub label: String,
    /// When the run started, RFC 3339.
    pub started: String,
    /// How long was measured, without the warm-up.
    pub seconds: f64,
    /// How many load processes this is the result of.
    #[serde(default = "one")]
    pub parts: u32,
    /// What the load was put on.
    pub target: Target,
    /// The flags that make a run comparable to another.
    pub settings: BTreeMap<String, Value>,
    /// Where the load was made.
    pub machine: Machine,
    /// The figures.
    pub figures: BTreeMap<String, Figure>,
    /// The distributions of latency.
    pub times: BTreeMap<String, Times>,
    /// What was sampled over time.
    pub series: Vec<Series>,
    /// What the checker counted, over the whole run with its warm-up.
    pub checks: Checks,
    /// The watched processes.
    pub servers: Vec<Server>,
    /// What the reader should know before believing a figure.
    pub warnings: Vec<String>,
}

fn one() -> u32 {
    1
}

/// What the load was put on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `parlance`, `socketio`, `centrifugo` or `floor`.
    pub kind: String,
    /// The dialect spoken; empty for what is not Parlance.
    pub dialect: String,
    /// `websocket` or `polling`.
    pub transport: String,
    /// The addresses, as given.
    pub nodes: Vec<String>,
}

/// Where the load was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// Logical processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
}

/// One number that a run was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Its unit, for people.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// How the figures of several load processes become one.
    pub join: Join,
    /// With [`Join::Cost`] and [`Join::Memory`]: the figure that counts what is divided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// It only describes the run.
    None,
}

/// How the figures of several load processes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Counts and rates add up.
    Sum,
    /// The worst (or the most) of all.
    Max,
    /// The mean, weighted by the load processes behind each.
    Mean,
    /// The watched processes' CPU time over operations: computed again from the joined operations, because every part
    /// sees only its own operations and the servers' CPU time for all of them.
    Cost,
    /// The watched processes' growth in memory over what it was for, computed again from the joined count likewise.
    Memory,
}

/// What was sampled over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What it is, as in a chart's title.
    pub name: String,
    /// Its unit, for people.
    pub unit: String,
    /// How the series of several load processes become one.
    #[serde(default = "sum")]
    pub join: Join,
    /// Seconds since the measured window opened, and the value.
    pub points: Vec<(f64, f64)>,
}

fn sum() -> Join {
    Join::Sum
}

/// What the checker counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Deliveries that should have arrived.
    pub expected: u64,
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries that came behind a later one of the same sender.
    pub disordered: u64,
    /// Errors by their kind.
    pub errors: BTreeMap<String, u64>,
    /// Some of those who lack something, and what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// Whether a watched process is what servers share rather than one of them: its CPU time counts, its memory grows with
/// what is kept there and not with connections.
pub fn is_store(name: &str) -> bool {
    name.starts_with("redis")
}

/// A process that was watched during the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// What the runner calls it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// CPU time of all its threads over the measured window.
    pub cpu_us: u64,
    /// Resident memory before the load came.
    pub rss_kib_before: u64,
    /// The most resident memory seen.
    pub rss_kib_peak: u64,
    /// Resident memory at the end.
    pub rss_kib_after: u64,
}

impl Outcome {
    /// An empty outcome; the rest is filled in by the methods below, or set field by field.
    #[must_use]
    pub fn new(scenario: &str, target: Target) -> Self {
        Self {
            version: VERSION,
            scenario: scenario.to_owned(),
            label: String::new(),
            started: String::new(),
            seconds: 0.0,
            parts: 1,
            target,
            settings: BTreeMap::new(),
            machine: Machine::default(),
            figures: BTreeMap::new(),
            times: BTreeMap::new(),
            series: Vec::new(),
            checks: Checks::default(),
            servers: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A flag that makes this run comparable to another. All parts of one run must agree on it.
    pub fn setting(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// A number the run was made for. One that is none (nothing was done, so nothing can be divided by it) is left out,
    /// and said to be: JSON has no word for it.
    #[expect(clippy::too_many_arguments, reason = "five words that make one line of a table")]
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, better: Better, join: Join) -> &mut Self {
        if !value.is_finite() {
            return self.warn(format!("There is no figure {name}: it could not be computed."));
        }
        let figure = Figure { value, unit: unit.to_owned(), better, join, per: None };
        self.figures.insert(name.to_owned(), figure);
        self
    }

    /// CPU time of all watched processes for one of the operations that figure `operations` counts (that figure and
    /// [`Outcome::servers`] must be filled already). No figure comes of it when nothing was watched or done.
    pub fn cost(&mut self, name: &str, operations: &str) -> &mut Self {
        self.share(name, Join::Cost, operations)
    }

    /// How much the watched processes grew in memory for one of what figure `count` counts, as [`Outcome::cost`].
    pub fn memory(&mut self, name: &str, count: &str) -> &mut Self {
        self.share(name, Join::Memory, count)
    }

    fn share(&mut self, name: &str, join: Join, per: &str) -> &mut Self {
        let unit = if join == Join::Cost { "µs" } else { "KiB" };
        if let Some(value) = self.share_of(join, per) {
            self.figure(name, value, unit, Better::Lower, join);
            if let Some(figure) = self.figures.get_mut(name) {
                figure.per = Some(per.to_owned());
            }
        }
        self
    }

    /// What [`Join::Cost`] and [`Join::Memory`] come to; nothing for the others.
    #[expect(clippy::cast_precision_loss, reason = "CPU time and memory of a run fit well into 52 bits")]
    fn share_of(&self, join: Join, per: &str) -> Option<f64> {
        let count = self.figures.get(per)?.value;
        let total: f64 = match join {
            Join::Cost => self.servers.iter().map(|server| server.cpu_us as f64).sum(),
            Join::Memory => self
                .servers
                .iter()
                .filter(|server| !is_store(&server.name))
                .map(|server| server.rss_kib_after as f64 - server.rss_kib_before as f64)
                .sum(),
            Join::Sum | Join::Max | Join::Mean => return None,
        };
        (!self.servers.is_empty() && count > 0.0).then(|| total / count)
    }

    /// A distribution of latency, recorded in microseconds.
    ///
    /// # Errors
    /// When the histogram cannot be written down.
    pub fn times(&mut self, name: &str, histogram: &Histogram<u64>) -> Result<&mut Self> {
        self.times.insert(name.to_owned(), Times::of(histogram)?);
        Ok(self)
    }

    /// Something sampled over time: seconds since the measured window opened, and the value.
    pub fn series(&mut self, name: &str, unit: &str, join: Join, points: Vec<(f64, f64)>) -> &mut Self {
        self.series.push(Series { name: name.to_owned(), unit: unit.to_owned(), join, points });
        self
    }

    /// What the checker counted, added to what is there.
    pub fn check(&mut self, checks: &Checks) -> &mut Self {
        self.checks.add(checks);
        self
    }

    /// What the reader should know before believing a figure; said once.
    pub fn warn(&mut self, warning: impl Into<String>) -> &mut Self {
        let warning = warning.into();
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        self
    }
}

impl Checks {
    /// Nothing lost, doubled or disordered, and no error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.doubled == 0
            && self.disordered == 0
            && self.errors.values().all(|count| *count == 0)
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.expected += other.expected;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.examples.extend(other.examples.iter().cloned());
    }
}
