//! One client's transport: a raw WebSocket, or an Engine.IO session over HTTP polling, over a WebSocket, or
//! moving from the one to the other.
//!
//! Owns: bytes and messages in both directions, their order, the transport's own heartbeat and farewell.
//! Must not know: Socket.IO, dialects, users.

pub(crate) mod desk;
pub(crate) mod door;
mod engine;
mod frames;
mod input;
mod pen;
mod polling;
mod pulse;
mod registry;
mod wire;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parlance_model::Time;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock::Clock;
use crate::http::socket::Socket;
use engine::Engine;
use wire::Wire;

pub use pen::Pen;

pub use crate::http::engine::{Accept, Endpoint, EngineSettings, Greeting};

/// What came from a client.
#[derive(Debug)]
pub enum Heard {
    /// A text message; of an Engine.IO session without the digit `4`.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A WebSocket pong; only of a raw line, an Engine.IO line has a heartbeat of its own.
    Pong(Bytes),
    /// Something that concerns the transport alone: flush, and look at the deadlines again.
    Stirred,
    /// A control frame or packet of the client: for the transport alone too, and one more that it sent.
    Control,
    /// The client broke the protocol: close with this code and reason.
    Violation(u16, &'static str),
    /// The client closed in good order.
    Goodbye,
    /// The transport is gone: nothing can be written any more.
    Gone,
}

/// Heartbeats of an Engine.IO line: what was queued before a ping has arrived when its answer comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beats {
    /// A ping was queued, behind everything queued before.
    pub pinged: bool,
    /// The ping was answered.
    pub ponged: bool,
}

/// One client's transport. Dropped, it is cut off and its session forgotten.
pub struct Line {
    under: Under,
    heart: Arc<AtomicU64>,
}

enum Under {
    Raw(Box<Wire>),
    Engine(Box<Engine>),
}

impl Line {
    /// A raw WebSocket after its handshake. `heart` takes the time of each received byte.
    pub async fn raw(socket: Socket, max_message: usize, clock: Clock, heart: Arc<AtomicU64>) -> Self {
        let wire = Wire::new(socket, max_message, clock, heart.clone()).await;
        Self { under: Under::Raw(wire), heart }
    }

    fn engine(engine: Engine, heart: Arc<AtomicU64>) -> Self {
        Self { under: Under::Engine(Box::new(engine)), heart }
    }

    /// What comes next. Can be dropped and asked again without losing anything.
    pub async fn hear(&mut self) -> Heard {
        std::future::poll_fn(|cx| self.poll_hear(cx)).await
    }

    /// What comes next if `read`; and, when something waits to be written, that a flush may get on.
    pub async fn next(&mut self, read: bool) -> Heard {
        std::future::poll_fn(|cx| {
            if read && let Poll::Ready(heard) = self.poll_hear(cx) {
                return Poll::Ready(heard);
            }
            if !self.is_idle() {
                return self.poll_writable(cx).map(|()| Heard::Stirred);
            }
            Poll::Pending
        })
        .await
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match &mut self.under {
            Under::Raw(wire) => wire.poll_hear(cx),
            Under::Engine(engine) => engine.poll_hear(cx),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.under {
            Under::Raw(wire) => wire.poll_writable(cx),
            Under::Engine(engine) => engine.poll_writable(cx),
        }
    }

    /// When something was heard last, in milliseconds: every arrival notes its time here.
    pub const fn heart(&self) -> &Arc<AtomicU64> {
        &self.heart
    }

    /// Whether this is a raw WebSocket.
    pub const fn is_raw(&self) -> bool {
        matches!(self.under, Under::Raw(_))
    }

    /// How it travels at the moment: `raw`, `websocket` or `polling`.
    pub fn transport(&self) -> &'static str {
        match &self.under {
            Under::Raw(_) => "raw",
            Under::Engine(engine) => engine.transport(),
        }
    }

    /// The write side of the socket it travels over, if it does: pieces can be written there without this line. Another
    /// one once a session moves.
    pub fn pen(&self) -> Option<&Arc<Pen>> {
        let wire = match &self.under {
            Under::Raw(wire) => Some(&**wire),
            Under::Engine(engine) => engine.wire(),
        };
        wire.map(|wire| &wire.pen)
    }

    /// Queues one piece: unmasked WebSocket frames laid end to end. The text frames of an Engine.IO line hold whole
    /// packets, their digit included.
    pub fn push(&mut self, piece: Bytes) {
        match &mut self.under {
            Under::Raw(wire) => wire.push(piece),
            Under::Engine(engine) => engine.push(piece),
        }
    }

    /// Queues all of these.
    pub fn append(&mut self, pieces: &mut VecDeque<Bytes>) {
        match &mut self.under {
            Under::Raw(wire) => wire.pen.append(pieces),
            Under::Engine(engine) => engine.append(pieces),
        }
    }

    /// Queues a binary message.
    pub fn push_binary(&mut self, data: &[u8]) {
        self.push(frames::binary(data));
    }

    /// Whether everything queued is written.
    pub fn is_idle(&self) -> bool {
        self.waiting() == 0
    }

    /// Pieces queued that are not written yet.
    pub fn waiting(&self) -> usize {
        match &self.under {
            Under::Raw(wire) => wire.pen.waiting(),
            Under::Engine(engine) => engine.waiting(),
        }
    }

    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// When the transport is gone.
    pub fn flush(&mut self, now: Time) -> io::Result<()> {
        match &mut self.under {
            Under::Raw(wire) => wire.flush(now),
            Under::Engine(engine) => engine.flush(now),
        }
    }

    /// Waits until a flush may get on: for room in the socket, or for the client's next poll.
    pub async fn writable(&self) {
        std::future::poll_fn(|cx| self.poll_writable(cx)).await;
    }

    /// Since when the socket takes nothing, if it does not.
    pub fn stalled_since(&self) -> Option<Time> {
        match &self.under {
            Under::Raw(wire) => wire.pen.stalled_since(),
            Under::Engine(engine) => engine.wire().and_then(|wire| wire.pen.stalled_since()),
        }
    }

    /// When the message began that has not come to its end yet.
    pub fn started(&self) -> Option<Time> {
        match &self.under {
            Under::Raw(wire) => wire.started(),
            Under::Engine(engine) => engine.wire().and_then(Wire::started),
        }
    }

    /// The heartbeats since this was asked last; none of a raw line.
    pub fn take_beats(&mut self) -> Beats {
        match &mut self.under {
            Under::Raw(_) => Beats::default(),
            Under::Engine(engine) => engine.take_beats(),
        }
    }

    /// When [`Line::due`] wants to be called; a raw line has no deadlines of its own.
    pub fn deadline(&self) -> Option<Time> {
        match &self.under {
            Under::Raw(_) => None,
            Under::Engine(engine) => Some(engine.deadline()),
        }
    }

    /// Does what is due: queues a ping, gives up an upgrade that takes too long, or says that the client is
    /// gone because a ping was not answered.
    pub fn due(&mut self, now: Time) -> Option<Heard> {
        match &mut self.under {
            Under::Raw(_) => None,
            Under::Engine(engine) => engine.due(now),
        }
    }

    /// Queues the farewell: a WebSocket close frame, or an Engine.IO close packet for the pending or the next
    /// poll. Code and reason have no place in the latter.
    pub fn close(&mut self, code: u16, reason: &str) {
        match &mut self.under {
            Under::Raw(wire) => wire.close(code, reason),
            Under::Engine(engine) => engine.close(code, reason),
        }
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        match &mut self.under {
            Under::Raw(wire) => wire.pen.clear(),
            Under::Engine(engine) => engine.clear(),
        }
    }

    /// Lets the client read the last bytes, for at most so long. Nothing can be sent after it.
    pub async fn finish(&mut self, within: Duration) {
        match &mut self.under {
            Under::Raw(wire) => wire.finish(within).await,
            Under::Engine(engine) => engine.finish(within).await,
        }
    }
}
