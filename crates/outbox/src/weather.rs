//! Whether what fails fails for all: maintenance that is on, an engine that is away. Pure but for waiting for one's turn.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What became of the lanes of one page, by call: one may be refused for the time being and another not.
pub struct Weather {
    storm: usize,
    most: usize,
    turns: Semaphore,
    /// Failures in front of the first success; `None`: there was one.
    calls: Mutex<FxHashMap<String, Option<usize>>>,
}

impl Weather {
    /// `storm` lanes at once until something goes, then `most`.
    pub fn new(storm: usize, most: usize) -> Self {
        Self { storm, most, turns: Semaphore::new(storm), calls: Mutex::default() }
    }

    /// Waits until a lane may begin; until what is returned is dropped it is under way.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Whether this call is not worth a try: so many have failed, and none went.
    pub fn is_storm(&self, call: &str) -> bool {
        self.calls.lock().get(call).is_some_and(|failed| failed.is_some_and(|failed| failed >= self.storm))
    }

    /// How one came out.
    pub fn came(&self, call: &str, went: bool) {
        let mut calls = self.calls.lock();
        if went && calls.values().all(Option::is_some) {
            self.turns.add_permits(self.most.saturating_sub(self.storm));
        }
        let seen = calls.entry(call.to_owned()).or_insert(Some(0));
        *seen = if went { None } else { seen.map(|failed| failed + 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_without_exception_is_tried_no_further_and_other_calls_are() {
        let weather = Weather::new(2, 5);
        weather.came("message", false);
        assert!(!weather.is_storm("message"));
        weather.came("message", false);
        assert!(weather.is_storm("message") && !weather.is_storm("revoke"));
        assert_eq!(weather.turns.available_permits(), 2);
        weather.came("revoke", true);
        weather.came("publish", true);
        assert_eq!(weather.turns.available_permits(), 5);
        weather.came("revoke", false);
        weather.came("revoke", false);
        assert!(weather.is_storm("message") && !weather.is_storm("revoke"));
        weather.came("message", true);
        assert!(!weather.is_storm("message"));
    }
}
