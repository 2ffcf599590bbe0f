//! The read side of a socket, as tungstenite sees it: reads pass through and are noted; what tungstenite
//! writes (pongs, close echoes) is collected, so that it goes out between our own frames.
//!
//! Must not know: what the messages hold, who reads them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parlance_model::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::clock::Clock;
use crate::http::socket::Io;

/// Control frames waiting at most; a peer that floods pings beyond it is cut off.
const MAX_CONTROL: usize = 16 * 1024;

pub(super) struct Input {
    io: Io,
    control: Vec<u8>,
    heard: Arc<AtomicU64>,
    clock: Clock,
    /// When the first byte of a message arrived that is not complete yet.
    started: Option<Time>,
    /// It began since this was asked last.
    began: bool,
}

impl Input {
    pub(super) const fn new(io: Io, heard: Arc<AtomicU64>, clock: Clock) -> Self {
        Self { io, control: Vec::new(), heard, clock, started: None, began: false }
    }

    /// What tungstenite wants written: whole control frames.
    pub(super) fn take_control(&mut self) -> Option<bytes::Bytes> {
        (!self.control.is_empty()).then(|| std::mem::take(&mut self.control).into())
    }

    /// A whole message was taken.
    pub(super) const fn completed(&mut self) {
        self.started = None;
    }

    /// Whether a message has begun since this was asked last: then there is a new deadline.
    pub(super) const fn has_begun(&mut self) -> bool {
        std::mem::replace(&mut self.began, false)
    }

    /// When the unfinished message began.
    pub(super) const fn started(&self) -> Option<Time> {
        self.started
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() > before {
            let now = self.clock.now();
            self.heard.store(now.millis(), Ordering::Relaxed);
            if self.started.is_none() {
                self.started = Some(now);
                self.began = true;
            }
        }
        polled
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.control.len() + bytes.len() > MAX_CONTROL {
            return Poll::Ready(Err(io::Error::other("too many control frames")));
        }
        self.control.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Small buffers: an idle connection holds one of 1 KiB.
pub(super) fn websocket_config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_CONTROL)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// The close code and reason a read error deserves; `None` when the transport is gone.
pub(super) const fn close_for(error: &Error) -> Option<(u16, &'static str)> {
    match error {
        Error::Capacity(_) => Some((1009, "message too big")),
        Error::Utf8(_) => Some((1007, "invalid UTF-8")),
        Error::Protocol(_) => Some((1002, "protocol error")),
        _ => None,
    }
}
