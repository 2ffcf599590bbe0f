//! Receipts of one connection in order: what is told again at a (re)connect comes before what is heard live, and
//! nothing is told that lies behind what was told already.
//!
//! Owns: holding live receipts back meanwhile, and how far each recipient was told. Must not know: where receipts
//! come from.

use parlance_model::{ConversationId, MessageId, MessageReceipt, ReceiptKind, UserId};
use parlance_wire::Encoded;
use rustc_hash::FxHashMap;

/// More live receipts than this waiting for those that are told again: the client does not read.
const MAX_HELD: usize = 4096;

/// What becomes of a receipt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is told now.
    Tell,
    /// It waits for those before it, or was told already.
    Keep,
    /// Too many wait.
    Overflow,
}

/// Who tells a conversation's receipts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Whoever joins everything that the user is in, from where the user was: it owes more than the other.
    Attach,
    /// Whoever joins what the user has just come into, from there on.
    Invitation,
}

/// Whether somebody may tell a conversation's receipts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Yes; live ones wait from now on.
    First,
    /// Yes; live ones wait since an earlier attempt, which broke off.
    Again,
    /// No: an invitation does, at this moment.
    Elsewhere,
    /// No: attaching does, now or at its next attempt.
    Attaching,
}

/// The receipts of a connection, by conversation; empty unless something is, or was, told again.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    conversations: FxHashMap<ConversationId, Catching>,
    held: usize,
}

#[derive(Debug, Default)]
struct Catching {
    /// Live receipts wait.
    holds: bool,
    /// Somebody is telling.
    taken: bool,
    /// It is attaching's to tell.
    attaching: bool,
    waiting: Vec<(MessageReceipt, Encoded)>,
    /// Up to which message each recipient's receipts were told again. What is heard live may be behind it for a
    /// moment; with the first that is beyond, the mark has served.
    told: FxHashMap<UserId, Told>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Told {
    delivered: Option<MessageId>,
    read: Option<MessageId>,
}

impl Told {
    fn covers(self, receipt: &MessageReceipt) -> bool {
        let reached = |mark: Option<MessageId>| mark.is_some_and(|mark| reaches(mark, receipt.message.id));
        match receipt.kind {
            ReceiptKind::Delivered => reached(self.delivered) || reached(self.read),
            ReceiptKind::Read => reached(self.read),
        }
    }

    const fn mark(&mut self, kind: ReceiptKind) -> &mut Option<MessageId> {
        match kind {
            ReceiptKind::Delivered => &mut self.delivered,
            ReceiptKind::Read => &mut self.read,
        }
    }
}

/// Whether a message is not newer. Of another block of the log, nothing is known.
const fn reaches(mark: MessageId, id: MessageId) -> bool {
    mark.number() == id.number() && id.offset() <= mark.offset()
}

impl Receipts {
    /// From now on, live receipts of a conversation wait, for whoever is the first to ask for that.
    pub(crate) fn hold(&mut self, id: ConversationId, teller: Teller) -> Hold {
        let catching = self.conversations.entry(id).or_default();
        if catching.attaching && (catching.taken || teller == Teller::Invitation) {
            return Hold::Attaching;
        }
        if std::mem::replace(&mut catching.taken, true) {
            return Hold::Elsewhere;
        }
        catching.attaching = teller == Teller::Attach;
        if std::mem::replace(&mut catching.holds, true) { Hold::Again } else { Hold::First }
    }

    /// The user is no longer in a conversation: what waits is not told.
    pub(crate) fn forget(&mut self, id: &ConversationId) {
        if let Some(catching) = self.conversations.remove(id) {
            self.held -= catching.waiting.len();
        }
    }

    /// Whether live receipts of a conversation wait.
    pub(crate) fn holds(&self, id: &ConversationId) -> bool {
        self.conversations.get(id).is_some_and(|catching| catching.holds)
    }

    /// Whoever told has stopped before the end: live ones go on waiting for another attempt.
    pub(crate) fn put_down(&mut self, id: &ConversationId) {
        if let Some(catching) = self.conversations.get_mut(id) {
            catching.taken = false;
        }
    }

    /// A receipt that is told again. `false`: it lies behind what was told.
    pub(crate) fn again(&mut self, receipt: &MessageReceipt) -> bool {
        let catching = self.conversations.entry(receipt.conversation.clone()).or_default();
        let told = catching.told.entry(receipt.by.clone()).or_default();
        if told.covers(receipt) {
            return false;
        }
        *told.mark(receipt.kind) = Some(receipt.message.id);
        true
    }

    /// A live receipt.
    pub(crate) fn live(&mut self, receipt: &MessageReceipt, piece: &Encoded) -> Verdict {
        let Some(catching) = self.conversations.get_mut(&receipt.conversation) else { return Verdict::Tell };
        if catching.holds {
            if self.held >= MAX_HELD {
                return Verdict::Overflow;
            }
            self.held += 1;
            catching.waiting.push((receipt.clone(), piece.clone()));
            return Verdict::Keep;
        }
        let verdict = catching.passes(receipt);
        if catching.told.is_empty() {
            self.conversations.remove(&receipt.conversation);
        }
        verdict
    }

    /// Everything was told again: what waited and is still news, in order.
    pub(crate) fn release(&mut self, id: &ConversationId) -> Vec<Encoded> {
        let Some(catching) = self.conversations.get_mut(id) else { return Vec::new() };
        (catching.holds, catching.taken, catching.attaching) = (false, false, false);
        let waiting = std::mem::take(&mut catching.waiting);
        self.held -= waiting.len();
        let news = waiting
            .into_iter()
            .filter_map(|(receipt, piece)| (catching.passes(&receipt) == Verdict::Tell).then_some(piece))
            .collect();
        if catching.told.is_empty() {
            self.conversations.remove(id);
        }
        news
    }

    /// Whether nothing waits and no mark is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }
}

impl Catching {
    fn passes(&mut self, receipt: &MessageReceipt) -> Verdict {
        let Some(told) = self.told.get_mut(&receipt.by) else { return Verdict::Tell };
        if told.covers(receipt) {
            return Verdict::Keep;
        }
        *told.mark(receipt.kind) = None;
        if told.delivered.is_none() && told.read.is_none() {
            self.told.remove(&receipt.by);
        }
        Verdict::Tell
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::{MessageRef, Time};
    use parlance_wire::{Class, websocket};

    use super::*;
    use ReceiptKind::{Delivered, Read};
    use Teller::{Attach, Invitation};

    fn place() -> ConversationId {
        ConversationId::parse("c").unwrap()
    }

    fn receipt(kind: ReceiptKind, seq: u32) -> MessageReceipt {
        let message = MessageRef {
            id: MessageId::new(7, seq).unwrap(),
            at: Time::from_millis(0),
            client_id: None,
            author: UserId::parse("author").unwrap(),
        };
        let by = UserId::parse("reader").unwrap();
        MessageReceipt { conversation: place(), message, kind, by, at: Time::from_millis(0) }
    }

    fn live(receipts: &mut Receipts, kind: ReceiptKind, seq: u32) -> Verdict {
        let piece = Encoded::framed(&[format!("{kind:?} {seq}")], Class::Kept);
        receipts.live(&receipt(kind, seq), &piece)
    }

    fn released(receipts: &mut Receipts) -> Vec<String> {
        let news = receipts.release(&place());
        news.iter().flat_map(|piece| websocket::texts(piece.bytes())).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_live_waits_and_only_news_follow() {
        let mut receipts = Receipts::default();
        assert_eq!(live(&mut receipts, Delivered, 1), Verdict::Tell);
        receipts.hold(place(), Attach);
        for (kind, seq) in [(Delivered, 2), (Read, 2), (Delivered, 3), (Read, 3)] {
            assert_eq!(live(&mut receipts, kind, seq), Verdict::Keep);
        }
        for (kind, seq) in [(Delivered, 1), (Read, 1), (Delivered, 2), (Read, 2), (Delivered, 3)] {
            assert!(receipts.again(&receipt(kind, seq)));
        }
        assert_eq!(released(&mut receipts), ["Read 3"]);
        assert_eq!(released(&mut receipts), Vec::<String>::new());
    }

    #[test]
    fn what_comes_late_was_told_already_and_marks_end_with_the_first_news() {
        let mut receipts = Receipts::default();
        receipts.hold(place(), Attach);
        assert!(receipts.again(&receipt(Delivered, 5)) && receipts.again(&receipt(Read, 5)));
        assert!(!receipts.again(&receipt(Delivered, 5)), "tried again: not behind what was told");
        assert!(released(&mut receipts).is_empty());
        assert_eq!(live(&mut receipts, Delivered, 5), Verdict::Keep);
        assert_eq!(live(&mut receipts, Read, 4), Verdict::Keep);
        assert_eq!(live(&mut receipts, Delivered, 6), Verdict::Tell);
        assert_eq!(live(&mut receipts, Read, 5), Verdict::Keep);
        assert!(!receipts.is_empty());
        assert_eq!(live(&mut receipts, Read, 6), Verdict::Tell);
        assert!(receipts.is_empty(), "the marks have served");
    }

    #[test]
    fn where_nothing_was_told_again_nothing_is_left_behind() {
        let mut receipts = Receipts::default();
        receipts.hold(place(), Attach);
        assert_eq!(live(&mut receipts, Read, 1), Verdict::Keep);
        assert_eq!(released(&mut receipts), ["Read 1"]);
        assert!(receipts.is_empty() && receipts.held == 0);
    }

    #[test]
    fn one_tells_again_at_a_time() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.hold(place(), Invitation), Hold::First);
        assert_eq!(receipts.hold(place(), Attach), Hold::Elsewhere);
        receipts.put_down(&place());
        assert_eq!(live(&mut receipts, Read, 1), Verdict::Keep, "it broke off: still waiting");
        assert_eq!(receipts.hold(place(), Invitation), Hold::Again);
        assert_eq!(released(&mut receipts), ["Read 1"]);
        assert_eq!(receipts.hold(place(), Invitation), Hold::First);
    }

    #[test]
    fn what_attaching_owes_no_invitation_tells() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.hold(place(), Invitation), Hold::First);
        receipts.put_down(&place());
        assert_eq!(receipts.hold(place(), Attach), Hold::Again, "it owes more");
        assert_eq!(receipts.hold(place(), Invitation), Hold::Attaching);
        receipts.put_down(&place());
        assert_eq!(receipts.hold(place(), Invitation), Hold::Attaching, "it comes again");
        assert_eq!(receipts.hold(place(), Attach), Hold::Again);
        assert!(released(&mut receipts).is_empty());
        assert_eq!(receipts.hold(place(), Invitation), Hold::First);
    }

    #[test]
    fn what_waits_for_somebody_who_was_removed_is_forgotten() {
        let mut receipts = Receipts::default();
        receipts.hold(place(), Attach);
        assert_eq!(live(&mut receipts, Read, 1), Verdict::Keep);
        receipts.forget(&place());
        assert!(receipts.is_empty() && receipts.held == 0 && released(&mut receipts).is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut receipts = Receipts::default();
        receipts.hold(place(), Attach);
        for _ in 0..MAX_HELD {
            assert_eq!(live(&mut receipts, Read, 1), Verdict::Keep);
        }
        assert_eq!(live(&mut receipts, Read, 1), Verdict::Overflow);
    }
}
