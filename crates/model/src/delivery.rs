//! The delivery rule: sent < delivered < read, per message and recipient, forward only.

use crate::ReceiptKind;

/// How far a message has come with one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Default)]
pub enum Delivery {
    /// In the log.
    #[default]
    Sent,
    /// On a device.
    Delivered,
    /// Seen.
    Read,
}

/// The two cursors of a member: everything up to a sequence was delivered, or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// Delivered up to here.
    pub delivered: u64,
    /// Read up to here; never beyond `delivered`.
    pub read: u64,
}

/// What a receipt moved: half-open ranges `(from, to]` of sequences that newly count as delivered or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Newly delivered.
    pub delivered: Option<(u64, u64)>,
    /// Newly read.
    pub read: Option<(u64, u64)>,
}

impl Marks {
    /// Takes a receipt up to `seq`, clamped to the log's `head`; read implies delivered. Never goes back.
    pub fn advance(&mut self, kind: ReceiptKind, seq: u64, head: u64) -> Moved {
        let seq = seq.min(head);
        let mut moved = Moved::default();
        if seq > self.delivered {
            moved.delivered = Some((self.delivered, seq));
            self.delivered = seq;
        }
        if kind == ReceiptKind::Read && seq > self.read {
            moved.read = Some((self.read, seq));
            self.read = seq;
        }
        moved
    }

    /// The state of the message at `seq` for this member.
    pub const fn state(self, seq: u64) -> Delivery {
        if seq <= self.read {
            Delivery::Read
        } else if seq <= self.delivered {
            Delivery::Delivered
        } else {
            Delivery::Sent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever receipts come in whatever order: no message goes back, read implies delivered,
        /// and the ranges told cover each sequence exactly once.
        #[test]
        fn receipts_are_monotonic(receipts in prop::collection::vec((any::<bool>(), 0u64..50), 0..60), head in 0u64..40) {
            let mut marks = Marks::default();
            let (mut told_delivered, mut told_read) = (0, 0);
            for (read, seq) in receipts {
                let before = marks;
                let kind = if read { ReceiptKind::Read } else { ReceiptKind::Delivered };
                let moved = marks.advance(kind, seq, head);
                prop_assert!(marks.read <= marks.delivered && marks.delivered <= head);
                for s in 1..=head {
                    prop_assert!(before.state(s) <= marks.state(s));
                }
                if let Some((from, to)) = moved.delivered {
                    prop_assert_eq!(from, told_delivered);
                    told_delivered = to;
                }
                if let Some((from, to)) = moved.read {
                    prop_assert_eq!(from, told_read);
                    told_read = to;
                }
            }
            prop_assert_eq!((told_delivered, told_read), (marks.delivered, marks.read));
        }
    }
}
