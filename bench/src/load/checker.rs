//! What one receiver had of each sender: whether every message came, once, and in order.
//!
//! Must not know: clocks, connections.

use std::collections::BTreeSet;

/// What a message is to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next one, or one behind a gap.
    Fresh,
    /// One that should have come before: late, but not lost.
    Disordered,
    /// One that came before.
    Doubled,
}

/// What one receiver had.
#[derive(Debug, Default)]
pub struct Seen {
    senders: Vec<Sender>,
    /// Whether what comes next of one not heard before may have a gap before it.
    skips: bool,
    /// How many came again.
    pub doubled: u64,
    /// How many came behind a later one.
    pub disordered: u64,
}

#[derive(Debug)]
struct Sender {
    sender: u32,
    next: u64,
    missing: BTreeSet<u64>,
    /// Whether what comes next may have a gap before it.
    skips: bool,
}

impl Seen {
    /// One was told that what was said while one was away has to be read: it is not lost.
    pub fn skip(&mut self) {
        self.skips = true;
        self.senders.iter_mut().for_each(|sender| sender.skips = true);
    }

    /// Notes a message of `sender`.
    pub fn note(&mut self, sender: u32, number: u64) -> Verdict {
        let known = self.senders.iter().position(|known| known.sender == sender);
        let at = known.unwrap_or_else(|| {
            let skips = self.skips;
            self.senders.push(Sender { sender, next: 0, missing: BTreeSet::new(), skips });
            self.senders.len() - 1
        });
        let known = &mut self.senders[at];
        if number >= known.next {
            if !std::mem::take(&mut known.skips) {
                known.missing.extend(known.next..number);
            }
            known.next = number + 1;
            return Verdict::Fresh;
        }
        if known.missing.remove(&number) {
            self.disordered += 1;
            Verdict::Disordered
        } else {
            self.doubled += 1;
            Verdict::Doubled
        }
    }

    /// Which of the first `sent` messages of `sender` never came; those in `refused` need not have.
    pub fn lost(&self, sender: u32, sent: u64, refused: &BTreeSet<u64>) -> Vec<u64> {
        let Some(known) = self.senders.iter().find(|known| known.sender == sender) else {
            return (0..sent).filter(|number| !refused.contains(number)).collect();
        };
        let all = known.missing.iter().copied().chain(known.next..sent);
        all.filter(|number| !refused.contains(number)).collect()
    }

    /// How many came of messages that were refused: they must not have.
    #[cfg(test)]
    fn has(&self, sender: u32, number: u64) -> bool {
        self.senders
            .iter()
            .any(|known| known.sender == sender && number < known.next && !known.missing.contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Seen {
        let mut seen = Seen::default();
        for number in numbers {
            seen.note(7, *number);
        }
        seen
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let seen = seen(&[0, 1, 2]);
        assert_eq!((seen.lost(7, 3, &BTreeSet::new()).len(), seen.doubled, seen.disordered), (0, 0, 0));
    }

    #[test]
    fn gaps_and_missing_tails_are_lost() {
        let seen = seen(&[1, 2, 5]);
        assert_eq!(seen.lost(7, 8, &BTreeSet::new()), [0, 3, 4, 6, 7]);
        assert_eq!(seen.lost(7, 8, &BTreeSet::from([3, 7])), [0, 4, 6], "refused ones need not come");
        assert_eq!(seen.lost(8, 4, &BTreeSet::from([0])), [1, 2, 3], "nothing of this one came");
        assert!(seen.has(7, 5) && !seen.has(7, 3));
    }

    #[test]
    fn what_one_was_told_to_read_is_not_lost_once() {
        let mut seen = seen(&[0, 2]);
        seen.skip();
        for number in [5, 7] {
            seen.note(7, number);
        }
        seen.note(8, 3);
        assert_eq!(seen.lost(7, 8, &BTreeSet::new()), [1, 6], "not 3 and 4");
        assert_eq!(seen.lost(8, 5, &BTreeSet::new()), [4]);
    }

    #[test]
    fn repeats_are_doubled_and_late_ones_disordered() {
        let mut seen = seen(&[0, 2]);
        assert_eq!(seen.note(7, 2), Verdict::Doubled);
        assert_eq!(seen.note(7, 1), Verdict::Disordered);
        assert_eq!(seen.note(7, 1), Verdict::Doubled);
        assert_eq!(seen.note(8, 0), Verdict::Fresh, "another sender counts for itself");
        assert_eq!((seen.doubled, seen.disordered, seen.lost(7, 3, &BTreeSet::new()).len()), (2, 1, 0));
    }
}
