//! The flags of every scenario, and the stage on which it runs: target, clock, watched processes, progress.
//!
//! Must not know: any one scenario.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::load::procfs::{Watch, Watcher};
use crate::load::progress::Progress;
use crate::load::run::{Run, epoch_us, new_id};
use crate::load::schedule::Plan;
use crate::outcome::Threshold;
use crate::parts::{MADE, READY};
use crate::target::rooms::{self, Room};
use crate::target::{Place, Target};

/// The flags of every scenario.
#[derive(Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    pub target: Target,
    /// Seconds of load that do not count.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Messages per second over all senders, sent on schedule whatever the server does (open loop).
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Instead of a schedule: as fast as the server lets (closed loop).
    #[arg(long)]
    pub closed: bool,
    /// Messages each sender has on the way in a closed loop.
    #[arg(long, default_value_t = 1)]
    pub window: usize,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 200)]
    pub bytes: usize,
    /// Messages come at random distances, as from independent users, instead of even ones.
    #[arg(long)]
    pub random: bool,
    /// What is random is the same for the same seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What this run is called in its outcome.
    #[arg(long, default_value = "")]
    pub label: String,
    /// A local server process whose CPU time and memory is read: name=pid; repeatable. Of what is called redis…, the memory
    /// is told but not counted for connections.
    #[arg(long)]
    pub watch: Vec<Watch>,
    /// Writes the outcome to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Writes a page with the outcome's figures and plots to this file.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Load processes; they start at once, and their outcomes are joined.
    #[arg(long, default_value_t = 1)]
    pub processes: usize,
    /// A number that must hold, like delivery.p99_ms<=20 or deliveries_per_second>=1000; repeatable.
    #[arg(long)]
    pub threshold: Vec<Threshold>,
    /// No progress bar, no summary.
    #[arg(long)]
    pub quiet: bool,
    /// Seconds without anything arriving after which the rest counts as lost.
    #[arg(long, default_value_t = 10.0)]
    pub patience: f64,
    /// Which load process of how many this is: i/K.
    #[arg(long, hide = true, value_parser = part, default_value = "0/1")]
    pub part: Part,
    /// The run's id, the same for all load processes.
    #[arg(long, hide = true)]
    pub run: Option<String>,
}

/// Which load process of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Counts from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

fn part(text: &str) -> Result<Part> {
    let (index, of) = text.split_once('/').context("not i/K")?;
    let part = Part { index: index.parse()?, of: of.parse()? };
    ensure!(part.index < part.of, "not i/K");
    Ok(part)
}

impl Part {
    /// Whether the thing with this number is this process's.
    pub const fn has(self, number: usize) -> bool {
        number % self.of == self.index
    }

    /// The numbers below `count` that are this process's.
    pub fn of_all(self, count: usize) -> impl Iterator<Item = usize> {
        (self.index..count).step_by(self.of)
    }
}

impl Common {
    /// The open loop of so many senders.
    pub fn plan(&self, senders: usize) -> Plan {
        Plan {
            rate: self.rate,
            senders: senders.max(1),
            length: Duration::from_secs_f64(self.warmup + self.seconds),
            seed: self.random.then_some(self.seed),
        }
    }

    /// What makes this run comparable to another.
    pub fn settings(&self, outcome: &mut crate::outcome::Outcome) {
        outcome.setting("bytes", self.bytes as u64);
        if self.closed {
            outcome.setting("closed", true).setting("window", self.window as u64);
        } else {
            outcome.setting("rate", self.rate).setting("random", self.random);
        }
        outcome.setting("seconds", self.seconds).setting("warmup", self.warmup);
        if self.target.cross {
            outcome.setting("cross", true);
        }
        outcome.setting("processes", self.part.of as u64);
    }
}

/// Where a scenario runs.
pub struct Stage {
    /// The flags.
    pub common: Common,
    /// The target.
    pub place: Arc<Place>,
    /// The run.
    pub run: Arc<Run>,
    /// The line on the terminal.
    pub progress: Progress,
    /// The watched processes.
    pub watcher: Watcher,
    /// When it was opened, microseconds since 1970.
    pub opened: u64,
}

impl Stage {
    /// Finds the target and reads the servers' memory before the load comes.
    pub async fn open(common: &Common) -> Result<Self> {
        ensure!(common.rate > 0.0 && common.seconds > 0.0 && common.warmup >= 0.0, "no rate or no time");
        ensure!(common.window > 0, "nothing on the way");
        let id = common.run.clone().unwrap_or_else(new_id);
        let (warmup, length) =
            (Duration::from_secs_f64(common.warmup), Duration::from_secs_f64(common.seconds));
        Ok(Self {
            place: Arc::new(common.target.find().await?),
            run: Arc::new(Run::new(&id, warmup, length)),
            progress: Progress::new(common.quiet || common.part.of > 1),
            watcher: Watcher::new(&common.watch)?,
            opened: epoch_us(),
            common: common.clone(),
        })
    }

    /// Everything is set up: the clock starts, in all load processes at once.
    pub async fn begin(&self) -> Result<()> {
        if self.common.part.of == 1 {
            self.run.begin(epoch_us() + 1000);
            return Ok(());
        }
        println!("{READY}");
        let mut line = String::new();
        BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
        self.run.begin(line.trim().parse().context("no time to begin at")?);
        Ok(())
    }

    /// Makes conversations: once, before anybody of any load process enters them.
    pub async fn make(&self, rooms: &[Room]) -> Result<()> {
        rooms::create(&self.place, &self.run.id, rooms).await?;
        if self.common.part.of > 1 {
            println!("{MADE}");
        }
        Ok(())
    }

    /// Reads the servers' memory before the load comes once more: what is allocated only once has been.
    pub fn watch_again(&mut self) -> Result<()> {
        self.watcher = Watcher::new(&self.common.watch)?;
        Ok(())
    }

    /// Which part of the load is this process's.
    pub const fn part(&self) -> Part {
        self.common.part
    }
}
