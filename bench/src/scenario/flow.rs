//! What keeps senders going: their queues, and what is on the way in a closed loop.
//!
//! Must not know: connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use crate::load::marker::Mark;
use crate::load::run::Run;
use crate::load::schedule::Due;

/// How many messages of a sender a closed loop tells apart; many more than may be on the way.
const RING: usize = 4096;

/// What keeps a closed loop going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A message is over when everybody has it.
    Delivered {
        /// How many that are.
        audience: u32,
    },
    /// A message is over when it is acknowledged.
    Acked,
}

/// The queues of the senders, and what is on the way in a closed loop.
pub struct Flow {
    closing: Closing,
    queues: Vec<Option<mpsc::Sender<Due>>>,
    open: Vec<Vec<AtomicU32>>,
}

impl Flow {
    /// A closed loop over these queues, by sender.
    pub fn new(closing: Closing, queues: Vec<Option<mpsc::Sender<Due>>>) -> Arc<Self> {
        let ring = || (0..RING).map(|_| AtomicU32::new(0)).collect();
        let open = match closing {
            Closing::Delivered { .. } => queues.iter().map(|_| ring()).collect(),
            Closing::Acked => Vec::new(),
        };
        Arc::new(Self { closing, queues, open })
    }

    /// Lets every sender have `window` messages on the way.
    pub fn start(&self, run: &Run, window: usize) {
        for sender in 0..self.queues.len() {
            for _ in 0..window {
                self.next(run, sender as u32);
            }
        }
    }

    /// A message goes out.
    pub fn sent(&self, sender: u32, number: u64) {
        if let Closing::Delivered { audience } = self.closing {
            self.open[sender as usize][number as usize % RING].store(audience, Ordering::Release);
        }
    }

    /// Somebody has a message.
    pub fn delivered(&self, run: &Run, mark: Mark) {
        if !matches!(self.closing, Closing::Delivered { .. }) {
            return;
        }
        let Some(ring) = self.open.get(mark.sender as usize) else { return };
        if ring[mark.number as usize % RING].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.next(run, mark.sender);
        }
    }

    /// A message of `sender` is acknowledged.
    pub fn acked(&self, run: &Run, sender: u32) {
        if self.closing == Closing::Acked {
            self.next(run, sender);
        }
    }

    fn next(&self, run: &Run, sender: u32) {
        let now = run.now();
        if now < run.end
            && let Some(Some(queue)) = self.queues.get(sender as usize)
        {
            // As many as the window wait at most, and the queue holds more; a sender that is gone has said why.
            let _ = queue.try_send(Due { intended: now });
        }
    }
}
