//! Where the HTTP requests of one polling session and its line meet: the pending poll, the payload being
//! taken, the WebSocket that wants to take over.
//!
//! Owns: one GET and one POST at a time, and what follows from breaking that. Must not know: HTTP, timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use parlance_model::Time;
use parlance_wire::engineio::{Malformed, Part, split};
use tokio::sync::oneshot;

use super::Heard;
use super::wire::Wire;
use crate::clock::Clock;
use crate::http::connection::Origin;

const SEPARATOR: char = '\u{1e}';

/// Why a request of a session that exists is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is one of its kind already: the session ends.
    Overlap,
    /// The session travels over a WebSocket by now.
    Moved,
    /// The session has ended.
    Ended,
}

/// A WebSocket that wants to take over a session.
pub struct Candidate {
    pub(super) wire: Box<Wire>,
    pub(super) origin: Origin,
}

/// The meeting place.
pub struct Desk {
    inner: Mutex<Inner>,
    clock: Clock,
    heart: Arc<AtomicU64>,
}

#[derive(Default)]
struct Inner {
    get: Option<Get>,
    /// A POST's body is on its way.
    posting: bool,
    post: Option<Post>,
    candidate: Option<Candidate>,
    /// A candidate is here or being tried.
    upgrading: bool,
    moved: bool,
    ended: bool,
    /// A ping is to be answered before this.
    expires: Option<Time>,
    /// The end, to be told to the line after what came before it.
    fault: Option<Fault>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A request was cancelled.
    Gone,
    Violation(&'static str),
}

/// A poll that waits for its payload.
struct Get {
    answer: oneshot::Sender<Result<String, Refused>>,
    /// It came while a WebSocket was being tried.
    late: bool,
}

/// A payload of which packets are taken.
struct Post {
    text: String,
    /// Where the next packet begins; `None` after the last.
    at: Option<usize>,
    done: oneshot::Sender<bool>,
}

impl Post {
    /// Takes the next packet.
    fn next(&mut self) -> Option<Result<Part<'_>, Malformed>> {
        let at = self.at?;
        let rest = self.text.get(at..).unwrap_or_default();
        let end = rest.find(SEPARATOR);
        self.at = end.map(|end| at + end + SEPARATOR.len_utf8());
        split(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()).next()
    }
}

/// What the line finds on the desk.
pub(super) enum Found {
    /// What `read` made of a packet.
    Packet(Heard),
    Candidate(Candidate),
    /// The session is to end.
    End(Heard),
}

impl Desk {
    pub(super) fn new(clock: Clock, heart: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), clock, heart })
    }

    /// What the session's sockets note their arrivals in.
    pub(super) const fn heart(&self) -> &Arc<AtomicU64> {
        &self.heart
    }

    fn note(&self) -> Time {
        let now = self.clock.now();
        self.heart.store(now.millis(), Ordering::Relaxed);
        now
    }

    /// A ping is to be answered before `at`; `None` when there is none.
    pub(super) fn expire_at(&self, at: Option<Time>) {
        self.inner.lock().expires = at;
    }

    /// Puts down a poll.
    ///
    /// # Errors
    /// When the session does not take one now.
    pub fn wait(self: &Arc<Self>) -> Result<Waiting, Refused> {
        let now = self.note();
        let mut inner = self.inner.lock();
        inner.takes_requests(now)?;
        if inner.get.is_some() {
            inner.fail(Fault::Violation("a second poll beside the first"));
            return Err(Refused::Overlap);
        }
        let (answer, answered) = oneshot::channel();
        inner.get = Some(Get { answer, late: inner.upgrading });
        inner.wake();
        Ok(Waiting { desk: self.clone(), answered, over: false })
    }

    /// Announces a payload.
    ///
    /// # Errors
    /// When the session does not take one now.
    pub fn post(self: &Arc<Self>) -> Result<Posting, Refused> {
        let now = self.note();
        let mut inner = self.inner.lock();
        inner.takes_requests(now)?;
        if inner.posting || inner.post.is_some() {
            inner.fail(Fault::Violation("a second payload beside the first"));
            return Err(Refused::Overlap);
        }
        inner.posting = true;
        Ok(Posting { desk: self.clone(), over: false })
    }

    /// Brings a WebSocket that may take over, or gives it back when there is one already.
    pub(super) fn offer(&self, candidate: Candidate) -> Option<Candidate> {
        let mut inner = self.inner.lock();
        if inner.upgrading || inner.moved || inner.ended {
            return Some(candidate);
        }
        inner.upgrading = true;
        inner.candidate = Some(candidate);
        inner.wake();
        None
    }

    /// The candidate was given up: another one may come.
    pub(super) fn gave_up(&self) {
        self.inner.lock().upgrading = false;
    }

    /// The next thing for the line. `read` makes of a packet what the line hears, and says whether the
    /// payload ends badly with it.
    pub(super) fn poll_next(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(Result<Part<'_>, Malformed>) -> Heard,
    ) -> Poll<Found> {
        let mut inner = self.inner.lock();
        if let Some(heard) = inner.take_packet(read) {
            return Poll::Ready(Found::Packet(heard));
        }
        if let Some(fault) = inner.fault.take() {
            return Poll::Ready(Found::End(match fault {
                Fault::Gone => Heard::Gone,
                Fault::Violation(what) => Heard::Violation(1002, what),
            }));
        }
        if let Some(candidate) = inner.candidate.take() {
            return Poll::Ready(Found::Candidate(candidate));
        }
        inner.register(cx);
        Poll::Pending
    }

    /// After the session has moved: the packets posted before. `None` once there will be no more.
    pub(super) fn poll_rest(
        &self,
        cx: &mut Context<'_>,
        read: impl FnOnce(Result<Part<'_>, Malformed>) -> Heard,
    ) -> Poll<Option<Heard>> {
        let mut inner = self.inner.lock();
        if let Some(heard) = inner.take_packet(read) {
            return Poll::Ready(Some(heard));
        }
        if inner.posting {
            inner.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(None)
    }

    /// Whether there are packets that were not taken yet.
    pub(super) fn has_post(&self) -> bool {
        self.inner.lock().post.is_some()
    }

    /// Whether a poll waits for an answer; if not, the task is woken by the next one.
    pub(super) fn poll_get(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.get.is_some() {
            return Poll::Ready(());
        }
        inner.register(cx);
        Poll::Pending
    }

    /// Answers the pending poll with what `payload` gives; there may be none.
    pub(super) fn answer_with(&self, payload: impl FnOnce() -> String) -> bool {
        let Some(get) = self.inner.lock().get.take() else { return false };
        // A client that cancels its poll at this moment has ended its session.
        let _ = get.answer.send(Ok(payload()));
        true
    }

    /// Answers the pending poll with nothing, if there is one.
    pub fn release(&self) {
        self.inner.lock().answer("6");
    }

    /// The session travels over a WebSocket from here on. A poll that came while it was moving may have been
    /// sent after the move, and is answered as if it had come after it.
    pub(super) fn moved(&self) {
        let mut inner = self.inner.lock();
        inner.moved = true;
        if let Some(get) = inner.get.take() {
            let answer = if get.late { Err(Refused::Moved) } else { Ok("6".to_owned()) };
            let _ = get.answer.send(answer);
        }
    }

    /// The session has ended; a pending poll is answered with `last`.
    pub(super) fn end(&self, last: &str) {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.answer(last);
        inner.post = None;
        inner.candidate = None;
    }
}

impl Inner {
    /// Whether a request may come. One that comes too late is refused even when the timer that is to end the
    /// session is later still.
    fn takes_requests(&mut self, now: Time) -> Result<(), Refused> {
        if self.expires.is_some_and(|at| at <= now) && self.post.is_none() && !self.posting {
            self.fail(Fault::Gone);
        }
        match (self.ended || self.fault.is_some(), self.moved) {
            (true, _) => Err(Refused::Ended),
            (_, true) => Err(Refused::Moved),
            _ => Ok(()),
        }
    }

    fn take_packet(&mut self, read: impl FnOnce(Result<Part<'_>, Malformed>) -> Heard) -> Option<Heard> {
        let post = self.post.as_mut()?;
        let heard = post.next().map(read);
        let bad = matches!(heard, Some(Heard::Violation(..)));
        let over = post.at.is_none() || bad || matches!(heard, Some(Heard::Goodbye));
        if over && let Some(post) = self.post.take() {
            // Whoever posted may have gone meanwhile.
            let _ = post.done.send(!bad);
        }
        heard
    }

    fn answer(&mut self, payload: &str) {
        if let Some(get) = self.get.take() {
            let _ = get.answer.send(Ok(payload.to_owned()));
        }
    }

    fn fail(&mut self, fault: Fault) {
        if !self.ended && !self.moved {
            self.fault.get_or_insert(fault);
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn register(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

/// A poll that waits; dropped before its answer, the client has cancelled it and the session ends.
pub struct Waiting {
    desk: Arc<Desk>,
    answered: oneshot::Receiver<Result<String, Refused>>,
    over: bool,
}

impl Waiting {
    /// The payload to answer with.
    ///
    /// # Errors
    /// When the session has moved to a WebSocket meanwhile.
    pub async fn answer(mut self) -> Result<String, Refused> {
        let answer = (&mut self.answered).await;
        self.over = true;
        answer.unwrap_or_else(|_| Ok("1".to_owned()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.desk.inner.lock().fail(Fault::Gone);
        }
    }
}

/// A payload on its way; dropped before it was delivered, the client has cancelled it and the session ends.
pub struct Posting {
    desk: Arc<Desk>,
    over: bool,
}

impl Posting {
    /// Hands over the payload and waits until all of it is taken. Returns whether it was in order.
    pub async fn deliver(mut self, text: String) -> bool {
        let (done, taken) = oneshot::channel();
        self.desk.note();
        {
            let mut inner = self.desk.inner.lock();
            self.over = true;
            inner.posting = false;
            if inner.ended {
                return false;
            }
            inner.post = Some(Post { text, at: Some(0), done });
            inner.wake();
        }
        taken.await.unwrap_or(false)
    }

    /// Gives up a payload that is not taken; the session lives.
    pub fn give_up(mut self) {
        self.over = true;
        let mut inner = self.desk.inner.lock();
        inner.posting = false;
        inner.wake();
    }

    /// Ends the session over a payload that no client may send.
    pub fn violate(mut self, what: &'static str) {
        self.over = true;
        let mut inner = self.desk.inner.lock();
        inner.posting = false;
        inner.fail(Fault::Violation(what));
        inner.wake();
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        if !self.over {
            let mut inner = self.desk.inner.lock();
            inner.posting = false;
            inner.fail(Fault::Gone);
            inner.wake();
        }
    }
}
