//! A few connections, and who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::Fault;
use parlance_postgres::Refused;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::Reading;
use super::breaker::Breaker;
use super::query::Reader;
use crate::Address;

/// Who may wait for each connection; further ones are sent away.
const WAITING: usize = 64;

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// There was an answer.
    Answered,
    /// PostgreSQL is out of reach, or was a moment ago, or took too long.
    Away,
    /// Too many ask at once.
    Busy,
    /// What is archived cannot be read.
    Unreadable,
}

impl Asked {
    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Who counts.
pub trait Watch: Send + Sync {
    /// Somebody asked.
    fn asked(&self, outcome: Asked, took: Duration);
}

/// Connections to PostgreSQL that read.
pub struct Pool {
    address: Address,
    watch: Arc<dyn Watch>,
    most: usize,
    free: Semaphore,
    idle: Mutex<Vec<Reader>>,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
}

/// Somebody waits; until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no answer.
enum Why {
    Busy,
    Refused(Refused),
}

impl Pool {
    /// Opens nothing yet.
    pub fn new(reading: Reading) -> Self {
        let Reading { address, connections, watch } = reading;
        Self {
            address,
            watch,
            most: connections,
            free: Semaphore::new(connections),
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
            breaker: Mutex::default(),
        }
    }

    /// Asks on one connection.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] where there is no answer in time; [`Fault::Corrupt`] where it cannot be read.
    pub async fn ask<T>(
        &self,
        patience: Duration,
        ask: impl AsyncFnOnce(&Reader) -> Result<T, Refused>,
    ) -> Result<T, Fault> {
        let began = Instant::now();
        let answer = if self.breaker.lock().admits(began) {
            self.asked(began, patience, ask).await
        } else {
            Err(Why::Refused(Refused::Away("it did not answer a moment ago".to_owned())))
        };
        let (outcome, answer) = match answer {
            Ok(answer) => (Asked::Answered, Ok(answer)),
            Err(Why::Busy) => {
                (Asked::Busy, Err(Fault::Unavailable("too many read the archive at once".to_owned())))
            }
            Err(Why::Refused(Refused::Away(why))) => {
                (Asked::Away, Err(Fault::Unavailable(format!("the archive: {why}"))))
            }
            Err(Why::Refused(Refused::Content(why))) => {
                tracing::error!(why, "what is archived cannot be read");
                (Asked::Unreadable, Err(Fault::Corrupt(format!("the archive: {why}"))))
            }
        };
        self.watch.asked(outcome, began.elapsed());
        answer
    }

    async fn asked<T>(
        &self,
        began: Instant,
        patience: Duration,
        ask: impl AsyncFnOnce(&Reader) -> Result<T, Refused>,
    ) -> Result<T, Why> {
        let end = began + patience;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most.saturating_mul(WAITING) {
            drop(Waits(&self.waiting));
            return Err(Why::Busy);
        }
        let waits = Waits(&self.waiting);
        // Closed never.
        let Ok(Ok(_permit)) = timeout_at(end, self.free.acquire()).await else { return Err(Why::Busy) };
        drop(waits);
        let asking = Instant::now();
        let answer = timeout_at(end, async {
            let reader = self.reader().await?;
            let answer = ask(&reader).await?;
            Ok((reader, answer))
        });
        let Ok(answer) = answer.await else {
            // Whoever waited long for a connection left PostgreSQL no time to answer.
            if asking.elapsed() < patience / 2 {
                return Err(Why::Busy);
            }
            self.failed(&Refused::late());
            return Err(Why::Refused(Refused::late()));
        };
        match answer {
            Ok((reader, answer)) => {
                self.idle.lock().push(reader);
                if self.breaker.lock().answered() {
                    tracing::info!("the archive can be read again");
                }
                Ok(answer)
            }
            // A connection on which something went wrong, or may go on, is of no more use.
            Err(refused) => {
                self.failed(&refused);
                Err(Why::Refused(refused))
            }
        }
    }

    fn failed(&self, why: &Refused) {
        if matches!(why, Refused::Away(_)) && self.breaker.lock().failed(Instant::now()) {
            tracing::error!(%why, "the archive cannot be read; only what is kept beside it can");
        }
        // What one of them met the others will meet.
        if matches!(why, Refused::Away(_)) {
            self.idle.lock().clear();
        }
    }

    async fn reader(&self) -> Result<Reader, Refused> {
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(reader) if reader.is_closed() => {}
                Some(reader) => return Ok(reader),
                None => break,
            }
        }
        let address = (self.address)().unwrap_or_default();
        Reader::connect(&address).await
    }
}
