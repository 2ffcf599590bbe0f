//! A connection's bounded outbox: what waits to be written, what happens when it is full, and the way out of it.
//!
//! Owns: order and bounds, and that only one at a time writes from it. Must not know: sockets.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_wire::{Class, Encoded, Offset};
use tokio::sync::Notify;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes.
    pub bytes: usize,
    /// Pieces (an event is one piece, however many frames it has).
    pub pieces: usize,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Waiting to be written.
    Queued,
    /// Dropped: a passing event, and the outbox is full.
    Dropped,
    /// The outbox is full of what must not be dropped: the connection is too slow and is to be closed.
    /// Nothing is taken any more.
    Overflow,
}

/// A log event on its way to a client, for state recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The listener it was pushed for.
    pub listener: u64,
    /// Its place.
    pub offset: Offset,
}

/// A piece that waits.
#[derive(Debug)]
pub struct Waiting {
    bytes: Bytes,
    class: Class,
    mark: Option<Mark>,
}

impl Waiting {
    /// Its bytes: whole frames.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// The way out of an outbox that needs no task of the connection: whoever delivers writes by it.
pub trait Exit: Debug + Send + Sync {
    /// Takes pieces from the front, as many as can be written without waiting.
    fn write(&self, waiting: &VecDeque<Waiting>) -> Written;
}

/// Log events that passed the exit and were not noted yet; with more, the connection's task notes them first.
const MAX_SENT: usize = 64;

/// What an exit took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// So many pieces.
    pub pieces: usize,
    /// The connection's task has to see to what was not written: pieces that were not taken, or the rest of the last one
    /// that was.
    pub stuck: bool,
}

impl Written {
    /// The exit takes nothing now.
    pub const NOTHING: Self = Self { pieces: 0, stuck: true };
}

/// What went out since the connection's task looked last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Anything.
    pub any: bool,
    /// Log events with a mark.
    pub marked: bool,
}

/// A bounded queue of encoded output. Whoever delivered writes it through the exit, if there is one and it takes
/// everything; else it is for its one reader, the connection's task.
///
/// Full → passing events (typing, presence) are dropped, the waiting ones first; a message that still does
/// not fit ends the connection: its client comes back and catches up from the log.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    inner: Mutex<Inner>,
    ready: Notify,
    space: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Waiting>,
    /// So many at the front are answers that were put ahead of the rest.
    ahead: usize,
    bytes: usize,
    overflow: bool,
    exit: Option<Arc<dyn Exit>>,
    /// Nothing passes the exit for now.
    held: bool,
    /// It is on somebody's list of outboxes to be written.
    listed: bool,
    passed: Passed,
    /// The log events that passed the exit, until they are noted.
    sent: Vec<Mark>,
    /// The connection's task wants to know when the next piece has passed.
    curious: bool,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: Limits) -> Self {
        Self { limits, inner: Mutex::default(), ready: Notify::new(), space: Notify::new() }
    }

    /// Queues a piece and wakes the connection's task.
    pub fn push(&self, piece: &Encoded, mark: Option<Mark>) -> Pushed {
        let pushed = self.put(&mut self.inner.lock(), piece, mark);
        if pushed != Pushed::Dropped {
            self.ready.notify_one();
        }
        pushed
    }

    /// Queues a piece without waking anybody: whoever does that calls [`Self::deliver`] for everything on `list`.
    pub fn push_listed(
        self: &Arc<Self>,
        piece: &Encoded,
        mark: Option<Mark>,
        list: &mut Vec<Arc<Self>>,
    ) -> Pushed {
        let mut inner = self.inner.lock();
        let pushed = self.put(&mut inner, piece, mark);
        if pushed != Pushed::Dropped && !std::mem::replace(&mut inner.listed, true) {
            list.push(self.clone());
        }
        pushed
    }

    fn put(&self, inner: &mut Inner, piece: &Encoded, mark: Option<Mark>) -> Pushed {
        debug_assert!(
            !piece.is_open() && !piece.lacks_offset(),
            "an open text is sealed before it is queued"
        );
        if inner.overflow {
            return Pushed::Overflow;
        }
        let len = piece.bytes().len();
        if !self.fits(inner, len) {
            // It may be full only because nobody has come round to writing it.
            if self.write(inner) {
                self.ready.notify_one();
            }
        }
        if !self.fits(inner, len) {
            if piece.class() == Class::Passing {
                return Pushed::Dropped;
            }
            inner.shed();
            // One piece larger than the whole outbox passes when nothing else waits.
            if !self.fits(inner, len) && !inner.queue.is_empty() {
                inner.overflow = true;
                return Pushed::Overflow;
            }
        }
        inner.bytes += len;
        inner.queue.push_back(Waiting { bytes: piece.bytes().clone(), class: piece.class(), mark });
        Pushed::Queued
    }

    /// Writes what waits; the connection's task is woken only for what it has to see to.
    pub fn deliver(&self) {
        let mut inner = self.inner.lock();
        inner.listed = false;
        let stuck = self.write(&mut inner);
        let asks = stuck || inner.overflow;
        let tells = inner.passed.any && std::mem::take(&mut inner.curious);
        drop(inner);
        if asks || tells {
            self.ready.notify_one();
        }
    }

    /// Writes what waits, for the connection's own task. `true`: more can be written when what was sent is noted.
    pub fn write_out(&self) -> bool {
        let mut inner = self.inner.lock();
        self.write(&mut inner) && inner.sent.len() >= MAX_SENT
    }

    /// Whether there is something that the connection's task has to see to.
    fn write(&self, inner: &mut Inner) -> bool {
        let Inner { queue, sent, exit: Some(exit), held: false, .. } = inner else {
            return !inner.queue.is_empty();
        };
        let (mut freed, mut count, mut stuck) = (0, 0, false);
        while !stuck && !queue.is_empty() {
            let written = if sent.len() < MAX_SENT { exit.write(queue) } else { Written::NOTHING };
            stuck = written.stuck;
            count += written.pieces;
            for waiting in queue.drain(..written.pieces) {
                freed += waiting.bytes.len();
                sent.extend(waiting.mark);
            }
        }
        if count > 0 {
            inner.passed = Passed { any: true, marked: inner.passed.marked || !inner.sent.is_empty() };
            inner.took(count, freed);
            self.space.notify_waiters();
        }
        stuck
    }

    /// The log events that passed the exit for a listener since this was asked last, in order; of all listeners: `None`.
    pub fn take_sent(&self, listener: Option<u64>) -> Vec<Mark> {
        let mut inner = self.inner.lock();
        let (taken, left) = std::mem::take(&mut inner.sent)
            .into_iter()
            .partition(|m| listener.is_none_or(|l| l == m.listener));
        inner.sent = left;
        taken
    }

    /// Opens a way out, or closes it: whatever was being written is written when this returns.
    pub fn set_exit(&self, exit: Option<Arc<dyn Exit>>) {
        self.inner.lock().exit = exit;
    }

    /// Whether pieces are to wait, although there is a way out.
    pub fn hold(&self, held: bool) {
        self.inner.lock().held = held;
    }

    /// What passed the exit since this was asked last.
    pub fn take_passed(&self) -> Passed {
        std::mem::take(&mut self.inner.lock().passed)
    }

    /// The same; and from here on the connection's task is woken when the next piece has passed, once.
    pub fn watch(&self) -> Passed {
        let mut inner = self.inner.lock();
        inner.curious = true;
        std::mem::take(&mut inner.passed)
    }

    /// Queues an answer ahead of every event that waits, behind the answers before it. Answers may go beyond the
    /// limits once over: they are no larger than what was asked.
    pub fn push_first(&self, piece: &Encoded) -> Pushed {
        let mut inner = self.inner.lock();
        let full = inner.queue.len() >= 2 * self.limits.pieces || inner.bytes > 2 * self.limits.bytes;
        inner.overflow |= full;
        if inner.overflow {
            drop(inner);
            self.ready.notify_one();
            return Pushed::Overflow;
        }
        inner.bytes += piece.bytes().len();
        let at = inner.ahead.min(inner.queue.len());
        let waiting = Waiting { bytes: piece.bytes().clone(), class: piece.class(), mark: None };
        inner.queue.insert(at, waiting);
        inner.ahead = at + 1;
        drop(inner);
        self.ready.notify_one();
        Pushed::Queued
    }

    fn fits(&self, inner: &Inner, len: usize) -> bool {
        inner.queue.len() < self.limits.pieces && inner.bytes + len <= self.limits.bytes
    }

    /// Moves up to `max` pieces to `into`, oldest first, and the marks of those that carry log events to `marks`.
    pub fn take(&self, into: &mut VecDeque<Bytes>, marks: &mut Vec<Mark>, max: usize) {
        let mut inner = self.inner.lock();
        let count = inner.queue.len().min(max);
        let mut freed = 0;
        for waiting in inner.queue.drain(..count) {
            freed += waiting.bytes.len();
            into.push_back(waiting.bytes);
            marks.extend(waiting.mark);
        }
        inner.took(count, freed);
        drop(inner);
        self.space.notify_waiters();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().queue.is_empty()
    }

    /// Whether everything that was to be told is on its way: nothing waits, and nothing was left out.
    pub fn has_passed_all(&self) -> bool {
        let inner = self.inner.lock();
        inner.queue.is_empty() && !inner.overflow
    }

    /// Whether it overflowed: the connection is to be closed.
    pub fn is_overflown(&self) -> bool {
        self.inner.lock().overflow
    }

    /// Pieces waiting.
    pub fn len(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Pieces waiting, and their bytes.
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.queue.len(), inner.bytes)
    }

    /// Waits until there is something to take (or a notice, or an overflow). May wake for nothing.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        self.ready.notify_one();
    }

    /// Waits until the outbox is less than half full, so that a replay leaves room for live events.
    pub async fn half_empty(&self) {
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            {
                let inner = self.inner.lock();
                let low = inner.queue.len() * 2 < self.limits.pieces && inner.bytes * 2 < self.limits.bytes;
                if low || inner.overflow || inner.queue.is_empty() {
                    return;
                }
            }
            space.await;
        }
    }
}

impl Inner {
    fn took(&mut self, count: usize, freed: usize) {
        self.bytes -= freed;
        self.ahead = self.ahead.saturating_sub(count);
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
    }

    /// Drops the passing events that wait.
    fn shed(&mut self) {
        let mut freed = 0;
        self.queue.retain(|waiting| {
            let keep = waiting.class == Class::Kept;
            if !keep {
                freed += waiting.bytes.len();
            }
            keep
        });
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests;
