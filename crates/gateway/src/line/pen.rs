//! The write side of a socket, for the session and for whoever delivers to it: one at a time, so that frames never
//! interleave.
//!
//! Must not know: what the frames hold, who holds it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parlance_hub::{Exit, Waiting, Written};
use parlance_model::Time;
use tokio::net::TcpStream;

use super::writer::Writer;

/// The write side of a socket.
#[derive(Debug)]
pub struct Pen {
    stream: Arc<TcpStream>,
    writer: Mutex<Writer>,
}

/// What waits in an outbox is written unless something of the line's own waits here: that goes first, and is for the
/// session to see to. What the socket does not take of a piece waits here too.
impl Exit for Pen {
    fn write(&self, waiting: &VecDeque<Waiting>) -> Written {
        self.writer.lock().write(&self.stream, waiting)
    }
}

impl Pen {
    pub(super) fn new(stream: Arc<TcpStream>) -> Arc<Self> {
        Arc::new(Self { stream, writer: Mutex::default() })
    }

    pub(super) const fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Queues one piece.
    pub(super) fn push(&self, piece: Bytes) {
        self.writer.lock().queue().push_back(piece);
    }

    /// Queues all of these.
    pub(super) fn append(&self, pieces: &mut VecDeque<Bytes>) {
        self.writer.lock().queue().append(pieces);
    }

    /// Pieces queued here that are not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.writer.lock().queue().len()
    }

    /// Writes as much of what is queued here as the socket takes without waiting.
    pub(super) fn flush(&self, now: Time) -> io::Result<()> {
        self.writer.lock().flush(&self.stream, now)
    }

    /// Forgets what is queued here.
    pub(super) fn clear(&self) {
        self.writer.lock().clear();
    }

    /// Since when the socket takes nothing, if it does not.
    pub(super) fn stalled_since(&self) -> Option<Time> {
        self.writer.lock().stalled_since()
    }
}
