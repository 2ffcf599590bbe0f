//! Exact sliding rate windows, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{Time, UserId};

use super::Node;
use crate::{Fault, Limits, Rule, Verdict};

/// Below this many windows nothing is tidied.
const FEW: usize = 1024;

/// All windows.
#[derive(Default)]
pub struct Windows {
    all: HashMap<(UserId, Arc<str>), Window>,
    stamp: u64,
    tidy_at: usize,
}

struct Window {
    /// What was counted: when, and its stamp; oldest first, at most the rule's limit.
    taken: VecDeque<(Time, u64)>,
    ends: Time,
}

impl Windows {
    fn take(&mut self, user: &UserId, rule: &Rule, now: Time) -> Verdict {
        self.tidy(now);
        self.stamp += 1;
        let (stamp, limit) = (self.stamp, rule.limit as usize);
        let key = (user.clone(), rule.name.clone());
        let window = self.all.entry(key).or_insert_with(|| Window { taken: VecDeque::new(), ends: now });
        while window.taken.front().is_some_and(|(at, _)| *at + rule.window <= now) {
            window.taken.pop_front();
        }
        let Some(free) = limit.checked_sub(window.taken.len()).filter(|free| *free > 0) else {
            // A limit that was lowered needs more than one entry to leave.
            let blocking = window.taken.len().checked_sub(limit).and_then(|index| window.taken.get(index));
            let reset = blocking.map_or(now, |(at, _)| *at) + rule.window;
            return Verdict { allowed: false, remaining: 0, reset, stamp: 0 };
        };
        window.taken.push_back((now, stamp));
        window.ends = now + rule.window;
        let remaining = u32::try_from(free - 1).unwrap_or(u32::MAX);
        Verdict { allowed: true, remaining, reset: window.ends, stamp }
    }

    fn give_back(&mut self, user: &UserId, rule: &Rule, stamp: u64) {
        if let Some(window) = self.all.get_mut(&(user.clone(), rule.name.clone())) {
            window.taken.retain(|(_, taken)| *taken != stamp);
        }
    }

    fn happened(&mut self, user: &UserId, rule: &Rule, stamp: u64, at: Time) {
        self.give_back(user, rule, stamp);
        let key = (user.clone(), rule.name.clone());
        let window = self.all.entry(key).or_insert_with(|| Window { taken: VecDeque::new(), ends: at });
        let place = window.taken.partition_point(|(taken, _)| *taken <= at);
        window.taken.insert(place, (at, stamp));
        window.ends = window.ends.max(at + rule.window);
    }

    /// Drops the windows of idle users, whenever their number has doubled: constant cost per take.
    fn tidy(&mut self, now: Time) {
        if self.all.len() >= self.tidy_at.max(FEW) {
            self.drop_idle(now);
            self.tidy_at = self.all.len() * 2;
        }
    }

    /// Drops the windows of idle users.
    pub fn drop_idle(&mut self, now: Time) {
        self.all.retain(|_, window| window.ends > now);
        if self.all.capacity() > 4 * self.all.len().max(FEW) {
            self.all.shrink_to_fit();
        }
    }
}

#[async_trait]
impl Limits for Node {
    async fn take(&self, user: &UserId, rule: &Rule) -> Result<Verdict, Fault> {
        // The clock is read under the lock: entries are in the order of their times.
        let mut windows = self.engine.windows.lock();
        Ok(windows.take(user, rule, self.engine.now()))
    }

    async fn give_back(&self, user: &UserId, rule: &Rule, stamp: u64) -> Result<(), Fault> {
        self.engine.windows.lock().give_back(user, rule, stamp);
        Ok(())
    }

    async fn happened(&self, user: &UserId, rule: &Rule, stamp: u64, at: Time) -> Result<(), Fault> {
        self.engine.windows.lock().happened(user, rule, stamp, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn windows_of_idle_users_are_dropped() {
        let rule = Rule { name: "r".into(), limit: 3, window: Duration::from_secs(10) };
        let mut windows = Windows::default();
        for second in 0..100_000u64 {
            let user = UserId::parse(&format!("u{second}")).unwrap();
            windows.take(&user, &rule, Time(second * 1000));
        }
        assert!(windows.all.len() <= 2 * FEW, "{}", windows.all.len());
    }
}
