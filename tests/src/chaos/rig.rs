//! The nodes, their Redis and the balancer of one run.
//!
//! Owns: processes, and what the balancer knows of them. Must not know: clients, verdicts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use parlance_redis_rig::Proxy;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::{Target, Targets};
use super::faults::Fault;
use super::history::{Recorder, Sample, What};
use super::outside::Outside;
use super::scenario::Scenario;
use super::store::{Store, usage};
use crate::http::Request;
use crate::{Gateway, Options};

/// Between two probes of the balancer, and how long one may take.
const PROBE: Duration = Duration::from_millis(200);
const PROBE_PATIENCE: Duration = Duration::from_millis(600);

/// How long a node may drain whose deadline is to pass, in milliseconds.
pub const DRAIN_MS: u64 = 3000;

/// What balancer and sampler know of a node.
#[derive(Debug, Clone)]
struct Known {
    node: usize,
    public: String,
    internal: String,
    pid: Option<u32>,
    /// New clients may be sent there.
    takes: bool,
}

/// A shared list of nodes.
#[derive(Clone, Default)]
struct Directory(Arc<Mutex<Vec<Known>>>);

impl Directory {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See the module.
pub struct Rig {
    /// By number; a node that is gone for good is `None`.
    pub nodes: Vec<Option<Gateway>>,
    /// What they share.
    pub store: Store,
    /// The way of each node to Redis, where there is one to spoil.
    pub proxies: Vec<Proxy>,
    /// The nodes that are ready.
    pub targets: Targets,
    /// What the nodes write to and tell, where there is something.
    pub outside: Option<Outside>,
    /// What happened.
    pub notes: Recorder,
    scenario: Scenario,
    binary: PathBuf,
    directory: Directory,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rig {
    /// Starts Redis and the nodes.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(scenario: &Scenario, notes: Recorder) -> Result<Self> {
        let store = Store::start(scenario.topology).await?;
        let mut rig = Self {
            nodes: Vec::new(),
            store,
            proxies: Vec::new(),
            targets: Targets::default(),
            outside: if scenario.outside { Some(Outside::start(scenario.seed).await?) } else { None },
            notes,
            scenario: scenario.clone(),
            binary: binary()?,
            directory: Directory::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for _ in 0..scenario.nodes {
            rig.add_node().await?;
        }
        let (directory, targets) = (rig.directory.clone(), rig.targets.clone());
        rig.background(async move { probe(directory, targets).await });
        let (directory, notes, ports) = (rig.directory.clone(), rig.notes.clone(), rig.store.ports());
        rig.background(async move { sample(directory, notes, ports).await });
        Ok(rig)
    }

    fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// Starts one more node and says which it is.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn add_node(&mut self) -> Result<usize> {
        let node = self.nodes.len();
        let mut url = self.store.url();
        if self.scenario.faults().any(Fault::needs_proxy) {
            let proxy = Proxy::start(self.store.single()?.port(), self.scenario.seed + node as u64).await?;
            url = proxy.url();
            self.proxies.push(proxy);
        }
        let mut options = Options::default()
            .binary(&self.binary)
            .env("PARLANCE_REDIS_URL", &url)
            // The last look at a conversation's log is to see all of it.
            .env("PARLANCE_RETENTION_ENTRIES", "100000");
        if let Some(outside) = &self.outside {
            options = options.config(&outside.config());
        }
        for (name, value) in self.extras(node) {
            options = options.env(name, &value);
        }
        let gateway = Gateway::start(options).await?;
        self.directory.with(|all| all.push(known(node, &gateway)));
        self.nodes.push(Some(gateway));
        Ok(node)
    }

    /// What a node is told because of the faults to come.
    fn extras(&self, node: usize) -> Vec<(&'static str, String)> {
        let mut extras = Vec::new();
        if self.scenario.has(Fault::RedisEmpty) {
            // Or a message that comes before the backend's seeding makes a conversation of its author alone.
            extras.push(("PARLANCE_MEMBERSHIP", "managed".to_owned()));
        }
        if self.scenario.has(Fault::DrainDeadline) {
            extras.push(("PARLANCE_DRAIN_DEADLINE_MS", DRAIN_MS.to_string()));
        }
        if self.scenario.faults().any(Fault::waits) {
            extras.push(("PARLANCE_ACK_LEVEL", "redis-wait".to_owned()));
        }
        if self.scenario.has(Fault::ClockSkew) && (1..=2).contains(&node) {
            let skew = if node == 1 { "60000" } else { "-60000" };
            extras.push(("PARLANCE_TEST_CLOCK_SKEW_MS", skew.to_owned()));
        }
        let at = 20 + self.scenario.seed % 30;
        if node == 0 && self.scenario.has(Fault::CrashAfterAppend) {
            extras.push(("PARLANCE_FAILPOINTS", format!("after-append=abort@{at}")));
        }
        if node == 0 && self.scenario.has(Fault::CrashBeforeAppend) {
            extras.push(("PARLANCE_FAILPOINTS", format!("before-append=abort@{at}")));
        }
        if node == 1 && self.scenario.has(Fault::DroppedFrames) {
            let drops = format!("drop-publication@5:{}", self.scenario.seed);
            extras.push(("PARLANCE_FAILPOINTS", drops));
        }
        extras
    }

    /// A node that runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn any(&self) -> Result<&Gateway> {
        let running = self.nodes.iter().flatten().find(|node| node.pid().is_some());
        running.context("no node runs")
    }

    /// One of the nodes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn node(&mut self, node: usize) -> Result<&mut Gateway> {
        self.nodes.get_mut(node).and_then(Option::as_mut).with_context(|| format!("node {node} is gone"))
    }

    /// Starts a killed node again.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self, node: usize) -> Result<()> {
        self.node(node)?.restart().await?;
        let pid = self.node(node)?.pid();
        self.directory.with(|all| {
            all.iter_mut().filter(|known| known.node == node).for_each(|known| known.pid = pid);
        });
        Ok(())
    }

    /// Sends new clients to these nodes only.
    pub fn prefer(&self, nodes: &[usize]) {
        self.directory.with(|all| all.iter_mut().for_each(|known| known.takes = nodes.contains(&known.node)));
        self.refresh_targets();
    }

    fn refresh_targets(&self) {
        let takes =
            self.directory.with(|all| all.iter().filter(|k| k.takes).map(|k| k.node).collect::<Vec<_>>());
        let kept = self.targets.all().into_iter().filter(|target| takes.contains(&target.node)).collect();
        self.targets.set(kept);
    }

    /// A node has ended for good.
    pub fn forget(&self, node: usize) {
        self.directory.with(|all| all.retain(|known| known.node != node));
    }

    /// Sets conversations and members, as a backend does.
    ///
    /// # Errors
    /// When no node does it in time.
    pub async fn seed(&self, conversations: &BTreeMap<String, Vec<String>>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        for (id, members) in conversations {
            let body = json!({ "id": id, "type": "group", "members": members });
            loop {
                let asked = self.any()?.api("POST", "/api/v1/conversations", Some(&body)).await;
                match asked {
                    Ok((200 | 201, _)) => break,
                    other if Instant::now() > deadline => {
                        anyhow::bail!("conversation {id} is not created: {other:?}")
                    }
                    _ => sleep(Duration::from_millis(100)).await,
                }
            }
        }
        Ok(())
    }

    /// Waits until every node that runs takes clients.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn until_ready(&self) -> Result<()> {
        let running = self.nodes.iter().flatten().filter(|node| node.pid().is_some()).count();
        let waited = async {
            while self.targets.all().len() < running {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), waited).await.context("not all nodes become ready")
    }

    /// Writes the nodes' logs into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_logs(&self, folder: &Path) -> Result<()> {
        for (number, node) in self.nodes.iter().enumerate() {
            if let Some(node) = node {
                std::fs::write(folder.join(format!("node-{number}.log")), node.log())?;
            }
        }
        Ok(())
    }

    /// Ends the background work.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn known(node: usize, gateway: &Gateway) -> Known {
    Known {
        node,
        public: gateway.address().to_owned(),
        internal: gateway.internal_address().to_owned(),
        pid: gateway.pid(),
        takes: true,
    }
}

/// The program under test, beside this one or one folder up.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let name = format!("parlance{}", std::env::consts::EXE_SUFFIX);
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|path| path.exists());
    found.context("the program is not built: cargo build --package parlance")
}

/// Whether a node says that it is ready.
pub async fn readiness(internal: &str) -> Result<u16> {
    let request = Request { address: internal, method: "GET", path: "/readyz", bearer: None, body: None };
    Ok(timeout(PROBE_PATIENCE, request.send()).await.context("no answer")??.status)
}

/// What a balancer does: asks every node again and again, and sends clients to those that say yes.
async fn probe(directory: Directory, targets: Targets) {
    loop {
        let asked = directory.with(|all| all.clone());
        let answers = asked.iter().map(|known| readiness(&known.internal));
        let answers = futures_util::future::join_all(answers).await;
        let ready = asked.into_iter().zip(answers).filter(|(_, answer)| matches!(answer, Ok(200)));
        // Whom to prefer may have changed meanwhile.
        let takes = directory.with(|all| all.iter().filter(|k| k.takes).map(|k| k.node).collect::<Vec<_>>());
        let ready = ready.map(|(known, _)| Target { node: known.node, address: known.public });
        targets.set(ready.filter(|target| takes.contains(&target.node)).collect());
        sleep(PROBE).await;
    }
}

async fn sample(directory: Directory, notes: Recorder, ports: Vec<u16>) {
    loop {
        let pids: Vec<u32> = directory.with(|all| all.iter().filter_map(|known| known.pid).collect());
        let mut sample = Sample { load: load(), ..Sample::default() };
        for pid in pids {
            sample.descriptors +=
                std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |all| all.count() as u64);
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            sample.rss_kib += field(&status, "VmRSS:");
            sample.threads += field(&status, "Threads:");
        }
        let usages = futures_util::future::join_all(ports.iter().map(|port| usage(*port))).await;
        let known: Vec<(u64, u64)> = usages.into_iter().flatten().collect();
        if known.len() == ports.len() {
            sample.redis_connections = Some(known.iter().map(|(clients, _)| clients).sum());
            sample.redis_keys = Some(known.iter().map(|(_, keys)| keys).sum());
        }
        notes.note(What::Sample(sample));
        sleep(Duration::from_millis(500)).await;
    }
}

/// A number of `/proc/<pid>/status`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The load average, in hundredths.
fn load() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let digits: String = text.split_whitespace().next().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or(0)
}
