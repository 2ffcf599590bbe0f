//! Connections that do nothing: what each costs in memory, and in CPU time while its pings are answered.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use tokio::time::sleep;

use super::common::{Common, Stage};
use super::connect_storm::first;
use super::finish;
use super::hold::{Crowd, Holder};
use crate::outcome::{Better, Join, Outcome};
use crate::target::rooms::{self, Room};

/// Connections that do nothing: memory of each, and CPU time while --seconds pass and pings are answered.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many connections, each of its own user.
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// Rooms each has joined.
    #[arg(long, default_value_t = 0)]
    pub rooms: usize,
    /// Members of a room.
    #[arg(long, default_value_t = 100)]
    pub room_size: usize,
    /// Seconds to let things settle before memory is read.
    #[arg(long, default_value_t = 3.0)]
    pub settle: f64,
}

impl Args {
    fn user(stage: &Stage, index: usize) -> String {
        format!("pb{}i{index}", stage.run.id)
    }

    /// The rooms of this connection: everybody of a block is in the same ones.
    fn rooms_of(&self, stage: &Stage, index: usize) -> Vec<String> {
        let block = index / self.room_size.max(1);
        let name = |room| rooms::name(&stage.place, &stage.run.id, block * self.rooms + room);
        (0..self.rooms).map(name).collect()
    }

    async fn create(&self, stage: &Stage) -> Result<()> {
        let size = self.room_size.max(1);
        let mut all = Vec::new();
        for block in stage.part().of_all(self.connections.div_ceil(size)) {
            let inside = block * size..((block + 1) * size).min(self.connections);
            let members: Vec<String> = inside.map(|index| Self::user(stage, index)).collect();
            for name in self.rooms_of(stage, block * size) {
                all.push(Room { name, members: members.clone() });
            }
        }
        stage.make(&all).await
    }
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.connections > 0, "nobody comes");
    let mut stage = Stage::open(common).await?;
    args.create(&stage).await?;
    first(&mut stage).await?;
    let (size, part) = (args.room_size.max(1), stage.part());
    let holder =
        |index| Holder { user: Args::user(&stage, index), index, rooms: args.rooms_of(&stage, index) };
    let mine: Vec<Holder> =
        (0..args.connections).filter(|index| part.has(index / size)).map(holder).collect();
    let crowd = Crowd::open(&stage, mine, common.target.concurrency);
    let held = crowd.wait(&stage).await;
    stage.progress.show("settling", 1.0, "");
    sleep(Duration::from_secs_f64(args.settle)).await;
    stage.begin().await?;
    let window = finish::measure(&mut stage, |_| true).await?;
    let mut outcome = finish::outcome(&stage, "idle", &window)?;
    outcome.series.retain(|series| series.name != "deliveries");
    outcome.setting("connections", args.connections as u64).setting("rooms", args.rooms as u64);
    outcome.setting("room_size", args.room_size as u64);
    outcome.figure("connections", held as f64, "", Better::None, Join::Sum);
    outcome.figure("connection_seconds", held as f64 * window.seconds, "s", Better::None, Join::Sum);
    outcome.memory("rss_kib_per_connection", "connections");
    outcome.cost("cpu_us_per_connection_second", "connection_seconds");
    outcome.checks.errors = stage.run.errors();
    crowd.close().await?;
    Ok(outcome)
}
