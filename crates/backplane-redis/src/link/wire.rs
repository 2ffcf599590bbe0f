//! What is known of the way to one primary: its link, and whether it is worth trying.
//!
//! A server that hangs would keep every command for as long as one may take. After the first that got no answer in time
//! nobody is sent there any more: one question is asked instead, and when that is answered the way is open again.
//! Must not know: slots, what is called.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{LinkFault, Pipe, RedisLink};
use crate::topology::Address;

/// Between two questions to a server that does not answer; each waits as long as a command may take.
const PROBE: Duration = Duration::from_millis(200);

/// One primary.
pub struct Primary {
    /// Where it is.
    pub address: Address,
    /// The way to it.
    pub link: Arc<dyn RedisLink>,
}

/// A primary, and how it has been lately.
pub(super) struct Wire {
    pub primary: Arc<Primary>,
    pub link: Pipe,
    /// Since when there is no connection, as far as somebody noticed.
    away: Mutex<Option<Instant>>,
    /// When somebody noticed that the link has ended.
    ended: OnceLock<Instant>,
    silent: AtomicBool,
}

impl Wire {
    pub fn new(address: Address, link: Pipe) -> Arc<Self> {
        let primary = Arc::new(Primary { address, link: Arc::new(link.clone()) });
        let (away, ended) = (Mutex::default(), OnceLock::new());
        Arc::new(Self { primary, link, away, ended, silent: AtomicBool::new(false) })
    }

    /// The same server over another link; it is away for as long as it was, and for `long` when it did not answer.
    pub fn renewed(&self, link: Pipe, long: Duration) -> Arc<Self> {
        let wire = Self::new(self.primary.address.clone(), link);
        let hung = self.silent.load(Ordering::Relaxed);
        let hung = hung.then(|| Instant::now().checked_sub(long)).flatten();
        *wire.away.lock() = hung.or(*self.away.lock());
        wire
    }

    /// Since when the link has ended, as far as somebody noticed; now, if nobody noticed before.
    pub fn ended(&self) -> Option<Instant> {
        self.link.is_ended().then(|| *self.ended.get_or_init(Instant::now))
    }

    /// Since when it is away; now, if nobody noticed before.
    pub fn away(&self) -> Instant {
        *self.away.lock().get_or_insert_with(Instant::now)
    }

    /// It answered.
    pub fn back(&self) {
        *self.away.lock() = None;
    }

    /// Whether a command can be sent there now.
    ///
    /// # Errors
    /// [`LinkFault::Away`] while the server does not answer.
    pub fn usable(&self) -> Result<(), LinkFault> {
        if !self.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(LinkFault::Away(format!("Redis at {} does not answer", self.primary.address)))
    }

    /// A command was not answered in time; whether nobody had noticed before. Then somebody has to [`Self::mend`] it.
    pub fn fell_silent(&self) -> bool {
        !self.silent.swap(true, Ordering::Relaxed)
    }

    /// Asks until there is an answer, or nobody uses the link any more.
    pub async fn mend(self: Arc<Self>) {
        tracing::warn!(address = %self.primary.address, "Redis does not answer: commands fail until it does");
        let wire = Arc::downgrade(&self);
        drop(self);
        while let Some(wire) = wire.upgrade() {
            let answer = wire.link.ping().await;
            // A refusal is an answer, too.
            if !matches!(answer, Err(LinkFault::Away(_) | LinkFault::Lost(_) | LinkFault::Silent(_))) {
                tracing::info!(address = %wire.primary.address, "Redis answers again");
                wire.back();
                return wire.silent.store(false, Ordering::Relaxed);
            }
            drop(wire);
            tokio::time::sleep(PROBE).await;
        }
    }
}
