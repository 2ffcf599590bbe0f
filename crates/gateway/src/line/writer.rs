//! The write side of a socket: whole frames, many in one vectored write.
//!
//! Must not know: what the frames hold.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use parlance_model::Time;
use tokio::net::TcpStream;

/// Frames in one system call.
const SLICES: usize = 64;

/// What is on its way to the socket.
#[derive(Default)]
pub(super) struct Writer {
    queue: VecDeque<Bytes>,
    /// Bytes of the first frame that are written already.
    offset: usize,
    /// Since when the socket takes nothing.
    stalled: Option<Time>,
}

impl Writer {
    /// The queue, to be filled with whole frames.
    pub(super) const fn queue(&mut self) -> &mut VecDeque<Bytes> {
        &mut self.queue
    }

    /// Queues one frame.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.queue.push_back(frame);
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Since when the socket takes nothing, if it does not.
    pub(super) const fn stalled_since(&self) -> Option<Time> {
        self.stalled
    }

    /// Writes as much as the socket takes without waiting.
    pub(super) fn flush(&mut self, stream: &TcpStream, now: Time) -> io::Result<()> {
        while !self.queue.is_empty() {
            let written = {
                let mut slices: smallvec::SmallVec<[IoSlice<'_>; SLICES]> = smallvec::SmallVec::new();
                for (index, frame) in self.queue.iter().take(SLICES).enumerate() {
                    let from = if index == 0 { self.offset } else { 0 };
                    slices.push(IoSlice::new(frame.get(from..).unwrap_or_default()));
                }
                match stream.try_write_vectored(&slices) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.stalled.get_or_insert(now);
                        return Ok(());
                    }
                    Err(e) => return Err(e),
                }
            };
            self.stalled = None;
            self.advance(written);
        }
        self.stalled = None;
        if self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.queue.front() {
            let left = first.len() - self.offset;
            if written < left {
                self.offset += written;
                return;
            }
            written -= left;
            self.offset = 0;
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_full_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, server) = (client.unwrap(), server.unwrap().0);
        let mut writer = Writer::default();
        let frames: Vec<Bytes> =
            (0..3000u32).map(|i| Bytes::from(format!("{i:05}").repeat(1 + i as usize % 700))).collect();
        let expected: Vec<u8> = frames.concat();
        writer.queue().extend(frames);
        let len = expected.len();
        let reading = async {
            let mut all = vec![0; len];
            client.read_exact(&mut all).await.unwrap();
            all
        };
        let writing = async {
            let mut stalls = 0;
            while !writer.is_empty() {
                writer.flush(&server, Time(1)).unwrap();
                if !writer.is_empty() {
                    assert!(writer.stalled_since().is_some());
                    stalls += 1;
                    server.writable().await.unwrap();
                }
            }
            stalls
        };
        let (all, stalls) = tokio::join!(reading, writing);
        assert!(all == expected);
        assert!(stalls > 0, "the socket was never full: the test shows nothing");
    }
}
