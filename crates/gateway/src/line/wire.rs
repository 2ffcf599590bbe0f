//! One WebSocket: frames in through tungstenite, frames out through the pen.
//!
//! Must not know: Engine.IO, what the messages hold.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use parlance_model::Time;
use parlance_wire::websocket;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::Heard;
use super::input::{Input, close_for, websocket_config};
use super::pen::Pen;
use crate::clock::Clock;
use crate::http::socket::{self, Io, Socket};

/// An open WebSocket. Always boxed: it is large, and what holds it is moved.
pub(super) struct Wire {
    ws: WebSocketStream<Input>,
    pub(super) pen: Arc<Pen>,
}

impl Wire {
    pub(super) async fn new(
        socket: Socket,
        max_message: usize,
        clock: Clock,
        heart: Arc<AtomicU64>,
    ) -> Box<Self> {
        let input = Input::new(Io(socket.stream.clone()), heart, clock);
        let leftover = socket.leftover.to_vec();
        let config = Some(websocket_config(max_message));
        let ws = WebSocketStream::from_partially_read(input, leftover, Role::Server, config).await;
        Box::new(Self { ws, pen: Pen::new(socket.stream) })
    }

    /// The next message; or, once, that one has begun and is not complete.
    pub(super) fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let frame = match self.ws.poll_next_unpin(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending if self.ws.get_mut().has_begun() => return Poll::Ready(Heard::Stirred),
            Poll::Pending => return Poll::Pending,
        };
        self.ws.get_mut().completed();
        Poll::Ready(match frame {
            Some(Ok(Message::Text(text))) => Heard::Text(text),
            Some(Ok(Message::Binary(data))) => Heard::Binary(data),
            Some(Ok(Message::Pong(payload))) => Heard::Pong(payload),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {
                self.pass_control(false);
                Heard::Control
            }
            Some(Ok(Message::Close(_))) => {
                self.pass_control(true);
                Heard::Goodbye
            }
            Some(Err(error)) => match close_for(&error) {
                Some((code, reason)) => Heard::Violation(code, reason),
                None => Heard::Gone,
            },
            None => Heard::Gone,
        })
    }

    /// Lets tungstenite's own answer (a pong, a close echo) out between our frames. A client that pings and
    /// reads nothing gets no pongs: they would only pile up.
    fn pass_control(&mut self, closing: bool) {
        // The input side collects in memory: this is done at once or not at all.
        let _ = self.ws.flush().now_or_never();
        let control = self.ws.get_mut().take_control();
        if let Some(control) = control
            && (closing || self.pen.stalled_since().is_none())
        {
            self.pen.push(control);
        }
    }

    /// Whether bytes have come that were not read yet.
    pub(super) fn has_unread(&self) -> bool {
        self.ws.get_ref().has_ahead() || self.pen.stream().readable().now_or_never().is_some()
    }

    pub(super) fn flush(&self, now: Time) -> io::Result<()> {
        self.pen.flush(now)
    }

    /// Ready when the socket takes something; an error shows in the write that follows.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pen.stream().poll_write_ready(cx).map(|_| ())
    }

    /// When the unfinished message began.
    pub(super) fn started(&self) -> Option<Time> {
        self.ws.get_ref().started()
    }

    pub(super) fn close(&self, code: u16, reason: &str) {
        self.pen.push(websocket::close(code, reason));
    }

    pub(super) fn push(&self, frame: Bytes) {
        self.pen.push(frame);
    }

    /// Says the end and reads what is still under way: closing with unread input would reset the connection
    /// and lose the close frame on its way. Whoever does not close their side within the time is cut off.
    pub(super) async fn finish(&self, within: Duration) {
        drain(self.pen.stream(), within).await;
    }
}

/// Ends the writing side and reads to the end, but not for longer than `within`.
async fn drain(stream: &Arc<TcpStream>, within: Duration) {
    if socket::finish(stream).is_ok() {
        let _ = tokio::time::timeout(within, Io(stream.clone()).drain(usize::MAX)).await;
    }
}

/// Closes a WebSocket that is not wanted, after its handshake.
pub(super) async fn turn_away(stream: &Arc<TcpStream>, code: u16, reason: &str) {
    if stream.try_write(&websocket::close(code, reason)).is_ok() {
        drain(stream, Duration::from_secs(1)).await;
    }
}
