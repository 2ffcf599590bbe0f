//! The write side of a socket: whole frames, many in one vectored write.
//!
//! Must not know: what the frames hold.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use parlance_hub::{Waiting, Written};
use parlance_model::Time;
use smallvec::SmallVec;
use tokio::net::TcpStream;

/// Frames in one system call.
const SLICES: usize = 64;

/// What is on its way to the socket.
#[derive(Debug, Default)]
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

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Since when the socket takes nothing, if it does not.
    pub(super) const fn stalled_since(&self) -> Option<Time> {
        self.stalled
    }

    /// Writes pieces that wait elsewhere, unless something waits here. Those that are written are taken, and the first
    /// one that is not: its rest waits here.
    pub(super) fn write(&mut self, stream: &TcpStream, waiting: &VecDeque<Waiting>) -> Written {
        let first = waiting.front().filter(|_| self.queue.is_empty());
        let Some(first) = first else { return Written::NOTHING };
        let written = if waiting.len() == 1 {
            stream.try_write(first.bytes())
        } else {
            let slices: SmallVec<[IoSlice<'_>; SLICES]> =
                waiting.iter().take(SLICES).map(|piece| IoSlice::new(piece.bytes())).collect();
            stream.try_write_vectored(&slices)
        };
        // An error shows again when the rest is written.
        let mut left = written.unwrap_or(0);
        for (index, piece) in waiting.iter().take(SLICES).enumerate() {
            if left < piece.bytes().len() {
                self.queue.push_back(piece.bytes().clone());
                self.offset = left;
                return Written { pieces: index + 1, stuck: true };
            }
            left -= piece.bytes().len();
        }
        Written { pieces: waiting.len().min(SLICES), stuck: false }
    }

    /// Writes as much as the socket takes without waiting.
    pub(super) fn flush(&mut self, stream: &TcpStream, now: Time) -> io::Result<()> {
        while !self.queue.is_empty() {
            let written = {
                let mut slices: SmallVec<[IoSlice<'_>; SLICES]> = SmallVec::new();
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
    use std::sync::Arc;

    use super::super::pen::Pen;
    use super::*;
    use parlance_hub::{Limits, Outbox};
    use parlance_wire::{Class, Encoded};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    #[tokio::test]
    async fn what_is_written_past_the_session_and_by_it_keeps_its_order() {
        let (mut client, server) = pair().await;
        let pen = Pen::new(Arc::new(server));
        let outbox = Arc::new(Outbox::new(Limits { bytes: usize::MAX, pieces: usize::MAX }));
        outbox.set_exit(Some(pen.clone()));
        let frame = |i: u32| Encoded::framed(&[format!("{i:05}").repeat(1 + i as usize % 700)], Class::Kept);
        let expected: Vec<u8> = (0..3000).flat_map(|i| frame(i).bytes().to_vec()).collect();
        let len = expected.len();
        let reading = async {
            let mut all = vec![0; len];
            client.read_exact(&mut all).await.unwrap();
            all
        };
        let writing = async {
            let mut stuck = 0;
            for i in 0..3000 {
                outbox.push_listed(&frame(i), None, &mut Vec::new());
                if i % 3 > 0 {
                    outbox.deliver();
                }
            }
            while pen.waiting() > 0 || !outbox.is_empty() {
                stuck += 1;
                pen.stream().writable().await.unwrap();
                pen.flush(Time(1)).unwrap();
                outbox.deliver();
            }
            stuck
        };
        let (all, stuck) = tokio::join!(reading, writing);
        assert!(all == expected);
        assert!(stuck > 0, "the socket was never full: the test shows nothing");
    }

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_full_socket() {
        let (mut client, server) = pair().await;
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
            while !writer.queue().is_empty() {
                writer.flush(&server, Time(1)).unwrap();
                if !writer.queue().is_empty() {
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
