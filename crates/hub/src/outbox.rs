//! A connection's bounded outbox: what waits to be written, and what happens when it is full.

use std::collections::VecDeque;

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

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    class: Class,
    mark: Option<Mark>,
}

/// A bounded queue of encoded output with one reader, the connection's task.
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
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: Limits) -> Self {
        Self { limits, inner: Mutex::default(), ready: Notify::new(), space: Notify::new() }
    }

    /// Queues a piece and wakes the connection's task.
    pub fn push(&self, piece: &Encoded, mark: Option<Mark>) -> Pushed {
        debug_assert!(
            !piece.is_open() && !piece.lacks_offset(),
            "an open text is sealed before it is queued"
        );
        let mut inner = self.inner.lock();
        if inner.overflow {
            return Pushed::Overflow;
        }
        let len = piece.bytes().len();
        if !self.fits(&inner, len) {
            if piece.class() == Class::Passing {
                return Pushed::Dropped;
            }
            inner.shed();
            // One piece larger than the whole outbox passes when nothing else waits.
            if !self.fits(&inner, len) && !inner.queue.is_empty() {
                inner.overflow = true;
                drop(inner);
                self.ready.notify_one();
                return Pushed::Overflow;
            }
        }
        inner.bytes += len;
        inner.queue.push_back(Waiting { bytes: piece.bytes().clone(), class: piece.class(), mark });
        drop(inner);
        self.ready.notify_one();
        Pushed::Queued
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
        let mut taken = 0;
        for waiting in inner.queue.drain(..count) {
            taken += waiting.bytes.len();
            into.push_back(waiting.bytes);
            marks.extend(waiting.mark);
        }
        inner.bytes -= taken;
        inner.ahead = inner.ahead.saturating_sub(count);
        if inner.queue.is_empty() && inner.queue.capacity() > 16 {
            inner.queue = VecDeque::new();
        }
        drop(inner);
        self.space.notify_waiters();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.inner.lock().queue.is_empty()
    }

    /// Whether it overflowed: the connection is to be closed.
    pub fn is_overflown(&self) -> bool {
        self.inner.lock().overflow
    }

    /// Pieces waiting.
    pub fn len(&self) -> usize {
        self.inner.lock().queue.len()
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
mod tests {
    use super::*;

    fn piece(text: &str, class: Class) -> Encoded {
        Encoded::framed(&[text], class)
    }

    fn drain(outbox: &Outbox) -> (Vec<String>, bool) {
        let mut all = VecDeque::new();
        outbox.take(&mut all, &mut Vec::new(), 100);
        let texts = all
            .iter()
            .flat_map(|b| parlance_wire::websocket::texts(b))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        (texts, outbox.is_overflown())
    }

    #[test]
    fn passing_events_give_way_to_messages() {
        let outbox = Outbox::new(Limits { bytes: 1000, pieces: 3 });
        assert_eq!(outbox.push(&piece("t1", Class::Passing), None), Pushed::Queued);
        assert_eq!(outbox.push(&piece("m1", Class::Kept), None), Pushed::Queued);
        assert_eq!(outbox.push(&piece("t2", Class::Passing), None), Pushed::Queued);
        assert_eq!(outbox.push(&piece("t3", Class::Passing), None), Pushed::Dropped);
        assert_eq!(outbox.push(&piece("m2", Class::Kept), None), Pushed::Queued);
        assert_eq!(outbox.push(&piece("m3", Class::Kept), None), Pushed::Queued);
        assert_eq!(drain(&outbox), (vec!["m1".into(), "m2".into(), "m3".into()], false));
    }

    #[test]
    fn a_message_that_does_not_fit_ends_it() {
        let outbox = Outbox::new(Limits { bytes: 20, pieces: 10 });
        assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Queued);
        assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Overflow);
        assert_eq!(outbox.push(&piece("x", Class::Kept), None), Pushed::Overflow);
        assert!(drain(&outbox).1);
    }

    #[test]
    fn answers_go_ahead_of_events_in_the_order_of_asking() {
        let outbox = Outbox::new(Limits { bytes: 1000, pieces: 3 });
        outbox.push(&piece("event", Class::Kept), None);
        outbox.push_first(&piece("a1", Class::Kept));
        outbox.push_first(&piece("a2", Class::Kept));
        assert_eq!(drain(&outbox).0, ["a1", "a2", "event"]);
        outbox.push(&piece("event", Class::Kept), None);
        outbox.push_first(&piece("a3", Class::Kept));
        assert_eq!(drain(&outbox).0, ["a3", "event"]);
        for _ in 0..6 {
            assert_eq!(outbox.push_first(&piece("a", Class::Kept)), Pushed::Queued);
        }
        assert_eq!(outbox.push_first(&piece("a", Class::Kept)), Pushed::Overflow);
    }

    #[test]
    fn one_large_piece_passes_alone() {
        let outbox = Outbox::new(Limits { bytes: 5, pieces: 10 });
        assert_eq!(outbox.push(&piece("0123456789", Class::Kept), None), Pushed::Queued);
        assert_eq!(drain(&outbox).0, ["0123456789"]);
    }

    #[tokio::test]
    async fn a_replay_waits_for_space() {
        let outbox = std::sync::Arc::new(Outbox::new(Limits { bytes: 1000, pieces: 4 }));
        for _ in 0..3 {
            outbox.push(&piece("m", Class::Kept), None);
        }
        let waiting = outbox.half_empty();
        tokio::pin!(waiting);
        assert!(futures_poll(waiting.as_mut()).await.is_none());
        drain(&outbox);
        waiting.await;
    }

    async fn futures_poll<F: Future + Unpin>(future: F) -> Option<F::Output> {
        let mut future = future;
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(cx) {
                std::task::Poll::Ready(v) => Some(v),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
