//! Metrics of the archive.

use std::time::Duration;

use parlance_backplane::trail::Backlog;
use parlance_model::Time;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registrar::{Registrar, says};

const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Metrics of the archive.
pub struct Archive {
    /// Batches by what came of them.
    pub batches: IntCounterVec,
    /// Steps that were written.
    pub steps: IntCounter,
    /// How long a batch took.
    pub seconds: Histogram,
    /// Steps put aside.
    pub dead: IntCounter,
    /// What waits, at all nodes.
    pub waiting: IntGauge,
    /// For how long the oldest of it has waited.
    pub lag: Gauge,
    /// What was put aside.
    pub aside: IntGauge,
    /// Rows that went, by table.
    pub removed: IntCounterVec,
    /// Messages that wait for it to be acknowledged.
    pub acks: Acks,
    /// What is read there.
    pub reads: Reads,
}

/// What may come of a batch.
pub(super) const OUTCOMES: [&str; 3] = ["written", "refused", "away"];

/// What may come of a read.
pub(super) const READS: [&str; 4] = ["answered", "away", "busy", "unreadable"];

impl Archive {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Archive");
        Self {
            batches: r.counters(
                "archive_batches_total",
                &["outcome"],
                says(
                    "Transactions that wrote to PostgreSQL",
                    "`away`: PostgreSQL is out of reach, full, read-only, or lacks rights; what happens is kept until it takes it. `refused`: it does not take what is in a batch, which goes one by one then.",
                ),
            ),
            steps: r.counter(
                "archive_steps_total",
                says("Steps that were written", "At most a few less than what happens: `archive.batch`."),
            ),
            seconds: r.histogram(
                "archive_seconds",
                &SECONDS,
                says("How long a transaction took", "The PostgreSQL behind `archive.url`."),
            ),
            dead: r.counter(
                "archive_given_up_total",
                says("Steps that PostgreSQL refuses for their content, put aside", "The log says why, by the step's id; `parlance archive list` shows them, `parlance archive retry` has them written again."),
            ),
            waiting: r.gauge(
                "archive_backlog_steps",
                says("Steps that are not in PostgreSQL yet, of all nodes together", "Whether PostgreSQL answers, and how fast."),
            ),
            lag: r.duration(
                "archive_lag_seconds",
                says("For how long the oldest of them has waited", "As above."),
            ),
            aside: r.gauge(
                "archive_aside_steps",
                says("Steps that lie put aside, of all nodes together", "As `parlance_archive_given_up_total`."),
            ),
            removed: r.counters(
                "archive_removed_rows_total",
                &["table"],
                says("Rows that this node removed since they are kept no longer", "As `archive.days`, `archive.deleted_days` and `archive.retention` say."),
            ),
            acks: Acks::new(r),
            reads: Reads::new(r),
        }
    }

    /// Something came of a batch.
    pub fn came(&self, outcome: &str, steps: usize, took: Duration) {
        self.batches.with_label_values(&[outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
        if outcome == "written" {
            self.steps.inc_by(steps as u64);
        }
    }

    /// What waits.
    pub fn backlog(&self, backlog: &Backlog, now: Time) {
        let count = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
        self.waiting.set(count(backlog.steps));
        self.aside.set(count(backlog.dead));
        self.lag.set(backlog.since.map_or(0.0, |since| now.since(since).as_secs_f64()));
    }
}

/// Messages that wait for the archive to be acknowledged.
pub struct Acks {
    /// Transactions that they waited for, by what came of them.
    pub batches: IntCounterVec,
    /// Messages acknowledged that way.
    pub messages: IntCounter,
    /// How long such a transaction took.
    pub seconds: Histogram,
}

impl Acks {
    fn new(r: &Registrar) -> Self {
        Self {
            batches: r.counters(
                "archive_ack_batches_total",
                &["outcome"],
                says(
                    "Transactions that messages waited for with `ack_level = \"archived\"`",
                    "`away`: PostgreSQL is out of reach, full, read-only, or lacks rights; no message is acknowledged until it takes it. `refused`: it does not take what is in one of them.",
                ),
            ),
            messages: r.counter(
                "archive_acks_total",
                says("Messages that were written to PostgreSQL before they were acknowledged", "None without `ack_level = \"archived\"`."),
            ),
            seconds: r.histogram(
                "archive_ack_seconds",
                &SECONDS,
                says("How long such a transaction took", "The PostgreSQL behind `archive.url`; part of how long an acknowledgement takes."),
            ),
        }
    }

    /// Something came of writing messages that wait to be acknowledged.
    pub fn came(&self, outcome: &str, messages: usize, took: Duration) {
        self.batches.with_label_values(&[outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
        if outcome == "written" {
            self.messages.inc_by(messages as u64);
        }
    }
}

/// What is read there.
pub struct Reads {
    /// Reads by what came of them.
    pub outcomes: IntCounterVec,
    /// How long a read took.
    pub seconds: Histogram,
}

impl Reads {
    fn new(r: &Registrar) -> Self {
        Self {
            outcomes: r.counters(
                "archive_reads_total",
                &["outcome"],
                says(
                    "Reads of what the engine has trimmed",
                    "`away`: PostgreSQL did not answer in time, or not a moment ago, and is not asked for a while; history is refused then, and who catches up is told of a gap. `busy`: the same, since too many read at once: `archive.read_connections`. `unreadable`: the log says what.",
                ),
            ),
            seconds: r.histogram(
                "archive_read_seconds",
                &SECONDS,
                says("How long such a read took, with the wait for a connection", "The PostgreSQL behind `archive.url`, `archive.read_connections`."),
            ),
        }
    }

    /// Something came of a read.
    pub fn came(&self, outcome: &str, took: Duration) {
        self.outcomes.with_label_values(&[outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
