//! The byte stream under a connection, shared so that it survives the change from HTTP to WebSocket.
//!
//! Owns: asynchronous reading and writing over one shared TCP stream. Must not know: HTTP, frames.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connection after its upgrade: the raw stream, and what the client sent behind its request head.
pub struct Socket {
    /// The stream.
    pub stream: Arc<TcpStream>,
    /// Bytes read already: they come before anything the stream still yields.
    pub leftover: Bytes,
}

/// Reads and writes a shared stream. One task reads and one task writes at a time: of several wakers only
/// the newest is woken.
#[derive(Clone)]
pub struct Io(pub Arc<TcpStream>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let (most, mut drained) = (room.len(), None);
            let read = self.0.try_io(Interest::READABLE, || {
                let count = (&*SockRef::from(&*self.0)).read(room)?;
                // Less than there is room for is all there was. To know that spares the read that would find nothing; whatever
                // comes later is told of anew.
                if 0 < count && count < most {
                    drained = Some(count);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(count)
            });
            match (drained, read) {
                (Some(count), _) | (None, Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(cx, |stream| stream.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(cx, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(finish(&self.0))
    }
}

impl Io {
    fn write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Io {
    /// Reads once, at most so many bytes, into a buffer that is not kept: it would weigh on whoever waits.
    pub async fn glance<const N: usize, T>(&mut self, look: impl Fn(&[u8]) -> T) -> io::Result<T> {
        poll_fn(|cx| {
            let mut buffer = [0; N];
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(look(buffer.filled())))
        })
        .await
    }

    /// Reads what still comes, and forgets it: to the end, or about so many bytes.
    pub async fn drain(&mut self, most: usize) {
        let mut left = most;
        while left > 0 {
            match self.glance::<4096, _>(<[u8]>::len).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    }
}

/// Says that nothing more will be written. A peer that is gone already is no error.
pub fn finish(stream: &TcpStream) -> io::Result<()> {
    match SockRef::from(stream).shutdown(Shutdown::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Io(Arc::new(listener.accept().await.unwrap().0));
        let big = vec![7u8; 3_000_000];
        let (sent, received) = tokio::join!(
            async {
                server.write_all(&big).await.unwrap();
                server.shutdown().await
            },
            async {
                let mut all = Vec::new();
                client.read_to_end(&mut all).await.unwrap();
                all
            }
        );
        sent.unwrap();
        assert!(received == big);
        client.write_all(b"ping").await.unwrap();
        drop(client);
        let mut all = String::new();
        server.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "ping");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_after_a_short_read_is_heard_every_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let mut server = Io(Arc::new(listener.accept().await.unwrap().0));
        let writing = std::thread::spawn(move || {
            for turn in 0..20_000u32 {
                io::Write::write_all(&mut client, &turn.to_be_bytes()).unwrap();
            }
        });
        let (mut all, mut some) = (Vec::new(), [0; 64]);
        loop {
            match server.read(&mut some).await.unwrap() {
                0 => break,
                count => all.extend_from_slice(&some[..count]),
            }
        }
        writing.join().unwrap();
        assert!(all == (0..20_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    }
}
