//! How many traces callers from outside may begin: whoever connects writes what it likes into `traceparent`.

use std::sync::atomic::{AtomicU64, Ordering};

use parlance_model::Time;

/// In one second, at this node.
const MOST: u32 = 100;

/// Counts them.
#[derive(Debug, Default)]
pub struct Budget {
    /// The second, and how many in it.
    window: AtomicU64,
}

impl Budget {
    /// Whether one more may begin now.
    pub fn takes(&self, now: Time) -> bool {
        let second = now.millis() / 1_000;
        let count = |window: u64| if window >> 32 == second { (window & u64::from(u32::MAX)) + 1 } else { 1 };
        let next = |window: u64| {
            let count = count(window);
            (count <= u64::from(MOST)).then_some(second << 32 | count)
        };
        self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_begin_in_a_second() {
        let budget = Budget::default();
        let begun = |ms| (0..1_000).filter(|_| budget.takes(Time::from_millis(ms))).count();
        assert_eq!((begun(5_000), begun(5_999), begun(6_000)), (100, 0, 100));
    }
}
