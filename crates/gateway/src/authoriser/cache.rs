//! Decisions that are remembered for a while, so many and no more: what was asked for longest ago goes first.
//!
//! Pure: the time is passed in. Must not know: what a question says.

use std::collections::{BTreeMap, HashMap};

use parlance_model::Time;

use super::question::Decision;

/// Names a question: its hash. Cryptographic on purpose: clients choose parts of it, and with a fast hash somebody could
/// make one that meets another's answer.
pub(super) type Slot = [u8; 32];

struct Kept {
    decision: Decision,
    until: Time,
    /// When it was used last, in uses.
    used: u64,
}

/// See the module.
pub(super) struct Cache {
    most: usize,
    by_slot: HashMap<Slot, Kept>,
    /// By last use; exactly the keys of `by_slot`.
    order: BTreeMap<u64, Slot>,
    uses: u64,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_slot: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    /// What was decided, while that holds.
    pub(super) fn get(&mut self, slot: &Slot, now: Time) -> Option<Decision> {
        let kept = self.by_slot.get_mut(slot)?;
        self.order.remove(&kept.used);
        if now >= kept.until {
            self.by_slot.remove(slot);
            return None;
        }
        self.uses += 1;
        kept.used = self.uses;
        self.order.insert(self.uses, *slot);
        Some(kept.decision.clone())
    }

    /// Remembers a decision until then; one that holds no longer than now is not worth a place.
    pub(super) fn put(&mut self, slot: Slot, decision: Decision, (now, until): (Time, Time)) {
        if let Some(before) = self.by_slot.remove(&slot) {
            self.order.remove(&before.used);
        }
        if until <= now || self.most == 0 {
            return;
        }
        while self.by_slot.len() >= self.most {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.by_slot.remove(&oldest);
        }
        self.uses += 1;
        self.by_slot.insert(slot, Kept { decision, until, used: self.uses });
        self.order.insert(self.uses, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn slot(n: u8) -> Slot {
        [n; 32]
    }

    fn is_consistent(cache: &Cache) -> bool {
        let same = cache
            .order
            .iter()
            .all(|(used, slot)| cache.by_slot.get(slot).is_some_and(|kept| kept.used == *used));
        same && cache.order.len() == cache.by_slot.len()
    }

    #[test]
    fn a_decision_holds_until_its_end() {
        let mut cache = Cache::new(10);
        cache.put(slot(1), Decision::Allowed, (at(0), at(100)));
        cache.put(slot(2), Decision::Denied(Some("no".into())), (at(0), at(50)));
        assert_eq!(cache.get(&slot(2), at(49)), Some(Decision::Denied(Some("no".into()))));
        assert_eq!(cache.get(&slot(2), at(50)), None);
        assert_eq!(cache.get(&slot(1), at(99)), Some(Decision::Allowed));
        assert_eq!(cache.get(&slot(1), at(100)), None);
        assert!(cache.by_slot.is_empty() && cache.order.is_empty(), "nothing is left of them");
    }

    #[test]
    fn the_newest_word_counts_also_when_it_is_not_to_be_kept() {
        let mut cache = Cache::new(10);
        cache.put(slot(1), Decision::Allowed, (at(0), at(100)));
        cache.put(slot(1), Decision::Denied(None), (at(1), at(100)));
        assert_eq!(cache.get(&slot(1), at(2)), Some(Decision::Denied(None)));
        cache.put(slot(1), Decision::Allowed, (at(3), at(3)));
        assert_eq!(cache.get(&slot(1), at(3)), None);
        assert!(is_consistent(&cache));
    }

    #[test]
    fn it_is_bounded_and_what_is_not_asked_for_goes_first() {
        let mut cache = Cache::new(3);
        for n in 1..=3 {
            cache.put(slot(n), Decision::Allowed, (at(0), at(100)));
        }
        assert!(cache.get(&slot(1), at(1)).is_some());
        cache.put(slot(4), Decision::Allowed, (at(2), at(100)));
        let there: Vec<u8> = (1..=4).filter(|n| cache.get(&slot(*n), at(3)).is_some()).collect();
        assert_eq!(there, [1, 3, 4]);
        assert!(is_consistent(&cache));
        let mut none = Cache::new(0);
        none.put(slot(1), Decision::Allowed, (at(0), at(100)));
        assert_eq!(none.get(&slot(1), at(1)), None);
    }
}
