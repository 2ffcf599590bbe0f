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
use parlance_wire::engineio::{Beat, Heartbeat, Malformed, Packet, Part, parse, split};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::desk::Desk;
use super::polling::{Polling, Step};
use super::registry::Entry;
use super::wire::Wire;
use super::{Beats, Heard, frames};
use crate::clock::Clock;
use crate::http::connection::Origin;

/// A timer may be late by so much on an idle node.
const LATE: Duration = Duration::from_millis(50);

/// A pong may wait so long among what was not read yet, because the session reads nothing at the moment.
const UNREAD: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const MALFORMED: Heard = Heard::Violation(1002, "malformed packet");

/// A session. Dropped, its id is forgotten.
pub(super) struct Engine {
    carrier: Carrier,
    heartbeat: Heartbeat,
    beats: Beats,
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
    pub(super) fn polling(polling: Polling, heartbeat: Heartbeat, clock: Clock, entry: Entry) -> Self {
        Self {
            carrier: Carrier::Polling(polling),
            heartbeat,
            beats: Beats::default(),
            again: Time::default(),
            clock,
            entry,
        }
    }

    /// A session over a WebSocket.
    pub(super) fn socket(
        wire: Box<Wire>,
        origin: Origin,
        heartbeat: Heartbeat,
        (clock, entry): (Clock, Entry),
    ) -> Self {
        let socket = Socket { wire, before: None, _origin: origin };
        Self {
            carrier: Carrier::Socket(socket),
            heartbeat,
            beats: Beats::default(),
            again: Time::default(),
            clock,
            entry,
        }
    }

    pub(super) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let now = self.clock.now();
        let (heartbeat, beats) = (&mut self.heartbeat, &mut self.beats);
        let read = |part: Result<Part<'_>, Malformed>| read(part, (heartbeat, beats), now);
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
                    self.heartbeat.other(now);
                    return Heard::Text(without_digit(text));
                }
                if text.starts_with('b') {
                    let part = split(&text).next().unwrap_or(Err(Malformed));
                    return read(part, (&mut self.heartbeat, &mut self.beats), now);
                }
                let part = parse(&text).map(Part::Packet).ok_or(Malformed);
                let heard = read(part, (&mut self.heartbeat, &mut self.beats), now);
                if let (Heard::Goodbye, Carrier::Socket(socket)) = (&heard, &mut self.carrier) {
                    socket.wire.close(1000, "");
                }
                heard
            }
            Heard::Binary(data) => {
                self.heartbeat.other(now);
                Heard::Binary(data)
            }
            Heard::Pong(_) => Heard::Stirred,
            other => other,
        }
    }

    /// The WebSocket takes over: what waits goes there, what was posted before is heard first.
    fn take_over(&mut self, mut wire: Box<Wire>, origin: Origin) {
        let Carrier::Polling(polling) = &mut self.carrier else { return };
        wire.writer.queue().append(&mut polling.queue);
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

    pub(super) const fn queue(&mut self) -> &mut VecDeque<Bytes> {
        match &mut self.carrier {
            Carrier::Polling(polling) => &mut polling.queue,
            Carrier::Socket(socket) => socket.wire.writer.queue(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match &self.carrier {
            Carrier::Polling(polling) => polling.queue.is_empty(),
            Carrier::Socket(socket) => socket.wire.writer.is_empty(),
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
        std::mem::replace(&mut self.beats, Beats { pinged: false, ponged: false })
    }

    pub(super) fn deadline(&self) -> Time {
        let beat = self.heartbeat.deadline().max(self.again);
        match &self.carrier {
            Carrier::Polling(polling) => polling.deadline().map_or(beat, |at| at.min(beat)),
            Carrier::Socket(_) => beat,
        }
    }

    pub(super) fn due(&mut self, now: Time) -> Option<Heard> {
        if let Carrier::Polling(polling) = &mut self.carrier {
            polling.due(now);
        }
        // A timer is late by a little: that is not the client's time.
        let late = now.since(self.heartbeat.deadline());
        match self.heartbeat.due(if late < LATE { now - late } else { now })? {
            Beat::Ping => {
                self.queue().push_back(frames::text("2"));
                self.beats.pinged = true;
                None
            }
            Beat::TimedOut if self.has_unread() && now < self.heartbeat.deadline() + UNREAD => {
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
            Carrier::Socket(socket) => socket.wire.writer.clear(),
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
fn read(
    part: Result<Part<'_>, Malformed>,
    (heartbeat, beats): (&mut Heartbeat, &mut Beats),
    now: Time,
) -> Heard {
    match part {
        Ok(Part::Packet(Packet::Pong(_))) => {
            let before = heartbeat.clone();
            heartbeat.pong(now);
            beats.ponged |= *heartbeat != before;
            return Heard::Stirred;
        }
        Ok(_) => heartbeat.other(now),
        Err(Malformed) => return MALFORMED,
    }
    match part {
        Ok(Part::Packet(Packet::Message(text))) => Heard::Text(text.into()),
        Ok(Part::Binary(data)) => Heard::Binary(data.into()),
        Ok(Part::Packet(Packet::Close)) => Heard::Goodbye,
        Ok(Part::Packet(Packet::Ping(_))) => Heard::Violation(1002, "only the server pings"),
        _ => Heard::Stirred,
    }
}

/// A message's text behind its digit, sharing its bytes.
fn without_digit(text: Utf8Bytes) -> Utf8Bytes {
    let bytes: Bytes = text.into();
    Utf8Bytes::try_from(bytes.slice(1..)).unwrap_or_default()
}
