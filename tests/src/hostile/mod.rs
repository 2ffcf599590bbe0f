//! The mix: everything that is bad input, from many sides at once, while two people talk.
//!
//! Owns: how it is played and what is judged. Must not know: the gateway's code.

mod honest;
mod kinds;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{API_KEY, Gateway, Options, SECRET, token};
pub use honest::Talk;
pub use kinds::Kind;

/// How long after the mix it may take until nobody is left: as long as the longest wait for a silent client.
const LEAVING: Duration = Duration::from_secs(90);
/// What memory may be more than before, once nobody is left: what an allocator keeps of a peak.
const KEPT: u64 = 64 * 1024 * 1024;
/// How long they talk undisturbed first.
const QUIET: Duration = Duration::from_secs(3);

/// How it is played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Draws who does what.
    pub seed: u64,
    /// How long.
    pub span: Duration,
    /// Attackers of each kind.
    pub each: usize,
}

/// What was seen.
pub struct Outcome {
    /// How it was played.
    pub plan: Plan,
    /// Attempts of each kind.
    pub tries: BTreeMap<Kind, u64>,
    /// The talk before.
    pub quiet: Talk,
    /// The talk meanwhile.
    pub meanwhile: Talk,
    /// Bytes of memory before, at the most, and after.
    pub memory: [u64; 3],
    /// Promises that were broken.
    pub broken: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, span, each } = self.plan;
        writeln!(f, "seed {seed}, {span:?}, {each} of each kind")?;
        for (kind, tries) in &self.tries {
            writeln!(f, "  {:<18}{tries:>9} tries", kind.name())?;
        }
        writeln!(f, "  undisturbed: {}\n  meanwhile:   {}", self.quiet, self.meanwhile)?;
        let [before, most, after] = self.memory.map(|bytes| bytes / 1024 / 1024);
        writeln!(f, "  memory: {before} MiB before, {most} MiB at the most, {after} MiB after")?;
        self.broken.iter().try_for_each(|broken| writeln!(f, "  BROKEN: {broken}"))
    }
}

/// Plays it on a node of its own.
///
/// # Errors
/// When it cannot be played; a promise that was broken is in the outcome.
pub async fn run(plan: Plan) -> Result<Outcome> {
    let gateway = Gateway::start(Options::brief()).await?;
    let address = [gateway.address().to_owned(), gateway.internal_address().to_owned()];
    let mut pair = honest::Pair::meet(&gateway).await?;
    let quiet = pair.talk(QUIET).await?;
    let before = memory(&gateway)?;
    let mut dice = StdRng::seed_from_u64(plan.seed);
    let until = Instant::now() + plan.span;
    let mut attackers = JoinSet::new();
    for kind in Kind::ALL {
        for _ in 0..plan.each {
            let aim = kinds::Aim { address: address.clone(), token: token("mallory")?, until };
            let seed = dice.random();
            attackers
                .spawn(async move { (kind, kinds::attack(kind, &aim, StdRng::seed_from_u64(seed)).await) });
        }
    }
    let watched = watch(&gateway, until);
    let (meanwhile, most) = tokio::join!(pair.talk(plan.span), watched);
    let mut outcome = Outcome {
        plan,
        tries: BTreeMap::new(),
        quiet,
        meanwhile: meanwhile.context("the talk was disturbed")?,
        memory: [before, most?, before],
        broken: Vec::new(),
    };
    while let Some(done) = attackers.join_next().await {
        let (kind, tries) = done?;
        *outcome.tries.entry(kind).or_default() += tries;
    }
    // They leave; nobody else may be left.
    outcome.broken.extend(pair.part(&gateway).await?);
    let left = timeout(LEAVING, quiet_for(&gateway)).await;
    if left.is_err() || matches!(left, Ok(Err(_))) {
        outcome.broken.push(format!("somebody is left: {:?}", left.map_err(|_| "too late")));
    }
    outcome.memory[2] = memory(&gateway)?;
    outcome.judge(&gateway).await?;
    Ok(outcome)
}

/// The most memory in use until then.
async fn watch(gateway: &Gateway, until: Instant) -> Result<u64> {
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(memory(gateway)?);
        sleep(Duration::from_millis(250)).await;
    }
    Ok(most)
}

impl Outcome {
    async fn judge(&mut self, gateway: &Gateway) -> Result<()> {
        let mut broken = Vec::new();
        // Wide, as a machine that does the attacking as well is slow by itself; but not without bound.
        let most = (self.quiet.at(0.5) * 100 + Duration::from_millis(500)).min(Duration::from_secs(1));
        // Where it stutters undisturbed, it may stutter more.
        let most = most.max(self.quiet.at(0.99) * 10);
        if self.meanwhile.at(0.99) > most {
            broken.push(format!("a send took {:?} (p99), {most:?} would do", self.meanwhile.at(0.99)));
        }
        if self.memory[2] > self.memory[0] + KEPT {
            broken.push("memory did not come back".to_owned());
        }
        let idle = self.tries.iter().find(|(_, tries)| **tries == 0);
        broken.extend(idle.map(|(kind, _)| format!("{} did nothing: it shows nothing", kind.name())));
        let stored = metric(gateway, "parlance_messages_accepted_total").await?;
        let said = self.quiet.acked() + self.meanwhile.acked();
        if (stored - said as f64).abs() > 0.5 {
            broken.push(format!("{stored} messages were stored, {said} were said"));
        }
        let ready = gateway.internal("GET", "/readyz", None, None).await?;
        if ready.status != 200 {
            broken.push(format!("not ready afterwards: {}", ready.body));
        }
        let log = gateway.log();
        for word in ["panicked", SECRET, API_KEY] {
            if log.contains(word) {
                broken.push(format!("{word:?} is in the log"));
            }
        }
        self.broken.append(&mut broken);
        Ok(())
    }
}

/// The sum of a metric over its labels.
///
/// # Errors
/// When the node does not answer.
pub async fn metric(gateway: &Gateway, name: &str) -> Result<f64> {
    let page = gateway.internal("GET", "/metrics", None, None).await?;
    let of = |line: &str| {
        let (known, value) = line.rsplit_once(' ')?;
        let known = known.split('{').next()?;
        if known == name { value.parse::<f64>().ok() } else { None }
    };
    Ok(page.body.lines().filter_map(of).sum())
}

/// Bytes of memory in use by a node.
///
/// # Errors
/// When it is not running.
pub fn memory(gateway: &Gateway) -> Result<u64> {
    let pid = gateway.pid().context("not running")?;
    let page = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = page.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Waits until nobody is connected to a node any more, but for who asks.
///
/// # Errors
/// When somebody stays.
pub async fn quiet(gateway: &Gateway) -> Result<()> {
    timeout(crate::PATIENCE * 3, quiet_for(gateway)).await.context("connections are left")?
}

async fn quiet_for(gateway: &Gateway) -> Result<()> {
    loop {
        let sockets = metric(gateway, "parlance_sockets").await?;
        ensure!(sockets >= 1.0, "more were counted off than on");
        if sockets <= 1.0 && metric(gateway, "parlance_connections").await? == 0.0 {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
