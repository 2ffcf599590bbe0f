//! A local connection as the hub sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use parlance_model::{ConversationId, Event, MessageReceipt, UserId};
use parlance_wire::{Accent, Encoded, Offset, Style};

use crate::outbox::{Mark, Outbox, Pushed};
use crate::receipts::{Hold, Receipts, Teller, Verdict};

/// Outboxes to be written.
pub(crate) type List = Vec<Arc<Outbox>>;

/// More notices than this unread: the connection's task is stuck, and the connection is closed.
const MAX_NOTICES: usize = 4096;

/// A word for the connection's own task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The user became a member of a conversation: read its log after `since`, then go live.
    Invited {
        /// Which.
        conversation: ConversationId,
        /// The log's head at the join.
        since: u64,
    },
    /// The user is no longer a member: already unsubscribed.
    Removed(ConversationId),
    /// The connection's token is good no more.
    Revoked,
    /// Close the connection.
    Close {
        /// WebSocket close code.
        code: u16,
        /// For people.
        reason: String,
    },
}

/// When a connection hears of presence transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Announce {
    /// How long an offline is held back, so that a quick return is not told (milliseconds).
    pub hold_ms: u64,
    /// At most one word per user in this time; the last state is told at its end (milliseconds).
    pub throttle_ms: u64,
}

/// What a listener is built with.
#[derive(Debug, Clone)]
pub struct Voice {
    /// How it speaks at first.
    pub accent: Accent,
    /// What else distinguishes its bytes.
    pub style: Style,
    /// When it hears of presence.
    pub announce: Announce,
}

/// A local connection: who it is, how it speaks, and its outbox (which the namespaces of one Socket.IO
/// client share).
#[derive(Debug)]
pub struct Listener {
    /// The connection's number on this node.
    pub number: u64,
    /// Whose it is.
    pub user: UserId,
    /// What distinguishes its bytes besides the accent.
    pub style: Style,
    /// When it hears of presence.
    pub announce: Announce,
    /// Its outbox.
    pub outbox: Arc<Outbox>,
    accent: AtomicU8,
    /// The last log event pushed, for state recovery.
    last: Mutex<Offset>,
    notices: Mutex<VecDeque<Notice>>,
    /// While receipts are told again, and until what is heard live is beyond them.
    receipts: Mutex<Option<Box<Receipts>>>,
}

impl Listener {
    /// A listener.
    pub fn new(number: u64, user: UserId, voice: Voice, outbox: Arc<Outbox>) -> Self {
        Self {
            number,
            user,
            style: voice.style,
            announce: voice.announce,
            outbox,
            accent: AtomicU8::new(voice.accent as u8),
            last: Mutex::new(Offset::NONE),
            notices: Mutex::default(),
            receipts: Mutex::default(),
        }
    }

    /// How it speaks.
    pub fn accent(&self) -> Accent {
        let index = usize::from(self.accent.load(Ordering::Relaxed));
        Accent::ALL.get(index).copied().unwrap_or(Accent::SechatV2)
    }

    /// Changes how it speaks; later events are encoded so.
    pub fn set_accent(&self, accent: Accent) {
        self.accent.store(accent as u8, Ordering::Relaxed);
    }

    /// Queues output and wakes the connection's task.
    pub fn push(&self, piece: &Encoded) -> Pushed {
        self.with_place(piece, |piece, mark| self.outbox.push(piece, mark))
    }

    /// Queues output; the outbox goes on a list of those to be written.
    pub(crate) fn push_listed(&self, piece: &Encoded, list: &mut List) -> Pushed {
        self.with_place(piece, |piece, mark| self.outbox.push_listed(piece, mark, list))
    }

    /// Queues a piece with the place that goes with it.
    fn with_place(&self, piece: &Encoded, queue: impl FnOnce(&Encoded, Option<Mark>) -> Pushed) -> Pushed {
        if !piece.lacks_offset() && piece.offset().is_none() {
            return queue(piece, None);
        }
        // Held until it is queued: no offset may be on its way before the event it belongs to.
        let mut last = self.last.lock();
        if piece.lacks_offset() {
            return queue(&piece.seal_offset(*last), None);
        }
        let mark = piece.offset().map(|offset| Mark { listener: self.number, offset });
        if let Some(mark) = mark {
            *last = mark.offset;
        }
        queue(piece, mark)
    }

    /// Queues an event as [`Self::push_listed`] does; a receipt may have to wait until those before it were told.
    pub(crate) fn tell(&self, event: &Event, piece: &Encoded, list: &mut List) -> Pushed {
        match event {
            Event::Receipt(receipt) => self.push_receipt(receipt, piece, list),
            _ => self.push_listed(piece, list),
        }
    }

    /// Queues an answer ahead of everything that waits, unless it would carry the offset of what waits.
    pub fn push_first(&self, piece: &Encoded) -> Pushed {
        if piece.lacks_offset() { self.push(piece) } else { self.outbox.push_first(piece) }
    }

    /// From now on, live receipts of a conversation wait until [`Self::release_receipts`]; unless somebody else has
    /// asked for that and has neither released them nor put them down.
    pub fn hold_receipts(&self, id: &ConversationId, teller: Teller) -> Hold {
        self.receipts.lock().get_or_insert_default().hold(id.clone(), teller)
    }

    /// The user is no longer in a conversation: its receipts that wait are not told.
    pub fn forget_receipts(&self, id: &ConversationId) {
        let mut slot = self.receipts.lock();
        if let Some(receipts) = slot.as_mut() {
            receipts.forget(id);
            if receipts.is_empty() {
                *slot = None;
            }
        }
    }

    /// Whether live receipts of a conversation wait.
    pub fn holds_receipts(&self, id: &ConversationId) -> bool {
        self.receipts.lock().as_ref().is_some_and(|receipts| receipts.holds(id))
    }

    /// They go on waiting, for somebody else to tell what comes before them.
    pub fn put_down_receipts(&self, id: &ConversationId) {
        if let Some(receipts) = self.receipts.lock().as_mut() {
            receipts.put_down(id);
        }
    }

    /// Queues a receipt that is told again, unless it lies behind what was told.
    pub fn push_receipt_again(&self, receipt: &MessageReceipt, piece: &Encoded) {
        let mut receipts = self.receipts.lock();
        if receipts.get_or_insert_default().again(receipt) {
            self.push(piece);
        }
    }

    /// Queues a live receipt, or keeps it until those before it were told.
    fn push_receipt(&self, receipt: &MessageReceipt, piece: &Encoded, list: &mut List) -> Pushed {
        let mut slot = self.receipts.lock();
        let Some(receipts) = slot.as_mut() else { return self.push_listed(piece, list) };
        let verdict = receipts.live(receipt, piece);
        if receipts.is_empty() {
            *slot = None;
        }
        match verdict {
            Verdict::Tell => self.push_listed(piece, list),
            Verdict::Keep => Pushed::Queued,
            Verdict::Overflow => {
                let reason = "too slow: reconnect to catch up".to_owned();
                self.notify(Notice::Close { code: 1013, reason });
                Pushed::Overflow
            }
        }
    }

    /// A conversation's receipts were told again: what waited follows.
    pub fn release_receipts(&self, id: &ConversationId) {
        let mut slot = self.receipts.lock();
        let Some(receipts) = slot.as_mut() else { return };
        // Queued before anything that comes now.
        for piece in receipts.release(id) {
            self.push(&piece);
        }
        if receipts.is_empty() {
            *slot = None;
        }
    }

    /// Takes up a recovered session's last offset.
    pub fn set_last(&self, offset: Offset) {
        *self.last.lock() = offset;
    }

    /// Leaves a notice for the connection's task. A task that reads none is told to close.
    pub fn notify(&self, notice: Notice) {
        let mut notices = self.notices.lock();
        if notices.len() >= MAX_NOTICES {
            notices.clear();
            notices.push_back(Notice::Close { code: 1013, reason: "too many changes at once".to_owned() });
        } else {
            notices.push_back(notice);
        }
        drop(notices);
        self.outbox.wake();
    }

    /// The next notice.
    pub fn next_notice(&self) -> Option<Notice> {
        let mut notices = self.notices.lock();
        let next = notices.pop_front();
        if notices.is_empty() {
            *notices = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use parlance_wire::Class;

    fn listener(accent: Accent) -> Listener {
        let voice = Voice { accent, style: Style::default(), announce: Announce::default() };
        let outbox = Arc::new(Outbox::new(Limits { bytes: 1000, pieces: 10 }));
        Listener::new(1, UserId::parse("u").unwrap(), voice, outbox)
    }

    #[test]
    fn every_accent_is_kept() {
        for (index, accent) in Accent::ALL.into_iter().enumerate() {
            assert_eq!(accent.index(), index);
            assert_eq!(listener(accent).accent(), accent);
        }
    }

    #[test]
    fn unread_notices_are_bounded() {
        let listener = listener(Accent::Socialhub);
        for _ in 0..=MAX_NOTICES {
            listener.notify(Notice::Removed(ConversationId::parse("c").unwrap()));
        }
        assert!(matches!(listener.next_notice(), Some(Notice::Close { code: 1013, .. })));
        assert_eq!(listener.next_notice(), None);
    }

    #[test]
    fn a_trailing_string_is_followed_by_the_offset_of_the_last_log_event() {
        let listener = listener(Accent::LingochatPositional);
        let offset = Offset { number: 5, seq: 9 };
        listener.push(&Encoded::framed(&["m"], Class::Kept).at(Some(offset)));
        listener.push(&Encoded::open_offset(r#"42["typing:start","bob"]"#.to_owned(), Class::Passing));
        let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
        listener.outbox.take(&mut pieces, &mut marks, 10);
        assert_eq!(marks, [Mark { listener: 1, offset }]);
        assert_eq!(parlance_wire::websocket::texts(&pieces[1]), [r#"42["typing:start","bob","5-9"]"#]);
    }
}
