//! When memory is given back to the system: after a crowd has gone and does not come back.
//!
//! glibc's allocator keeps what is freed unless it lies at an arena's end, and what connections leave lies between what lives:
//! a node would stay as large as its largest crowd. Must not know: what a connection holds.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::start::Running;

/// How often it is looked how many connections there are.
pub const LOOK: Duration = Duration::from_secs(1);
/// Fewer that have gone are not worth it.
const WORTH: usize = 1000;
/// Who was only cut off is back after so many looks, and what the node kept open for it is closed.
const AWAY: u32 = 15;

/// Follows how many connections there are.
#[derive(Default)]
pub struct Memory {
    /// The most since memory was given back.
    peak: usize,
    /// For how many looks most of them have been away.
    away: u32,
    under_way: Option<JoinHandle<()>>,
}

impl Memory {
    /// Looks, and gives memory back where it is worth it.
    pub fn look(&mut self, running: &Running) {
        let busy = self.under_way.as_ref().is_some_and(|task| !task.is_finished());
        if busy || !self.is_due(running.connections()) {
            return;
        }
        running.forget();
        // It takes a while, and sessions must not wait for it.
        self.under_way = Some(tokio::task::spawn_blocking(parlance_heap::give_back));
    }

    /// Whether most of those that were there have gone, and long enough ago.
    fn is_due(&mut self, now: usize) -> bool {
        self.peak = self.peak.max(now);
        if self.peak - now < WORTH || now > self.peak / 2 {
            self.away = 0;
            return false;
        }
        self.away += 1;
        if self.away < AWAY {
            return false;
        }
        (self.peak, self.away) = (now, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks at which memory is given back, with each count there for so many looks.
    fn due(counts: &[(usize, usize)]) -> Vec<usize> {
        let mut memory = Memory::default();
        let looks = counts.iter().flat_map(|(now, looks)| std::iter::repeat_n(*now, *looks));
        looks.enumerate().filter(|(_, now)| memory.is_due(*now)).map(|(look, _)| look).collect()
    }

    #[test]
    fn memory_is_given_back_once_a_crowd_has_gone_and_stays_away() {
        assert_eq!(due(&[(10_000, 5), (4000, 5), (0, 100)]), [19], "once");
        assert!(due(&[(10_000, 5), (0, 14), (10_000, 5)]).is_empty(), "it came back");
        assert!(due(&[(10_000, 5), (5001, 100)]).is_empty(), "most are still there");
        assert!(due(&[(900, 5), (0, 100)]).is_empty(), "too few were there");
        assert_eq!(due(&[(10_000, 1), (4000, 20), (0, 20)]), [15, 35], "those that were left have gone too");
        assert_eq!(due(&[(2000, 1), (0, 15), (2000, 1), (0, 15)]), [15, 31]);
    }
}
