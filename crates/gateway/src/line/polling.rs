//! A session's polling side as its line sees it: what waits for the next poll, and the WebSocket that is
//! trying to take over.
//!
//! Must not know: HTTP, the registry.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parlance_model::Time;
use parlance_wire::engineio::{Malformed, Part, Payload};

use super::desk::{Candidate, Desk, Found};
use super::wire::Wire;
use super::{Heard, frames};
use crate::http::connection::Origin;
use crate::http::permit::Permit;

/// A polling session.
pub(super) struct Polling {
    pub(super) desk: Arc<Desk>,
    pub(super) queue: VecDeque<Bytes>,
    probing: Option<Probing>,
    upgrade_timeout: Duration,
    /// The farewell is queued.
    pub(super) closing: bool,
    ended: bool,
    _permit: Permit,
}

/// A WebSocket being tried.
struct Probing {
    wire: Box<Wire>,
    origin: Origin,
    /// It has answered: polls are answered at once, so that the client gets to pause them.
    probed: bool,
    until: Time,
}

/// What a polling session yields.
pub(super) enum Step {
    Heard(Heard),
    /// The WebSocket takes over.
    Upgrade(Box<Wire>, Origin),
}

impl Polling {
    pub(super) fn new(desk: Arc<Desk>, upgrade_timeout: Duration, permit: Permit) -> Self {
        Self {
            desk,
            queue: VecDeque::new(),
            probing: None,
            upgrade_timeout,
            closing: false,
            ended: false,
            _permit: permit,
        }
    }

    /// What comes next: posted packets first, then the end, then what concerns the upgrade.
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        read: impl FnOnce(Result<Part<'_>, Malformed>) -> Heard,
    ) -> Poll<Step> {
        if self.ended {
            return Poll::Ready(Step::Heard(Heard::Gone));
        }
        match self.desk.poll_next(cx, read) {
            Poll::Ready(Found::Packet(heard)) => {
                match heard {
                    Heard::Goodbye => self.end("6"),
                    Heard::Violation(..) => self.end("1"),
                    _ => {}
                }
                return Poll::Ready(Step::Heard(heard));
            }
            Poll::Ready(Found::End(heard)) => {
                self.end("1");
                return Poll::Ready(Step::Heard(heard));
            }
            Poll::Ready(Found::Candidate(candidate)) => {
                let Candidate { wire, origin } = candidate;
                let until = now + self.upgrade_timeout;
                self.probing = Some(Probing { wire, origin, probed: false, until });
                return Poll::Ready(Step::Heard(Heard::Stirred));
            }
            Poll::Pending => {}
        }
        if self.hurries() && self.desk.poll_get(cx).is_ready() {
            return Poll::Ready(Step::Heard(Heard::Stirred));
        }
        self.poll_probe(cx, now)
    }

    fn poll_probe(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<Step> {
        let Some(probing) = &mut self.probing else { return Poll::Pending };
        let mut heard = ready!(probing.wire.poll_hear(cx));
        if matches!(&heard, Heard::Text(text) if text.as_str() == "2probe") {
            probing.probed = true;
            probing.wire.push(frames::text("3probe"));
            // What has come along with it counts before any poll is answered.
            heard = match (probing.wire.flush(now), probing.wire.poll_hear(cx)) {
                (Err(_), _) => Heard::Gone,
                (_, Poll::Ready(heard)) => heard,
                (_, Poll::Pending) => Heard::Stirred,
            };
        }
        match heard {
            Heard::Text(text) if text.as_str() == "5" => {
                if let Some(probing) = self.probing.take() {
                    let Probing { wire, origin, .. } = probing;
                    return Poll::Ready(Step::Upgrade(wire, origin));
                }
            }
            // A control frame, or part of a message.
            Heard::Stirred | Heard::Control | Heard::Pong(_) => {
                if probing.wire.flush(now).is_err() {
                    self.give_up();
                }
            }
            Heard::Violation(code, reason) => self.give_up_saying(code, reason, now),
            Heard::Text(_) | Heard::Binary(_) => self.give_up_saying(1002, "not a probe", now),
            Heard::Goodbye => {
                // The echo of the close frame.
                let _ = probing.wire.flush(now);
                self.give_up();
            }
            Heard::Gone => self.give_up(),
        }
        Poll::Ready(Step::Heard(Heard::Stirred))
    }

    /// Whether polls are to be answered at once.
    const fn hurries(&self) -> bool {
        match &self.probing {
            Some(probing) => probing.probed,
            None => false,
        }
    }

    fn give_up_saying(&mut self, code: u16, reason: &str, now: Time) {
        if let Some(probing) = &mut self.probing {
            probing.wire.close(code, reason);
            let _ = probing.wire.flush(now);
        }
        self.give_up();
    }

    fn give_up(&mut self) {
        self.probing = None;
        self.desk.gave_up();
    }

    /// When the WebSocket being tried has taken too long.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.probing.as_ref().map(|probing| probing.until)
    }

    /// Gives up a WebSocket that takes too long.
    pub(super) fn due(&mut self, now: Time) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.give_up_saying(1000, "the upgrade took too long", now);
        }
    }

    /// Answers the pending poll, if there is one and there is something to say.
    pub(super) fn flush(&mut self) {
        if self.queue.is_empty() && !self.hurries() {
            return;
        }
        // Clients act on a close packet before what came with it: it travels alone.
        let farewell = if self.closing && self.queue.len() > 1 { self.queue.pop_back() } else { None };
        let queue = &mut self.queue;
        let answered = self.desk.answer_with(|| {
            let mut payload = Payload::new();
            for piece in std::mem::take(queue) {
                frames::unframe(&piece, &mut payload);
            }
            if payload.is_empty() {
                payload.push_text("6");
            }
            payload.into_string()
        });
        if let Some(farewell) = farewell {
            self.queue.push_back(farewell);
        } else if answered && self.closing {
            self.end("1");
        }
    }

    /// Whether nothing more will be read by the client: all is, or the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended || self.queue.is_empty()
    }

    /// Ready when a flush gets on.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.desk.poll_get(cx)
    }

    /// The farewell waits for the next poll; an ended session gets none.
    pub(super) fn close(&mut self) {
        if self.ended {
            self.queue.clear();
        } else if !self.closing {
            self.closing = true;
            self.queue.push_back(frames::text("1"));
        }
    }

    /// The session ends here and now.
    pub(super) fn end(&mut self, last: &str) {
        self.ended = true;
        self.probing = None;
        self.desk.end(last);
    }
}
