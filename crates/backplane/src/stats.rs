//! What an engine counts of the servers that it talks to, for whoever shows it.
//!
//! Owns: the counters, one set for each server, and how far the servers' clocks are from this node's. Must not know:
//! how anything is shown, what the servers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use parlance_model::Time;

/// Upper bounds of the buckets of [`Took`], in microseconds: from a round trip on one machine to the time a command may take.
pub const BOUNDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// Why a command had no answer that is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not sent: there was no connection, or the server is known not to answer.
    Away,
    /// The connection broke meanwhile.
    Lost,
    /// Nobody answered in time.
    Silent,
    /// The server sent it elsewhere, or cannot serve it now.
    Elsewhere,
    /// The server does not know, or does not allow, such a command.
    Forbidden,
    /// The server lacks the functions; they are loaded then.
    Functions,
    /// Anything else.
    Failed,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Away,
        Self::Lost,
        Self::Silent,
        Self::Elsewhere,
        Self::Forbidden,
        Self::Functions,
        Self::Failed,
    ];

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Elsewhere => "elsewhere",
            Self::Forbidden => "forbidden",
            Self::Functions => "functions",
            Self::Failed => "failed",
        }
    }
}

/// What a connection to a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Commands.
    Commands,
    /// Subscriptions.
    Subscriptions,
    /// What waits for replicas.
    Durable,
}

impl Wire {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Commands, Self::Subscriptions, Self::Durable];

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Subscriptions => "subscriptions",
            Self::Durable => "durable",
        }
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Took {
    /// Not cumulative; the last one is of all that took longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Took {
    /// Notes one.
    pub fn note(&self, took: Duration) {
        self.note_all(took, 1);
    }

    /// Notes so many that took as long.
    pub fn note_all(&self, took: Duration, count: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros.saturating_mul(count), Ordering::Relaxed);
    }

    /// How many took as long as each bound at most, in order, and behind them how many there were; and all their time together.
    pub fn read(&self) -> ([u64; BOUNDS.len() + 1], Duration) {
        let mut sum = 0;
        let counts = std::array::from_fn(|index| {
            sum += self.buckets.get(index).map_or(0, |bucket| bucket.load(Ordering::Relaxed));
            sum
        });
        (counts, Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

#[derive(Debug, Default)]
struct Connections {
    /// Ever made.
    made: AtomicU64,
    /// There now.
    open: AtomicU64,
}

/// One server.
#[derive(Debug, Default)]
pub struct Server {
    /// From a command being put on the connection to its answer.
    pub commands: Took,
    failures: [AtomicU64; Failure::ALL.len()],
    connections: [Connections; Wire::ALL.len()],
    /// By so many milliseconds its clock is ahead of this node's; the least there is: not known.
    ahead: AtomicAhead,
}

#[derive(Debug)]
struct AtomicAhead(AtomicI64);

impl Default for AtomicAhead {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Server {
    /// A command failed.
    pub fn failed(&self, failure: Failure) {
        self.failed_all(failure, 1);
    }

    /// So many did.
    pub fn failed_all(&self, failure: Failure, count: u64) {
        if let Some(counter) = self.failures.get(failure as usize) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many commands failed so.
    pub fn failures(&self, failure: Failure) -> u64 {
        self.failures.get(failure as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// A connection was made; it lasts as long as what is returned.
    #[must_use]
    pub fn connected(self: &Arc<Self>, wire: Wire) -> Connected {
        if let Some(connections) = self.connections.get(wire as usize) {
            connections.made.fetch_add(1, Ordering::Relaxed);
            connections.open.fetch_add(1, Ordering::Relaxed);
        }
        Connected { server: self.clone(), wire }
    }

    /// How many connections were made after the first, and how many there are; `None`: there never was any.
    pub fn connections(&self, wire: Wire) -> Option<(u64, u64)> {
        let connections = self.connections.get(wire as usize)?;
        let again = connections.made.load(Ordering::Relaxed).checked_sub(1)?;
        Some((again, connections.open.load(Ordering::Relaxed)))
    }

    /// By how many milliseconds its clock is ahead of this node's, as far as that is known.
    pub fn ahead(&self) -> Option<i64> {
        Some(self.ahead.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != i64::MIN)
    }
}

/// A connection that there is.
#[derive(Debug)]
pub struct Connected {
    server: Arc<Server>,
    wire: Wire,
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(connections) = self.server.connections.get(self.wire as usize) {
            connections.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// All servers of an engine; of one without servers, none.
#[derive(Debug, Default)]
pub struct Stats {
    servers: RwLock<BTreeMap<String, Arc<Server>>>,
    ahead: AtomicI64,
}

impl Stats {
    /// A server by its name.
    pub fn server(&self, name: &str) -> Arc<Server> {
        if let Some(server) = self.servers.read().get(name) {
            return server.clone();
        }
        self.servers.write().entry(name.to_owned()).or_default().clone()
    }

    /// Forgets the servers that are not used any more: names come and go with them.
    pub fn keep(&self, is_used: impl Fn(&str) -> bool) {
        self.servers.write().retain(|name, _| is_used(name));
    }

    /// All of them, by name.
    pub fn servers(&self) -> Vec<(String, Arc<Server>)> {
        self.servers.read().iter().map(|(name, server)| (name.clone(), server.clone())).collect()
    }

    /// A server's clock was read: it is so many milliseconds ahead of this node's.
    pub fn clock(&self, server: &Server, ahead: i64) {
        server.ahead.0.store(ahead, Ordering::Relaxed);
        let mut known: Vec<i64> = self.servers.read().values().filter_map(|server| server.ahead()).collect();
        known.sort_unstable();
        self.ahead.store(known.get(known.len() / 2).copied().unwrap_or_default(), Ordering::Relaxed);
    }

    /// What has passed between a time that an entry of a log carries and `now` by this node's clock. The entry's is of
    /// its server, so that the clocks' difference is taken out, as it was seen last (the median, where there are several
    /// servers). Never less than nothing.
    pub fn since(&self, at: Time, now: Time) -> Duration {
        let millis = |time: Time| i64::try_from(time.millis()).unwrap_or(i64::MAX);
        let passed =
            millis(now).saturating_add(self.ahead.load(Ordering::Relaxed)).saturating_sub(millis(at));
        Duration::from_millis(passed.try_into().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_cumulative_buckets() {
        let took = Took::default();
        took.note(Duration::from_micros(100));
        took.note_all(Duration::from_micros(101), 2);
        took.note(Duration::from_secs(10));
        let (counts, sum) = took.read();
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (1, 3, 3, 4));
        assert_eq!(sum, Duration::from_micros(10_000_302));
    }

    #[test]
    fn a_connection_counts_while_it_lasts_and_only_the_later_ones_are_again() {
        let stats = Stats::default();
        let server = stats.server("a");
        assert_eq!(server.connections(Wire::Commands), None);
        let first = server.connected(Wire::Commands);
        assert_eq!(stats.server("a").connections(Wire::Commands), Some((0, 1)));
        drop(first);
        let _second = server.connected(Wire::Commands);
        assert_eq!(server.connections(Wire::Commands), Some((1, 1)));
        assert_eq!(server.connections(Wire::Durable), None);
        stats.keep(|name| name != "a");
        assert!(stats.servers().is_empty());
    }

    #[test]
    fn the_difference_of_the_clocks_is_taken_out_and_time_never_runs_backwards() {
        let (stats, at) = (Stats::default(), Time::from_millis(10_000));
        let since = |now| stats.since(at, Time::from_millis(now)).as_millis();
        assert_eq!((since(10_007), since(9_000)), (7, 0));
        for (name, ahead) in [("a", 500), ("b", 502), ("c", -90_000)] {
            stats.clock(&stats.server(name), ahead);
        }
        assert_eq!(since(9_510), 10);
        assert_eq!(stats.server("c").ahead(), Some(-90_000));
    }

    #[test]
    fn words_and_places_belong_together() {
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, index, "{}", failure.as_str());
        }
        for (index, wire) in Wire::ALL.into_iter().enumerate() {
            assert_eq!(wire as usize, index, "{}", wire.as_str());
        }
    }
}
