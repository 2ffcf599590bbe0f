//! Bringing many connections in: so many handshakes at once, and everybody is in before the load begins.
//!
//! Must not know: what they do then.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, mpsc};

use super::common::Stage;
use crate::load::progress::Progress;
use crate::net::Line;
use crate::target::{Place, Plug, Side};

/// A place at the target.
#[derive(Debug, Clone)]
pub struct Seat {
    /// As whom.
    pub user: String,
    /// Counts the connections of the run.
    pub index: usize,
    /// Which nodes it may go to.
    pub side: Side,
    /// Which rooms it joins.
    pub rooms: Vec<String>,
}

/// Where connections wait for their turn to come in, and say that they are.
#[derive(Clone)]
pub struct Gate {
    place: Arc<Place>,
    turns: Arc<Semaphore>,
    results: mpsc::Sender<Result<()>>,
}

/// The other end of a gate.
pub struct Arrivals {
    results: mpsc::Receiver<Result<()>>,
    progress: Progress,
}

impl Gate {
    /// A gate of this stage.
    pub fn new(stage: &Stage) -> (Self, Arrivals) {
        let (sender, results) = mpsc::channel(1024);
        let turns = Arc::new(Semaphore::new(stage.common.target.concurrency.max(1)));
        let gate = Self { place: stage.place.clone(), turns, results: sender };
        (gate, Arrivals { results, progress: stage.progress.clone() })
    }

    /// Connects and joins when it is one's turn; `None` when that failed.
    pub async fn enter(self, seat: Seat) -> Option<Line> {
        let turn = self.turns.acquire().await;
        let entered = self.connect(&seat).await.with_context(|| format!("{} cannot come in", seat.user));
        drop(turn);
        let (line, result) = match entered {
            Ok(line) => (Some(line), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody waits any more after the first failure.
        let _ = self.results.send(result).await;
        line
    }

    async fn connect(&self, seat: &Seat) -> Result<Line> {
        let plug = Plug { user: &seat.user, index: seat.index, side: seat.side };
        let mut line = self.place.connect(plug).await?;
        for (number, room) in seat.rooms.iter().enumerate() {
            self.place.join(&mut line, room, number as u64).await?;
        }
        Ok(line)
    }
}

impl Arrivals {
    /// Waits until so many are in; the first failure is everybody's.
    pub async fn wait(&mut self, count: usize) -> Result<()> {
        for arrived in 0..count {
            self.results.recv().await.context("nobody comes")??;
            if arrived % 50 == 0 {
                self.progress.show("joining", arrived as f64 / count as f64, &format!("{arrived} of {count}"));
            }
        }
        self.progress.clear();
        Ok(())
    }
}
