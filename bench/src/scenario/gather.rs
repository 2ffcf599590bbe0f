//! Bringing many connections in: so many handshakes at once, and everybody is in before the load begins. And bringing
//! back those that were cut.
//!
//! Must not know: what they do then.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::common::Stage;
use super::ear::Ear;
use crate::load::progress::Progress;
use crate::net::Line;
use crate::speech::Recovery;
use crate::target::{Entry, Place, Plug, Side};

/// How long somebody who was refused waits before the next attempt: as stock clients, but without their growing
/// patience, because a run is short.
const AGAIN: Duration = Duration::from_millis(200);

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

impl Seat {
    fn plug(&self) -> Plug<'_> {
        Plug { user: &self.user, index: self.index, side: self.side }
    }
}

/// What one needs to come back.
#[derive(Debug, Default)]
pub struct Way {
    pid: Option<String>,
    /// The last event one had.
    pub offset: Option<String>,
    attempts: usize,
    /// Its session was not gone on with.
    pub anew: bool,
}

/// Where connections wait for their turn to come in, and say that they are.
#[derive(Clone)]
pub struct Gate {
    place: Arc<Place>,
    turns: Arc<Semaphore>,
    results: mpsc::Sender<Result<()>>,
    cuts: watch::Receiver<u64>,
    comes_back: bool,
}

/// The other end of a gate.
pub struct Arrivals {
    results: mpsc::Receiver<Result<()>>,
    progress: Progress,
    /// Cuts every connection when it changes.
    pub cuts: watch::Sender<u64>,
}

impl Gate {
    /// A gate of this stage; whoever is cut comes back when `comes_back`.
    pub fn new(stage: &Stage, comes_back: bool) -> (Self, Arrivals) {
        let (sender, results) = mpsc::channel(1024);
        let (cuts, heard) = watch::channel(0);
        let turns = Arc::new(Semaphore::new(stage.common.target.concurrency.max(1)));
        let gate = Self { place: stage.place.clone(), turns, results: sender, cuts: heard, comes_back };
        (gate, Arrivals { results, progress: stage.progress.clone(), cuts })
    }

    /// Whether those who are cut come back.
    pub const fn comes_back(&self) -> bool {
        self.comes_back
    }

    /// Ends when connections are cut; never without anybody who might.
    pub async fn cut(&self) {
        if self.comes_back {
            let mut cuts = self.cuts.clone();
            // Earlier ones were others'.
            cuts.mark_unchanged();
            if cuts.changed().await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Connects and joins when it is one's turn; `None` when that failed.
    pub async fn enter(&self, seat: &Seat) -> Option<(Line, Way)> {
        let turn = self.turns.acquire().await;
        let mut way = Way::default();
        let entered = self.connect(seat, &mut way, &mut |_| {}).await;
        drop(turn);
        let (line, result) = match entered.with_context(|| format!("{} cannot come in", seat.user)) {
            Ok(line) => (Some((line, way)), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody waits any more after the first failure.
        let _ = self.results.send(result).await;
        line
    }

    /// Comes back, as long as it takes; `None` when the run is over before.
    pub async fn come_back(&self, seat: &Seat, way: &mut Way, ear: &mut Ear) -> Option<Line> {
        let run = ear.run.clone();
        let attempts = async {
            loop {
                way.attempts += 1;
                let turn = self.turns.acquire().await;
                let line =
                    self.connect(seat, way, &mut |packet: &[u8]| ear.hear(packet, &mut |_, _, _| {})).await;
                drop(turn);
                match line {
                    Ok(line) => return line,
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        tokio::select! {
            line = attempts => Some(line),
            () = run.stop.cancelled() => None,
        }
    }

    async fn connect(
        &self,
        seat: &Seat,
        way: &mut Way,
        missed: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Line> {
        let recovery = Recovery { pid: way.pid.clone(), offset: way.offset.clone(), recovered: false };
        let dial = self.place.dial(seat.plug(), way.attempts);
        let mut entry = Entry { speaker: self.place.speaker(&seat.user)?, dial, side: seat.side, recovery };
        let mut line = self.place.enter(&mut entry, missed).await?;
        way.anew = way.pid.is_some() && !entry.recovery.recovered;
        way.pid = entry.recovery.pid;
        let restored = entry.recovery.recovered || (way.attempts > 0 && self.place.speech().restores());
        if !restored && !self.place.polls(seat.side) {
            for (number, room) in seat.rooms.iter().enumerate() {
                self.place.join(&mut line, room, number as u64, missed).await?;
            }
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
                self.progress.show(
                    "joining",
                    arrived as f64 / count as f64,
                    &format!("{arrived} of {count}"),
                );
            }
        }
        self.progress.clear();
        Ok(())
    }
}
