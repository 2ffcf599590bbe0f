//! When what is sent: an open loop, whose times do not depend on what the server does. Latency counts from the time a
//! message was meant to be sent, so that a server that stalls is seen in the times (no coordinated omission).
//!
//! Must not know: what is sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::run::Run;

/// What may wait for one sender's task.
pub const QUEUE: usize = 1 << 14;

/// A message that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When it was meant to be sent: microseconds since the run began.
    pub intended: u64,
}

/// An open loop: messages of all senders in turn, at even distances or at random ones.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Messages per second over all senders.
    pub rate: f64,
    /// How many senders there are, in all load processes.
    pub senders: usize,
    /// How long messages are sent.
    pub length: Duration,
    /// Random distances (exponential, as of independent users) from this seed; even ones when `None`.
    pub seed: Option<u64>,
}

impl Plan {
    /// Every message: the sender's number and when, in microseconds.
    pub fn messages(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let Self { rate, senders, length, seed } = self.clone();
        let end = length.as_micros() as u64;
        let mut random = seed.map(Random);
        let mut at = 0.0;
        (0u64..)
            .map(move |number| {
                let due = match &mut random {
                    None => number as f64 * 1e6 / rate,
                    Some(random) => {
                        at += -random.unit().ln() * 1e6 / rate;
                        at
                    }
                };
                ((number % senders as u64) as usize, due as u64)
            })
            .take_while(move |(_, due)| *due < end)
    }

    /// How many messages each sender sends.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.senders];
        for (sender, _) in self.messages() {
            counts[sender] += 1;
        }
        counts
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One in (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

/// Hands each message to its sender when it is due: on a thread of its own, because the runtime's timers are a
/// millisecond wide. `queues` has `None` for senders of other load processes.
pub fn pace(run: Arc<Run>, plan: Plan, queues: Vec<Option<mpsc::Sender<Due>>>) -> Result<()> {
    let work = move || {
        for (sender, intended) in plan.messages() {
            let Some(Some(queue)) = queues.get(sender) else { continue };
            let now = run.now();
            if intended > now {
                std::thread::sleep(Duration::from_micros(intended - now));
            }
            if run.stop.is_cancelled() {
                break;
            }
            // A sender whose task is gone has said why.
            let _ = queue.blocking_send(Due { intended });
        }
    };
    std::thread::Builder::new().name("schedule".to_owned()).spawn(work).context("no thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: Option<u64>) -> Plan {
        Plan { rate: 1000.0, senders: 3, length: Duration::from_secs(2), seed }
    }

    #[test]
    fn even_distances_and_senders_in_turn() {
        let all: Vec<_> = plan(None).messages().collect();
        assert_eq!(all.len(), 2000);
        assert_eq!(all[..4], [(0, 0), (1, 1000), (2, 2000), (0, 3000)]);
        assert_eq!(plan(None).counts(), [667, 667, 666]);
    }

    #[test]
    fn random_distances_are_the_same_for_a_seed_and_right_on_average() {
        let all: Vec<_> = plan(Some(1)).messages().collect();
        assert_eq!(all, plan(Some(1)).messages().collect::<Vec<_>>());
        assert_ne!(all, plan(Some(2)).messages().collect::<Vec<_>>());
        assert!((1800..2200).contains(&all.len()), "{}", all.len());
        assert!(all.is_sorted_by_key(|(_, due)| *due));
    }
}
