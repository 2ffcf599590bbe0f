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
}

impl Seen {
    /// Notes a message of `sender`.
    pub fn note(&mut self, sender: u32, number: u64) -> Verdict {
        let known = self.senders.iter().position(|known| known.sender == sender);
        let at = known.unwrap_or_else(|| {
            self.senders.push(Sender { sender, next: 0, missing: BTreeSet::new() });
            self.senders.len() - 1
        });
        let known = &mut self.senders[at];
        if number >= known.next {
            known.missing.extend(known.next..number);
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

    /// How many of the first `sent` messages of `sender` never came; those in `refused` need not have.
    pub fn lost(&self, sender: u32, sent: u64, refused: &BTreeSet<u64>) -> u64 {
        let Some(known) = self.senders.iter().find(|known| known.sender == sender) else {
            return sent.saturating_sub(refused.len() as u64);
        };
        let tail = (known.next..sent).filter(|number| !refused.contains(number)).count();
        let gaps = known.missing.iter().filter(|number| !refused.contains(number)).count();
        (tail + gaps) as u64
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
        assert_eq!((seen.lost(7, 3, &BTreeSet::new()), seen.doubled, seen.disordered), (0, 0, 0));
    }

    #[test]
    fn gaps_and_missing_tails_are_lost() {
        let seen = seen(&[1, 2, 5]);
        assert_eq!(seen.lost(7, 8, &BTreeSet::new()), 5, "0, 3, 4, 6, 7");
        assert_eq!(seen.lost(7, 8, &BTreeSet::from([3, 7])), 3, "refused ones need not come");
        assert_eq!(seen.lost(8, 4, &BTreeSet::from([0])), 3, "nothing of this one came");
        assert!(seen.has(7, 5) && !seen.has(7, 3));
    }

    #[test]
    fn repeats_are_doubled_and_late_ones_disordered() {
        let mut seen = seen(&[0, 2]);
        assert_eq!(seen.note(7, 2), Verdict::Doubled);
        assert_eq!(seen.note(7, 1), Verdict::Disordered);
        assert_eq!(seen.note(7, 1), Verdict::Doubled);
        assert_eq!(seen.note(8, 0), Verdict::Fresh, "another sender counts for itself");
        assert_eq!((seen.doubled, seen.disordered, seen.lost(7, 3, &BTreeSet::new())), (2, 1, 0));
    }
}
