//! An Engine.IO session: its packets, its heartbeat, and the move from polling to a WebSocket.
//!
//! Must not know: HTTP, Socket.IO.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parlance_model::Time;
use parlance_wire::engineio::{Beat, Malformed, Packet, Part, parse, split};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::desk::Desk;
use super::polling::{Polling, Step};
use super::pulse::Pulse;
use super::registry::Entry;
use super::wire::Wire;
use super::{Beats, Heard, frames};
use crate::clock::Clock;
use crate::http::connection::Origin;

/// A pong may wait so long among what was not read yet, because the session reads nothing at the moment.
const UNREAD: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const MALFORMED: Heard = Heard::Violation(1002, "malformed packet");

/// A session. Dropped, its id is forgotten.
pub(super) struct Engine {
    carrier: Carrier,
    pulse: Pulse,
    /// When an overdue pong is looked for again.
    again: Time,
    clock: Clock,
    entry: Entry,
}

enum Carrier {
    Polling(Polling),
    Socket(Socket),
}

struct Socket {
    wire: Box<Wire>,
    /// What was posted before the session moved here, and is heard first.
    before: Option<Before>,
    _origin: Origin,
}

/// What is left of a session's polling; dropped, nobody takes what is still posted.
struct Before(Arc<Desk>);

impl Drop for Before {
    fn drop(&mut self) {
        self.0.end("6");
    }
}

impl Engine {
    /// A session over HTTP polling.
    pub(super) fn polling(polling: Polling, pulse: Pulse, clock: Clock, entry: Entry) -> Self {
        Self { carrier: Carrier::Polling(polling), pulse, again: Time::default(), clock, entry }
    }

    /// A session over a WebSocket.
    pub(super) fn socket(wire: Box<Wire>, origin: Origin, pulse: Pulse, clock: Clock, entry: Entry) -> Self {
        let socket = Socket { wire, before: None, _origin: origin };
        Self { carrier: Carrier::Socket(socket), pulse, again: Time::default(), clock, entry }
    }

    pub(super) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let heard = ready!(self.poll_next(cx));
        self.tell_expiry();
        Poll::Ready(heard)
    }

    /// Lets the desk know until when a pong may come.
    fn tell_expiry(&self) {
        if let Carrier::Polling(polling) = &self.carrier {
            polling.desk.expire_at(self.pulse.expires());
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let now = self.clock.now();
        let pulse = &mut self.pulse;
        let read = |part: Result<Part<'_>, Malformed>| read(part, pulse, now);
        match &mut self.carrier {
            Carrier::Polling(polling) => match ready!(polling.poll_step(cx, now, read)) {
                Step::Heard(heard) => Poll::Ready(heard),
                Step::Upgrade(wire, origin) => {
                    self.take_over(wire, origin);
                    Poll::Ready(Heard::Stirred)
                }
            },
            Carrier::Socket(socket) => {
                if let Some(before) = &socket.before {
                    if let Some(heard) = ready!(before.0.poll_rest(cx, read)) {
                        return Poll::Ready(heard);
                    }
                    socket.before = None;
                }
                let heard = ready!(socket.wire.poll_hear(cx));
                Poll::Ready(self.socket_heard(heard, now))
            }
        }
    }

    fn socket_heard(&mut self, heard: Heard, now: Time) -> Heard {
        match heard {
            Heard::Text(text) => {
                if text.starts_with('4') {
                    self.pulse.other(now);
                    return Heard::Text(without_digit(text));
                }
                if text.starts_with('b') {
                    let part = split(&text).next().unwrap_or(Err(Malformed));
                    return read(part, &mut self.pulse, now);
                }
                let part = parse(&text).map(Part::Packet).ok_or(Malformed);
                let heard = read(part, &mut self.pulse, now);
                if let (Heard::Goodbye, Carrier::Socket(socket)) = (&heard, &mut self.carrier) {
                    socket.wire.close(1000, "");
                }
                heard
            }
            Heard::Binary(data) => {
                self.pulse.other(now);
                Heard::Binary(data)
            }
            Heard::Pong(_) => Heard::Control,
            other => other,
        }
    }

    /// The WebSocket takes over: what waits goes there, what was posted before is heard first.
    fn take_over(&mut self, wire: Box<Wire>, origin: Origin) {
        let Carrier::Polling(polling) = &mut self.carrier else { return };
        wire.pen.append(&mut polling.queue);
        if polling.closing {
            wire.close(1000, "");
        }
        let desk = polling.desk.clone();
        desk.moved();
        self.entry.moved();
        self.carrier = Carrier::Socket(Socket { wire, before: Some(Before(desk)), _origin: origin });
    }

    pub(super) const fn transport(&self) -> &'static str {
        match &self.carrier {
            Carrier::Polling(_) => "polling",
            Carrier::Socket(_) => "websocket",
        }
    }

    /// The WebSocket under the session, if it travels over one.
    pub(super) const fn wire(&self) -> Option<&Wire> {
        match &self.carrier {
            Carrier::Polling(_) => None,
            Carrier::Socket(socket) => Some(&socket.wire),
        }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        match &mut self.carrier {
            Carrier::Polling(polling) => polling.queue.push_back(piece),
            Carrier::Socket(socket) => socket.wire.push(piece),
        }
    }

    pub(super) fn append(&mut self, pieces: &mut VecDeque<Bytes>) {
        match &mut self.carrier {
            Carrier::Polling(polling) => polling.queue.append(pieces),
            Carrier::Socket(socket) => socket.wire.pen.append(pieces),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        match &self.carrier {
            Carrier::Polling(polling) => polling.queue.len(),
            Carrier::Socket(socket) => socket.wire.pen.waiting(),
        }
    }

    pub(super) fn flush(&mut self, now: Time) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Polling(polling) => {
                polling.flush();
                Ok(())
            }
            Carrier::Socket(socket) => socket.wire.flush(now),
        }
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.carrier {
            Carrier::Polling(polling) => polling.poll_writable(cx),
            Carrier::Socket(socket) => socket.wire.poll_writable(cx),
        }
    }

    /// The heartbeats since this was asked last.
    pub(super) const fn take_beats(&mut self) -> Beats {
        self.pulse.take_beats()
    }

    pub(super) fn deadline(&self) -> Time {
        let beat = self.pulse.deadline().max(self.again);
        match &self.carrier {
            Carrier::Polling(polling) => polling.deadline().map_or(beat, |at| at.min(beat)),
            Carrier::Socket(_) => beat,
        }
    }

    pub(super) fn due(&mut self, now: Time) -> Option<Heard> {
        if let Carrier::Polling(polling) = &mut self.carrier {
            polling.due(now);
        }
        let beat = self.pulse.due(now)?;
        self.tell_expiry();
        match beat {
            Beat::Ping => {
                self.push(frames::text("2"));
                None
            }
            Beat::TimedOut if self.has_unread() && now < self.pulse.deadline() + UNREAD => {
                self.again = now + LOOK_AGAIN;
                None
            }
            Beat::TimedOut => {
                if let Carrier::Polling(polling) = &mut self.carrier {
                    polling.end("1");
                }
                Some(Heard::Gone)
            }
        }
    }

    /// Whether something has come that the session has not read yet.
    fn has_unread(&self) -> bool {
        match &self.carrier {
            Carrier::Polling(polling) => polling.desk.has_post(),
            Carrier::Socket(socket) => {
                socket.before.as_ref().is_some_and(|before| before.0.has_post()) || socket.wire.has_unread()
            }
        }
    }

    pub(super) fn close(&mut self, code: u16, reason: &str) {
        match &mut self.carrier {
            Carrier::Polling(polling) => polling.close(),
            Carrier::Socket(socket) => socket.wire.close(code, reason),
        }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.carrier {
            Carrier::Polling(polling) => polling.queue.clear(),
            Carrier::Socket(socket) => socket.wire.pen.clear(),
        }
    }

    pub(super) async fn finish(&mut self, within: Duration) {
        match &mut self.carrier {
            Carrier::Socket(socket) => socket.wire.finish(within).await,
            Carrier::Polling(polling) => {
                let last = async {
                    while !polling.is_over() {
                        std::future::poll_fn(|cx| polling.poll_writable(cx)).await;
                        polling.flush();
                    }
                };
                // A client that does not poll any more has nothing to read.
                let _ = tokio::time::timeout(within, last).await;
            }
        }
    }
}

/// What a packet means. Only `3` answers a ping, only `2probe` on a new socket may be sent as one.
fn read(part: Result<Part<'_>, Malformed>, pulse: &mut Pulse, now: Time) -> Heard {
    match part {
        Ok(Part::Packet(Packet::Pong(_))) => {
            pulse.pong(now);
            return Heard::Control;
        }
        Ok(_) => pulse.other(now),
        Err(Malformed) => return MALFORMED,
    }
    match part {
        Ok(Part::Packet(Packet::Message(text))) => Heard::Text(text.into()),
        Ok(Part::Binary(data)) => Heard::Binary(data.into()),
        Ok(Part::Packet(Packet::Close)) => Heard::Goodbye,
        Ok(Part::Packet(Packet::Ping(_))) => Heard::Violation(1002, "only the server pings"),
        _ => Heard::Control,
    }
}

/// A message's text behind its digit, sharing its bytes.
fn without_digit(text: Utf8Bytes) -> Utf8Bytes {
    let bytes: Bytes = text.into();
    Utf8Bytes::try_from(bytes.slice(1..)).unwrap_or_default()
}
