//! Every node is replaced by one of a newer generation, one after the other, behind a real balancer, while stock clients and the
//! load generator's talk: who was sent away how often, what was lost, how soon everybody was back.
//!
//! Must not know: the gateway's code.

mod crowd;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::front::{Front, Kind, Place};
use crate::metrics::Samples;
use crate::{API_KEY, Gateway, Options, SECRET, built_bench};

use crowd::Crowd;
pub use crowd::Summary;

/// How long anything may take that depends on programs starting.
const LONG: Duration = Duration::from_secs(60);
/// Before the load generator measures.
const WARMUP: Duration = Duration::from_secs(1);

/// What is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Behind which balancer.
    pub balancer: Kind,
    /// How many nodes are replaced.
    pub nodes: usize,
    /// Stock clients.
    pub stock: usize,
    /// The protocols of the load generator's clients, each a process.
    pub dialects: Vec<String>,
    /// Rooms of each of them, and members of each room, of which one sends.
    pub rooms: usize,
    /// See above.
    pub members: usize,
    /// Messages of each process in a second.
    pub rate: f64,
    /// How long the load goes on; the rollout has to fit in.
    pub load: Duration,
    /// `drain.delay_ms`: the balancer has to notice in that time.
    pub delay: Duration,
    /// `drain.deadline_ms`.
    pub deadline: Duration,
    /// Where the logs of the nodes and the outcomes of the load generator are left.
    pub folder: Option<PathBuf>,
}

impl Default for Plan {
    /// What a test has time for.
    fn default() -> Self {
        Self {
            balancer: Kind::Haproxy,
            nodes: 3,
            stock: 15,
            dialects: ["sechat", "lingochat", "famly", "chatgenius", "socialhub"].map(str::to_owned).to_vec(),
            rooms: 4,
            members: 5,
            rate: 20.0,
            load: Duration::from_secs(30),
            delay: Duration::from_secs(3),
            deadline: Duration::from_secs(10),
            folder: None,
        }
    }
}

/// What came of one process of the load generator.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its protocol.
    pub dialect: String,
    /// How it ended.
    pub code: Option<i32>,
    /// Its outcome, as it writes it.
    pub outcome: Value,
}

impl Load {
    /// A figure of the outcome.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.outcome["figures"][name]["value"].as_f64()
    }

    /// A number of its checker.
    pub fn check(&self, name: &str) -> Option<u64> {
        self.outcome["checks"][name].as_u64()
    }

    /// The 99th percentile of what it took to be back, in milliseconds.
    pub fn back_p99_ms(&self) -> Option<f64> {
        self.outcome["times"]["recovered"]["p99"].as_f64().map(|micros| micros / 1000.0)
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The load generator's clients.
    pub loads: Vec<Load>,
    /// Stock clients.
    pub stock: Summary,
    /// How each old node ended, and how long it took to.
    pub ends: Vec<(ExitStatus, Duration)>,
    /// How long the rollout took.
    pub took: Duration,
}

impl Outcome {
    /// What is not as promised: a client that was not sent away, or (in the mean) more often than `bounces`, something lost, doubled or
    /// out of order, a node that did not end well.
    pub fn broken(&self, bounces: f64) -> Vec<String> {
        let is_fine = |mean: f64| (1.0..=bounces).contains(&mean);
        let mut broken = Vec::new();
        let mut look = |good: bool, what: String| {
            if !good {
                broken.push(what);
            }
        };
        let stock = &self.stock;
        look(
            stock.heard > 0 && stock.lost + stock.doubled + stock.disordered == 0,
            format!("stock clients: {stock:?}"),
        );
        look(is_fine(stock.bounces as f64 / stock.clients as f64), format!("stock clients: {stock:?}"));
        for load in &self.loads {
            let checks = ["lost", "doubled", "disordered"].map(|name| load.check(name));
            look(
                load.code == Some(0) && checks == [Some(0); 3],
                format!("{}: {}", load.dialect, load.outcome["checks"]),
            );
            let mean = load.figure("bounces_per_client");
            look(mean.is_some_and(is_fine), format!("{}: bounces {mean:?}", load.dialect));
        }
        for (status, took) in &self.ends {
            look(status.success(), format!("a node ended with {status} after {took:?}"));
        }
        broken
    }
}

/// Plays it; `None` where there is no such balancer.
///
/// # Errors
/// When it cannot be played.
pub async fn run(plan: &Plan) -> Result<Option<Outcome>> {
    let redis = Server::standalone().await?;
    // One place more than there are nodes: a new one is there before an old one goes.
    let places = (0..=plan.nodes).map(|_| Place::any()).collect::<Result<Vec<_>>>()?;
    let mut old = Vec::new();
    for place in &places[..plan.nodes] {
        old.push(Gateway::start(options(plan, &redis, place, "before")).await?);
    }
    let Some(front) = Front::start(plan.balancer, &places).await? else { return Ok(None) };
    for number in 0..plan.nodes {
        front.until_takes(number, true).await?;
    }
    for (room, members) in crowd::rooms(plan.stock) {
        old[0].conversation(&room, &members).await?;
    }
    let crowd = Crowd::enter(front.address(), plan.stock, Duration::from_millis(500)).await?;
    let folder = tempfile::tempdir()?;
    let benches = plan.dialects.iter().map(|dialect| bench(plan, &front, &old[0], (dialect, &folder)));
    let benches = benches.collect::<Result<Vec<Child>>>()?;
    let load = plan.stock + plan.dialects.len() * plan.rooms * plan.members;
    until_there(&old[0], load as u64).await?;
    until_talking(plan, &old, &crowd).await?;

    let (began, mut ends, mut new, mut gone) = (Instant::now(), Vec::new(), Vec::new(), Vec::new());
    let mut free = plan.nodes;
    for (number, mut leaving) in old.into_iter().enumerate() {
        new.push(Gateway::start(options(plan, &redis, &places[free], "after")).await?);
        front.until_takes(free, true).await?;
        let asked = Instant::now();
        ends.push((leaving.sigterm().await?, asked.elapsed()));
        gone.push(leaving);
        front.until_takes(number, false).await?;
        free = number;
    }
    let took = began.elapsed();
    let mut loads = Vec::new();
    for (dialect, bench) in plan.dialects.iter().zip(benches) {
        loads.push(ended(bench, dialect, &folder, plan).await?);
    }
    if let Some(folder) = &plan.folder {
        save(folder, gone.iter().chain(&new), &loads)?;
    }
    let stock = crowd.leave().await?;
    Ok(Some(Outcome { loads, stock, ends, took }))
}

fn save<'a>(folder: &Path, nodes: impl Iterator<Item = &'a Gateway>, loads: &[Load]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (number, node) in nodes.enumerate() {
        std::fs::write(folder.join(format!("node-{number}.log")), node.log())?;
    }
    for load in loads {
        std::fs::write(file(folder, &load.dialect), serde_json::to_vec_pretty(&load.outcome)?)?;
    }
    Ok(())
}

fn options(plan: &Plan, redis: &Server, place: &Place, generation: &str) -> Options {
    Options::default()
        .at(place)
        .env("PARLANCE_REDIS_URL", &redis.url())
        .env("PARLANCE_NO_LIMITS", "true")
        .env("PARLANCE_DRAIN_GENERATION", generation)
        .env("PARLANCE_DRAIN_DELAY_MS", &plan.delay.as_millis().to_string())
        .env("PARLANCE_DRAIN_DEADLINE_MS", &plan.deadline.as_millis().to_string())
}

fn bench(plan: &Plan, front: &Front, api: &Gateway, (dialect, folder): (&str, &TempDir)) -> Result<Child> {
    let mut command = Command::new(built_bench()?);
    command
        .arg("rollout")
        .args([
            "--nodes",
            &format!("ws://{}", front.address()),
            "--api",
            &format!("http://{}", api.internal_address()),
        ])
        .args(["--secret", SECRET, "--api-key", API_KEY, "--dialect", dialect, "--quiet"])
        .args(["--rooms", &plan.rooms.to_string(), "--members", &plan.members.to_string()])
        .args(["--rate", &plan.rate.to_string(), "--warmup", &WARMUP.as_secs_f64().to_string()])
        .args(["--seconds", &plan.load.as_secs_f64().to_string(), "--patience", "20"])
        .arg("--json")
        .arg(file(folder.path(), dialect))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command.spawn().context("cannot start the load generator")
}

fn file(folder: &Path, dialect: &str) -> std::path::PathBuf {
    folder.join(format!("{dialect}.json"))
}

async fn ended(mut bench: Child, dialect: &str, folder: &TempDir, plan: &Plan) -> Result<Load> {
    let status =
        timeout(plan.load + LONG, bench.wait()).await.context("the load generator does not end")??;
    let written =
        std::fs::read(file(folder.path(), dialect)).context("the load generator left no outcome")?;
    Ok(Load { dialect: dialect.to_owned(), code: status.code(), outcome: serde_json::from_slice(&written)? })
}

/// Until so many connections are at the nodes.
async fn until_there(node: &Gateway, wanted: u64) -> Result<()> {
    let until = Instant::now() + LONG;
    loop {
        let (_, said) = node.api("GET", "/api/v1/nodes", None).await?;
        let nodes = said["nodes"].as_array().with_context(|| said.to_string())?;
        let there: u64 = nodes.iter().filter_map(|node| node["connections"].as_u64()).sum();
        if there >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{there} of {wanted} are there");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Until every load generator has been sending for two seconds: before that its clients may still be entering their rooms,
/// and hear nothing of what they do not wait for.
async fn until_talking(plan: &Plan, nodes: &[Gateway], crowd: &Crowd) -> Result<()> {
    let until = Instant::now() + LONG;
    loop {
        let mut pages = Vec::new();
        for node in nodes {
            pages.push(Samples::of(node).await?);
        }
        // Stock clients speak one of the dialects.
        let stock = crowd.said() as f64;
        let talks = |dialect: &String| {
            let of = |page: &Samples| page.sum("parlance_messages_accepted_total", &[("dialect", dialect)]);
            let others = if dialect == "famly" { stock } else { 0.0 };
            pages.iter().map(of).sum::<f64>() - others >= 2.0 * plan.rate
        };
        if plan.dialects.iter().all(talks) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "not everybody talks");
        sleep(Duration::from_millis(100)).await;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "clients                  bounces  most   lost  doubled  back p50   p99")?;
        let stock = &self.stock;
        let percentile = |share: usize| {
            let last = stock.back.len().saturating_sub(1);
            stock.back.get(last * share / 100).map_or(0.0, Duration::as_secs_f64)
        };
        let bounces = stock.bounces as f64 / stock.clients.max(1) as f64;
        writeln!(
            f,
            "{:<16} {:>6} {bounces:>9.2} {:>5} {:>6} {:>8} {:>8.2}s {:>5.2}s",
            "socket.io-client",
            stock.clients,
            stock.bounces_most,
            stock.lost,
            stock.doubled,
            percentile(50),
            percentile(99)
        )?;
        for load in &self.loads {
            let figure = |name| load.figure(name).unwrap_or(f64::NAN);
            let check = |name| load.check(name).map_or_else(|| "?".to_owned(), |number| number.to_string());
            let back =
                |name: &str| load.outcome["times"]["recovered"][name].as_f64().unwrap_or(f64::NAN) / 1e6;
            let clients = figure("came_back") / figure("bounces_per_client");
            let anew = figure("came_back_anew");
            if anew > 0.0 {
                writeln!(f, "{:<16} {anew:>6.0} were told that their session could not be gone on with", "")?;
            }
            writeln!(
                f,
                "{:<16} {clients:>6.0} {:>9.2} {:>5} {:>6} {:>8} {:>8.2}s {:>5.2}s",
                load.dialect,
                figure("bounces_per_client"),
                figure("bounces_most"),
                check("lost"),
                check("doubled"),
                back("p50"),
                back("p99")
            )?;
        }
        let ends: Vec<String> =
            self.ends.iter().map(|(status, took)| format!("{took:.1?} ({status})")).collect();
        write!(f, "{} nodes replaced in {:.1?}; they took {}", self.ends.len(), self.took, ends.join(", "))
    }
}
