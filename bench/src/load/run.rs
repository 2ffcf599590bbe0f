//! One run: its id and clock, what was counted and timed, and when it stops.
//!
//! Must not know: scenarios.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::marker::{Marker, base36};

/// Enough of them that threads seldom meet at one.
const SHARDS: usize = 16;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timing {
    /// From when a message was meant to be sent until it was acknowledged.
    Ack,
    /// From when a connection was meant to be opened until it was in.
    Connect,
    /// From when a message was meant to be sent until a receiver had it.
    Delivery,
    /// From when a message was meant to be sent until its author knew that it was delivered.
    Delivered,
    /// From when a message was meant to be sent until its author knew that it was read.
    Read,
    /// From when somebody came until another heard so.
    Presence,
    /// From when typing was meant to be told until another heard of it.
    Typing,
    /// From when a connection was cut until it had everything it missed.
    Recovered,
}

impl Timing {
    /// Its name in the outcome.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Connect => "connect",
            Self::Delivery => "delivery",
            Self::Delivered => "receipt_delivered",
            Self::Read => "receipt_read",
            Self::Presence => "presence",
            Self::Typing => "typing",
            Self::Recovered => "recovered",
        }
    }
}

/// What is counted while the load is on.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: AtomicU64,
    /// Messages acknowledged.
    pub acked: AtomicU64,
    /// Deliveries that arrived, each once.
    pub delivered: AtomicU64,
    /// Bytes of the texts they came in.
    pub delivered_bytes: AtomicU64,
    /// Other events that arrived (typing, presence, receipts).
    pub events: AtomicU64,
    /// Deliveries that came again after a cut.
    pub repeated: AtomicU64,
    /// Connections that came back after a cut.
    pub returned: AtomicU64,
    /// How often the one that was cut most came back.
    pub most_returns: AtomicU64,
    /// Of those that came back, who named a session that was not gone on with: what they missed is in the history.
    pub anew: AtomicU64,
    /// Errors.
    pub errors: AtomicU64,
}

/// One run.
pub struct Run {
    /// A word that no earlier run used: names of users and conversations begin with it.
    pub id: String,
    /// Of all markers.
    pub marker: Marker,
    /// What is sent before this many microseconds does not count for times.
    pub warm: u64,
    /// When sending ends, in microseconds.
    pub end: u64,
    /// What is counted.
    pub counts: Counts,
    /// Ends every task.
    pub stop: CancellationToken,
    started: OnceLock<Instant>,
    times: Vec<Mutex<BTreeMap<Timing, Histogram<u64>>>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Run {
    /// A run that has not begun.
    pub fn new(id: &str, warmup: Duration, length: Duration) -> Self {
        Self {
            id: id.to_owned(),
            marker: Marker::new(id),
            warm: warmup.as_micros() as u64,
            end: (warmup + length).as_micros() as u64,
            counts: Counts::default(),
            stop: CancellationToken::new(),
            started: OnceLock::new(),
            times: (0..SHARDS).map(|_| Mutex::default()).collect(),
            errors: Mutex::default(),
        }
    }

    /// The clock starts: at `at`, microseconds since 1970, so that several load processes share it.
    pub fn begin(&self, at: u64) {
        let (now, epoch) = (Instant::now(), epoch_us());
        let started = if at >= epoch {
            now + Duration::from_micros(at - epoch)
        } else {
            now.checked_sub(Duration::from_micros(epoch - at)).unwrap_or(now)
        };
        let _ = self.started.set(started);
    }

    /// Microseconds since the run began; 0 before.
    pub fn now(&self) -> u64 {
        let started = self.started.get();
        started.map_or(0, |started| Instant::now().saturating_duration_since(*started).as_micros() as u64)
    }

    /// Waits until so many microseconds have passed since the run began.
    pub async fn until(&self, at: u64) {
        let now = self.now();
        // Before the beginning `now` stands still.
        let started = self.started.get().copied().unwrap_or_else(Instant::now);
        if at > now || started > Instant::now() {
            tokio::time::sleep_until((started + Duration::from_micros(at)).into()).await;
        }
    }

    /// Records the time since `intended`, unless that was in the warm-up.
    pub fn time(&self, shard: usize, timing: Timing, intended: u64) {
        if intended >= self.warm {
            self.record(shard, timing, self.now().saturating_sub(intended));
        }
    }

    /// Records a time in microseconds.
    pub fn record(&self, shard: usize, timing: Timing, micros: u64) {
        let mut times = self.times[shard % SHARDS].lock();
        if let Some(times) = times.get_mut(&timing) {
            times.saturating_record(micros.max(1));
        } else if let Ok(mut new) = histogram() {
            new.saturating_record(micros.max(1));
            times.insert(timing, new);
        }
    }

    /// How many connections came back after a cut.
    pub fn returned(&self) -> u64 {
        self.counts.returned.load(Ordering::Relaxed)
    }

    /// How often the connection that was cut most came back.
    pub fn most_returns(&self) -> u64 {
        self.counts.most_returns.load(Ordering::Relaxed)
    }

    /// How many came back and did not find their session again.
    pub fn anew(&self) -> u64 {
        self.counts.anew.load(Ordering::Relaxed)
    }

    /// How many deliveries came again after a cut.
    pub fn repeated(&self) -> u64 {
        self.counts.repeated.load(Ordering::Relaxed)
    }

    /// Counts an error of a kind.
    pub fn error(&self, kind: &str) {
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        *self.errors.lock().entry(kind.to_owned()).or_default() += 1;
    }

    /// Counts an error that ended something.
    pub fn failed(&self, what: &str, error: &anyhow::Error) {
        let root: String = error.root_cause().to_string().chars().take(100).collect();
        self.error(&format!("{what}: {root}"));
    }

    /// The errors so far.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Everything timed.
    pub fn times(&self) -> Result<BTreeMap<Timing, Histogram<u64>>> {
        let mut all = BTreeMap::new();
        for shard in &self.times {
            for (timing, times) in &*shard.lock() {
                match all.get_mut(timing) {
                    None => drop(all.insert(*timing, times.clone())),
                    Some(sum) => sum.add(times)?,
                }
            }
        }
        Ok(all)
    }
}

/// Times in microseconds: up to ten minutes, longer ones count as that.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// A word for a new run, always of eight characters. By chance and not by the clock: runs that begin at the same moment
/// (one for each dialect, say) would share users, rooms and the messages' own ids, and the server takes what the second one
/// sends for what the first one sent before.
pub fn new_id() -> String {
    const LEAST: u64 = 36u64.pow(7);
    // The system's own randomness seeds each of these.
    let random = RandomState::new().build_hasher().finish();
    base36(LEAST + random % (35 * LEAST))
}

/// Microseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the load generator is outside the gateway and has no clock of its"
)]
pub fn epoch_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn times_count_from_the_intended_moment_and_not_in_the_warm_up() {
        let run = Run::new("r", Duration::from_millis(100), Duration::from_secs(1));
        run.begin(epoch_us() - 500_000);
        run.time(0, Timing::Delivery, 99_999);
        assert!(run.times().unwrap().is_empty());
        run.time(0, Timing::Delivery, 100_000);
        run.time(1, Timing::Delivery, 300_000);
        let times = run.times().unwrap();
        let times = &times[&Timing::Delivery];
        assert_eq!(times.len(), 2);
        assert!(times.max() >= 399_000 && times.min() >= 199_000 && times.max() < 2_000_000, "{times:?}");
    }

    #[test]
    fn runs_that_begin_at_the_same_moment_have_ids_of_their_own() {
        let ids: BTreeSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 8), "{ids:?}");
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let run = Run::new("r", Duration::ZERO, Duration::ZERO);
        run.error("a");
        run.failed("connect", &anyhow::anyhow!("no").context("more"));
        run.error("a");
        assert_eq!(run.errors(), BTreeMap::from([("a".to_owned(), 2), ("connect: no".to_owned(), 1)]));
    }
}
