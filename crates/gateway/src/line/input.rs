//! The read side of a socket, as tungstenite sees it: reads pass through and are noted; what tungstenite
//! writes (pongs, close echoes) is collected, so that it goes out between our own frames.
//!
//! Must not know: what the messages hold, who reads them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parlance_model::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::clock::Clock;
use crate::http::socket::Io;

/// Control frames waiting at most; a peer that floods pings beyond it is cut off.
const MAX_CONTROL: usize = 16 * 1024;
/// What is read from the socket at once.
const READ: usize = 4096;
/// What tungstenite keeps room for, for as long as the connection lives; also while nothing comes.
const HELD: usize = 128;

pub(super) struct Input {
    io: Io,
    /// Read from the socket already: tungstenite takes little at a time. Empty almost always.
    ahead: Bytes,
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
        Self { io, ahead: Bytes::new(), control: Vec::new(), heard, clock, started: None, began: false }
    }

    /// Whether bytes were read that tungstenite has not taken yet.
    pub(super) fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Gives what fits, from the socket if nothing is there already.
    fn poll_take(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            if buf.remaining() >= READ {
                return Pin::new(&mut self.io).poll_read(cx, buf);
            }
            let mut room = [0; READ];
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            let (now, later) = read.filled().split_at(read.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            self.ahead = Bytes::copy_from_slice(later);
            return Poll::Ready(Ok(()));
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(count));
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// What tungstenite wants written: whole control frames.
    pub(super) fn take_control(&mut self) -> Option<Bytes> {
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
        let polled = self.poll_take(cx, buf);
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

/// Small buffers: an idle connection holds one.
pub(super) fn websocket_config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(HELD)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_is_read_at_once_is_given_in_pieces_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Arc::new(listener.accept().await.unwrap().0);
        let heart = Arc::new(AtomicU64::new(0));
        let mut input = Input::new(Io(stream), heart.clone(), Clock::from_fn(|| Time(7)));
        let sent: Vec<u8> = (0..10_000u32).map(|n| n.to_le_bytes()[0]).collect();
        client.write_all(&sent).await.unwrap();
        let mut got = Vec::new();
        let mut pieces = 0;
        while got.len() < sent.len() {
            let mut some = [0; HELD];
            let count = input.read(&mut some).await.unwrap();
            got.extend_from_slice(&some[..count]);
            pieces += 1;
        }
        assert!(got == sent && pieces >= sent.len() / HELD);
        assert!(!input.has_ahead() && input.has_begun());
        assert_eq!(heart.load(Ordering::Relaxed), 7);
        drop(client);
        assert_eq!(input.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
