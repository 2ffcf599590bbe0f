//! How many log lines refusals may write: a client must not be able to fill the log.
//!
//! Owns: counting. Must not know: what the lines say.

use std::sync::atomic::{AtomicU64, Ordering};

use parlance_model::Time;

/// Lines about refusals of one connection: at once, and in one second after that.
const OF_CONNECTION: (u64, u64) = (40, 5);
/// Of this node in one second.
const OF_NODE: u32 = 200;

/// Counts the lines of one connection.
#[derive(Debug, Default)]
pub struct Own {
    /// Thousandths of lines.
    used: u64,
    at: Time,
}

impl Own {
    /// Whether one more may be written now.
    pub fn takes(&mut self, now: Time) -> bool {
        let (at_once, a_second) = OF_CONNECTION;
        let passed = now.millis().saturating_sub(self.at.millis());
        let used = self.used.saturating_sub(passed.saturating_mul(a_second)) + 1_000;
        self.at = now;
        let fits = used <= at_once * 1_000;
        self.used = if fits { used } else { used - 1_000 };
        fits
    }
}

/// Counts the lines of the node.
#[derive(Debug, Default)]
pub struct Lines {
    /// The second, and the lines in it.
    window: AtomicU64,
    left_out: AtomicU64,
}

impl Lines {
    /// Whether one more may be written now, and how many were left out since the last that was; `own`: what its
    /// connection says.
    pub fn takes(&self, own: bool, now: Time) -> Option<u64> {
        let second = u32::try_from(now.millis() / 1_000).unwrap_or(u32::MAX);
        let next = |window: u64| {
            let (begun, count) = ((window >> 32) as u32, (window & u64::from(u32::MAX)) as u32);
            let count = if begun == second { count.saturating_add(1) } else { 1 };
            Some(u64::from(second) << 32 | u64::from(count))
        };
        if own {
            let before = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            let before = before.unwrap_or_else(|window| window);
            let full = (before >> 32) as u32 == second && (before & u64::from(u32::MAX)) as u32 >= OF_NODE;
            if !full {
                return Some(self.left_out.swap(0, Ordering::Relaxed));
            }
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_leaves_room_for_others() {
        let (lines, mut noisy, mut other) = (Lines::default(), Own::default(), Own::default());
        let now = Time::from_millis(5_000);
        let written = (0..1_000).filter(|_| lines.takes(noisy.takes(now), now).is_some()).count();
        assert_eq!(written, 40);
        assert_eq!(lines.takes(other.takes(now), now), Some(960), "and it is said how many are missing");
        let later = Time::from_millis(6_000);
        assert_eq!((0..1_000).filter(|_| lines.takes(noisy.takes(later), later).is_some()).count(), 5);
    }

    #[test]
    fn many_connections_together_are_bounded_too() {
        let (lines, now) = (Lines::default(), Time::from_millis(5_000));
        assert_eq!((0..1_000).filter(|_| lines.takes(true, now).is_some()).count(), 200);
        assert_eq!(lines.takes(true, Time::from_millis(6_500)), Some(800));
    }
}
