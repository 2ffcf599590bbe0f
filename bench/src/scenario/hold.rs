//! Connections that only stay: opened on a schedule or so many at once, timed, and closed together.
//!
//! Must not know: why.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::common::Stage;
use crate::load::run::{Run, Timing};
use crate::net::Line;
use crate::target::{Place, Plug, Side};

/// Many connections.
pub struct Crowd {
    tasks: JoinSet<()>,
    opened: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    close: watch::Sender<bool>,
}

/// Who a connection of a crowd is, and what it joins.
#[derive(Debug, Clone)]
pub struct Holder {
    /// As whom.
    pub user: String,
    /// Counts the connections of the run.
    pub index: usize,
    /// Which rooms it joins.
    pub rooms: Vec<String>,
}

impl Crowd {
    /// Opens connections for `holders`, so many at once.
    pub fn open(stage: &Stage, holders: Vec<Holder>, in_flight: usize) -> Self {
        let (close, closed) = watch::channel(false);
        let turns = Arc::new(Semaphore::new(in_flight.max(1)));
        let mut crowd = Self { tasks: JoinSet::new(), opened: Arc::default(), failed: Arc::default(), close };
        for holder in holders {
            let (run, place, turns) = (stage.run.clone(), stage.place.clone(), turns.clone());
            let (opened, failed, closed) = (crowd.opened.clone(), crowd.failed.clone(), closed.clone());
            crowd.tasks.spawn(async move {
                match Box::pin(come(&run, &place, &turns, holder)).await {
                    Ok(line) => {
                        opened.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = stay(line, place.speech().pong(), closed).await {
                            run.failed("connection", &error);
                        }
                    }
                    Err(error) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        run.failed("connect", &error);
                    }
                }
            });
        }
        crowd
    }

    /// Waits until all are in or have failed; how many are in.
    pub async fn wait(&self, stage: &Stage) -> usize {
        let all = self.tasks.len();
        loop {
            let opened = self.opened.load(Ordering::Relaxed);
            if opened + self.failed.load(Ordering::Relaxed) >= all {
                stage.progress.clear();
                return opened;
            }
            stage.progress.show("connecting", opened as f64 / all as f64, &format!("{opened} of {all}"));
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Closes all and waits until that is done.
    pub async fn close(mut self) -> Result<()> {
        self.close.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a connection's task")?;
        }
        Ok(())
    }
}

async fn come(run: &Arc<Run>, place: &Place, turns: &Semaphore, holder: Holder) -> Result<Line> {
    let turn = turns.acquire().await?;
    let begun = run.now();
    let mut line =
        place.connect(Plug { user: &holder.user, index: holder.index, side: Side::Receiver }).await?;
    run.time(holder.index, Timing::Connect, begun);
    let rooms = if place.polls(Side::Receiver) { &[] } else { &holder.rooms[..] };
    for (number, room) in rooms.iter().enumerate() {
        place.join(&mut line, room, number as u64, &mut |_| {}).await?;
    }
    drop(turn);
    Ok(line)
}

/// Answers pings until all are closed.
async fn stay(mut line: Line, pong: Option<&'static str>, mut closed: watch::Receiver<bool>) -> Result<()> {
    let over = closed.wait_for(|closed| *closed);
    tokio::pin!(over);
    loop {
        let mut asked = false;
        let mut each = |payload: &[u8]| asked |= payload == b"{}";
        tokio::select! {
            biased;
            turned = line.turn(&mut each) => turned?,
            _ = &mut over => return Ok(()),
        }
        if let (Some(pong), true) = (pong, asked) {
            line.send(pong)?;
        }
    }
}
