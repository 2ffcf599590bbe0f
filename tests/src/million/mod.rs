//! Very many messages through two nodes into the archive, while PostgreSQL, Redis and a node are killed: is each of them there once,
//! in its place, as it was sent?
//!
//! Must not know: the gateway's code.

mod check;
mod lanes;

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use tokio::time::{Instant, sleep};

use crate::metrics::Samples;
use crate::{Gateway, Options, Postgres};

use lanes::Lanes;

/// Between two looks at how much was sent.
const LOOK: Duration = Duration::from_millis(10);
/// Between two looks at what a node says.
const PAGE: Duration = Duration::from_millis(500);
/// Nothing new in the archive for so long: it has stopped.
const STANDSTILL: Duration = Duration::from_secs(120);

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many messages, about: each sender sends as many as any other.
    pub messages: u64,
    /// Into how many conversations.
    pub conversations: usize,
    /// Senders in each; one waits for an acknowledgement before it sends more.
    pub senders: usize,
    /// Steps in a transaction: `archive.batch`.
    pub batch: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { messages: 1_000_000, conversations: 40, senders: 2, batch: 500 }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Acknowledged messages.
    pub sent: u64,
    /// Of these, sent once more though they were acknowledged.
    pub repeated: u64,
    /// Calls that failed and were made again.
    pub failed: u64,
    /// How long the sending took.
    pub sending: Duration,
    /// How long after the last acknowledgement the last one was in the archive.
    pub behind: Duration,
    /// The greatest lag that a node told.
    pub lag: Duration,
    /// And how many steps waited then at most.
    pub backlog: u64,
    /// What is not as promised.
    pub broken: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |over: Duration| self.sent as f64 / over.as_secs_f64();
        writeln!(
            f,
            "acknowledged: {} ({} of them were sent again; {} calls failed)",
            self.sent, self.repeated, self.failed
        )?;
        writeln!(f, "sending: {:.1} s, {:.0} in a second", self.sending.as_secs_f64(), rate(self.sending))?;
        writeln!(
            f,
            "archived: {:.1} s later, {:.0} in a second over all",
            self.behind.as_secs_f64(),
            rate(self.sending + self.behind)
        )?;
        write!(f, "behind at most: {:.1} s, {} steps", self.lag.as_secs_f64(), self.backlog)
    }
}

/// What is killed, and what comes back, when so many thousandths are sent.
const FAULTS: &[(u64, Fault)] = &[
    (100, Fault::KillPostgres),
    (180, Fault::RestartRedis),
    (250, Fault::StartPostgres),
    (400, Fault::KillNode),
    (450, Fault::StartNode),
    (550, Fault::KillPostgres),
    (650, Fault::StartPostgres),
];

/// So many thousandths more are sent before it is brought about.
const SLACK: u64 = 40;

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillPostgres,
    StartPostgres,
    RestartRedis,
    KillNode,
    StartNode,
}

struct Rig {
    postgres: Postgres,
    redis: Server,
    a: Gateway,
    b: Gateway,
}

impl Rig {
    async fn start(plan: &Plan) -> Result<Self> {
        let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
        let toml = format!("[archive]\nurl = \"{}\"\nbatch = {}\n", postgres.url(), plan.batch);
        let options = || {
            let options = Options::default().config(&toml).env("PARLANCE_LIMITS_RATES", "false");
            options.env("PARLANCE_REDIS_URL", &redis.url())
        };
        let (a, b) = (Gateway::start(options()).await?, Gateway::start(options()).await?);
        Ok(Self { postgres, redis, a, b })
    }

    async fn bring_about(&mut self, fault: Fault) -> Result<()> {
        println!("{fault:?}");
        match fault {
            Fault::KillPostgres => self.postgres.kill9(),
            Fault::StartPostgres => self.postgres.restart().await,
            Fault::RestartRedis => self.redis.restart().await,
            Fault::KillNode => self.a.kill9(),
            Fault::StartNode => self.a.restart().await,
        }
    }
}

/// The most that the node which is not killed told.
#[derive(Default)]
struct Most {
    lag: f64,
    backlog: f64,
    looked: Option<Instant>,
}

impl Most {
    async fn look(&mut self, node: &Gateway) -> Result<()> {
        if self.looked.is_some_and(|at| at.elapsed() < PAGE) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let page = Samples::of(node).await?;
        self.lag = self.lag.max(page.sum("parlance_archive_lag_seconds", &[]));
        self.backlog = self.backlog.max(page.sum("parlance_archive_backlog_steps", &[]));
        Ok(())
    }
}

/// Plays it.
///
/// # Errors
/// When a program does not start, or the archive stands still. What is not as promised is in the outcome.
pub async fn run(plan: &Plan) -> Result<Outcome> {
    ensure!(plan.messages > 0 && plan.conversations > 0 && plan.senders > 0, "there is nothing to send");
    let mut rig = Rig::start(plan).await?;
    let began = Instant::now();
    let nodes = [&rig.a, &rig.b].map(|node| node.internal_address().to_owned());
    let mut lanes = Lanes::begin(plan, nodes, &rig.b).await?;
    let (mut faults, mut most) = (FAULTS.iter(), Most::default());
    let mut next = faults.next();
    // However few they are, not all are sent while a program starts.
    let hold = |lanes: &Lanes, next: Option<&(u64, Fault)>| {
        lanes.hold_at(next.map_or(u64::MAX, |(at, _)| lanes.all() * (at + SLACK) / 1_000));
    };
    hold(&lanes, next);
    while !lanes.are_done().await? {
        if let Some((at, fault)) = next.filter(|(at, _)| lanes.sent() * 1_000 >= lanes.all() * at) {
            println!("{:.1} s, {} sent, {at} ‰: ", began.elapsed().as_secs_f64(), lanes.sent());
            rig.bring_about(*fault).await?;
            next = faults.next();
            hold(&lanes, next);
        }
        most.look(&rig.b).await?;
        sleep(LOOK).await;
    }
    ensure!(next.is_none(), "all was sent before everything was killed: {next:?}");
    let sending = began.elapsed();
    println!("{:.1} s: all is sent", sending.as_secs_f64());
    let behind = archived(&rig, &lanes, &mut most).await?;
    let broken = check::broken(&rig.postgres, plan, lanes.sent()).await?;
    Ok(Outcome {
        sent: lanes.sent(),
        repeated: lanes.repeated(),
        failed: lanes.failed(),
        sending,
        behind,
        lag: Duration::from_secs_f64(most.lag),
        backlog: most.backlog as u64,
        broken,
    })
}

/// Waits until everything is in the archive, or nothing comes any more: then what is missing is seen by the check.
async fn archived(rig: &Rig, lanes: &Lanes, most: &mut Most) -> Result<Duration> {
    let began = Instant::now();
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        let there = rig.postgres.number_within("SELECT count(*) FROM parlance.messages", STANDSTILL).await?;
        if there.unsigned_abs() >= lanes.sent() {
            return Ok(began.elapsed());
        }
        if there != before {
            (before, moved) = (there, Instant::now());
        }
        if moved.elapsed() > STANDSTILL {
            println!("it stands still; at most {} steps waited", most.backlog);
            return Ok(began.elapsed());
        }
        most.look(&rig.b).await?;
        sleep(PAGE).await;
    }
}
