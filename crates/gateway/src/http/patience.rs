//! What a connection's peer owes: bytes it does not take, a body it has not sent whole, a head it has begun.
//!
//! Owns: noticing. Must not know: what is done about it, what the bytes mean.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::socket::Io;

/// What is known of one connection.
#[derive(Default)]
pub struct Marks {
    begun: AtomicBool,
    unsent: AtomicBool,
}

impl Marks {
    /// Whether something came after the last answer.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the last request's body was not read to its end.
    pub fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }
}

/// A stream that gives up a peer who takes nothing of an answer for so long.
pub struct Patient {
    io: Io,
    /// What was read already.
    ahead: Bytes,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    marks: Arc<Marks>,
}

impl Patient {
    /// Over a stream; `stall` is how long it may take nothing.
    pub const fn new(io: Io, stall: Duration, marks: Arc<Marks>) -> Self {
        Self { io, ahead: Bytes::new(), stall, stalled: None, marks }
    }

    /// The same, of which something was read already.
    pub fn behind(self, ahead: Bytes) -> Self {
        Self { ahead, ..self }
    }

    /// The stream itself, and what was read of it and of which nobody was told.
    pub fn into_inner(self) -> (Io, Bytes) {
        (self.io, self.ahead)
    }

    fn wrote(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.stalled = None;
            self.marks.begun.store(false, Ordering::Relaxed);
            return wrote;
        }
        let span = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(span)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(count));
            self.marks.begun.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.marks.begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, data);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A request's body; while it was not read to its end, its sender may still be sending.
pub struct Watched {
    body: Incoming,
    marks: Arc<Marks>,
}

impl Watched {
    /// The body of the request that has just begun.
    pub fn new(body: Incoming, marks: Arc<Marks>) -> Self {
        marks.unsent.store(!body.is_end_stream(), Ordering::Relaxed);
        Self { body, marks }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.marks.unsent.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, server) = (client.unwrap(), server.unwrap().0);
        let stall = Duration::from_secs(2);
        let marks = Arc::<Marks>::default();
        let mut patient = Patient::new(Io(Arc::new(server)), stall, marks);
        let piece = vec![7; 64 * 1024];
        let reader = tokio_util::task::TaskTracker::new().spawn(async move {
            // Long enough in all, but never still for long.
            let mut some = vec![0; 1024 * 1024];
            for _ in 0..12 {
                let _ = tokio::io::AsyncReadExt::read(&mut client, &mut some).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            client
        });
        let error = loop {
            if let Err(error) = patient.write_all(&piece).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(reader.is_finished(), "given up while it still read");
        drop(reader.await.unwrap());
    }
}
