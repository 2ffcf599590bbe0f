//! The contestants: how each is started, and what the load generator is told of it.
//!
//! Owns: their settings. Must not know: what is measured.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

use super::process::{Process, Stage, answers, free_port};
use super::programs::Programs;

/// Signs the tokens of a run; nothing but the run's servers believes them.
pub const SECRET: &str = "parlance-comparison-secret-of-no-other-use";
/// Opens the server API of a run.
pub const API_KEY: &str = "parlance-comparison-api-key";

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Parlance.
    Parlance,
    /// A plain loop of `write()`: the least a server can do.
    Floor,
    /// Socket.IO on Node with its Redis adapter.
    NodeRedis,
    /// Socket.IO on Node with its Redis streams adapter.
    NodeStreams,
    /// socketioxide with its Redis adapter.
    SioxRedis,
    /// Centrifugo with its Redis engine.
    Centrifugo,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parlance => "parlance",
            Self::Floor => "floor",
            Self::NodeRedis => "node-redis",
            Self::NodeStreams => "node-streams",
            Self::SioxRedis => "siox-redis",
            Self::Centrifugo => "centrifugo",
        })
    }
}

/// What is started for a run.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Of what.
    pub kind: Kind,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them get load.
    pub loaded: usize,
    /// Whether a peer logs messages in Redis before it tells them.
    pub durable: bool,
    /// Whether Redis keeps a file.
    pub aof: bool,
}

impl Setup {
    /// Nodes of this kind, all under load, on a Redis that keeps a file.
    pub const fn of(kind: Kind, nodes: usize) -> Self {
        Self { kind, nodes, loaded: nodes, durable: false, aof: true }
    }
}

/// The running servers of one contestant.
pub struct Servers {
    /// As the load generator calls this kind.
    kind: &'static str,
    urls: Vec<String>,
    api: Option<String>,
    processes: Vec<(String, Process)>,
}

impl Servers {
    /// Starts a Redis of their own and the nodes, and waits until they are ready.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(setup: Setup, frame: u64, programs: &Programs, stage: &Stage) -> Result<Self> {
        let kind = match setup.kind {
            Kind::Parlance => "parlance",
            Kind::Floor => "floor",
            Kind::NodeRedis | Kind::NodeStreams | Kind::SioxRedis => "socketio",
            Kind::Centrifugo => "centrifugo",
        };
        let mut servers = Self { kind, urls: Vec::new(), api: None, processes: Vec::new() };
        if setup.kind == Kind::Floor {
            servers.start_floor(frame, programs, stage)?;
            return Ok(servers);
        }
        let redis = servers.start_redis(setup.aof, stage)?;
        for number in 0..setup.nodes {
            let url = match setup.kind {
                Kind::Parlance => servers.start_parlance(number, redis, programs, stage)?,
                _ => servers.start_peer(number, (setup, redis), programs, stage)?,
            };
            if number < setup.loaded {
                servers.urls.push(url);
            }
        }
        Ok(servers)
    }

    /// What the load generator is told.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--kind", self.kind, "--nodes"].into_iter().map(str::to_owned).collect();
        arguments.push(self.urls.join(","));
        for (name, process) in &self.processes {
            arguments.extend(["--watch".to_owned(), format!("{name}={}", process.pid())]);
        }
        if let Some(api) = &self.api {
            arguments.extend(["--api".to_owned(), api.clone()]);
        }
        arguments
    }

    /// The end of what each server printed.
    pub fn last_words(&self) -> String {
        let words = self.processes.iter().map(|(name, process)| format!("[{name}] {}", process.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }

    fn start_redis(&mut self, aof: bool, stage: &Stage) -> Result<u16> {
        let port = free_port()?;
        let folder = stage.folder.join(format!("redis-{port}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut redis = Command::new("redis-server");
        redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&folder);
        redis.args(["--appendonly", if aof { "yes" } else { "no" }, "--appendfsync", "everysec"]);
        // What Parlance's operators are told to set; the peers get it too.
        redis.args(["--maxmemory-policy", "noeviction", "--stream-node-max-bytes", "1024"]);
        redis.args(["--client-output-buffer-limit", "pubsub", "256mb", "64mb", "60"]);
        let mut process = stage.start(&format!("redis-{port}"), redis)?;
        process.wait_until(|_| answers(port, "PING\r\n", "+PONG"))?;
        self.processes.push(("redis".to_owned(), process));
        Ok(port)
    }

    fn start_parlance(
        &mut self,
        number: usize,
        redis: u16,
        programs: &Programs,
        stage: &Stage,
    ) -> Result<String> {
        let (public, internal) = (free_port()?, free_port()?);
        let mut node = Command::new(&programs.parlance);
        node.args(["serve", "--no-limits", "--membership", "open", "--log-level", "warn"]);
        node.args(["--listen", &format!("127.0.0.1:{public}")]);
        node.args(["--internal-listen", &format!("127.0.0.1:{internal}")]);
        node.args(["--redis-url", &format!("redis://127.0.0.1:{redis}"), "--ack-level", "redis"]);
        node.env("PARLANCE_JWT_SECRET", SECRET).env("PARLANCE_API_KEY", API_KEY);
        node.current_dir(&stage.folder);
        let mut process = stage.start(&format!("parlance-{public}"), node)?;
        let ask = "GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        process.wait_until(|_| answers(internal, ask, " 200 ") && listens(public))?;
        self.processes.push((format!("node{number}"), process));
        self.api.get_or_insert_with(|| format!("http://127.0.0.1:{internal}"));
        Ok(format!("ws://127.0.0.1:{public}"))
    }

    fn start_peer(
        &mut self,
        number: usize,
        (setup, redis): (Setup, u16),
        programs: &Programs,
        stage: &Stage,
    ) -> Result<String> {
        let port = free_port()?;
        let mut node = match setup.kind {
            Kind::SioxRedis => Command::new(&programs.siox),
            Kind::Centrifugo => {
                let mut command = Command::new(&programs.centrifugo);
                command.arg("--config").arg(crate::cargo::root().join("bench/peers/centrifugo/config.json"));
                command.args(["--port", &port.to_string()]);
                command.args(["--redis_address", &format!("redis://127.0.0.1:{redis}")]);
                command.env("CENTRIFUGO_TOKEN_HMAC_SECRET_KEY", SECRET);
                command
            }
            _ => {
                let mut command = Command::new("node");
                command.arg(programs.node.join("server.js")).env("NODE_ENV", "production");
                command
            }
        };
        node.env("PORT", port.to_string()).env("JWT_SECRET", SECRET);
        node.env("REDIS_URL", format!("redis://127.0.0.1:{redis}"));
        node.env("ADAPTER", if setup.kind == Kind::NodeStreams { "streams" } else { "redis" });
        if setup.durable {
            node.env("DURABLE", "1");
        }
        let mut process = stage.start(&format!("{}-{port}", setup.kind), node)?;
        if setup.kind == Kind::Centrifugo {
            let ask = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
            process.wait_until(|_| answers(port, ask, " 200 "))?;
        } else {
            process.wait_until(|process| process.output().lines().any(|line| line == "ready"))?;
        }
        self.processes.push((format!("node{number}"), process));
        Ok(format!("ws://127.0.0.1:{port}"))
    }

    fn start_floor(&mut self, frame: u64, programs: &Programs, stage: &Stage) -> Result<()> {
        let port = free_port()?;
        let mut floor = Command::new(&programs.bench);
        floor.args(["floor", "--port", &port.to_string(), "--bytes", &frame.to_string()]);
        let mut process = stage.start(&format!("floor-{port}"), floor)?;
        process.wait_until(|_| listens(port))?;
        self.processes.push(("floor".to_owned(), process));
        // Twice, for loads that want publishers and receivers on different nodes.
        self.urls = vec![format!("ws://127.0.0.1:{port}"); 2];
        Ok(())
    }
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}
