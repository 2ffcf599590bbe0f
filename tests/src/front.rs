//! A real balancer as a process: HAProxy or nginx with the file of `deploy/`, in which only addresses are put.
//!
//! Owns: the process, its file, what it says of the nodes. Must not know: clients.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::port::free;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::http::Request;
use crate::script::SKIPPED;

/// It reads its file and listens; a busy machine may take its time.
const START: Duration = Duration::from_secs(20);
/// It asks a node every two seconds, twice before it believes what it hears.
const NOTICE: Duration = Duration::from_secs(30);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks every node whether it is ready.
    Haproxy,
    /// Learns from answers alone.
    Nginx,
}

impl Kind {
    /// Its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Where a node is, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The public listener, `host:port`.
    pub public: String,
    /// The internal one.
    pub internal: String,
}

impl Place {
    /// Two ports that nobody has.
    ///
    /// # Errors
    /// When there are none.
    pub fn any() -> Result<Self> {
        let any = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free()?));
        Ok(Self { public: any()?, internal: any()? })
    }
}

/// A running balancer; dropped, it ends.
pub struct Front {
    kind: Kind,
    child: Child,
    folder: TempDir,
    address: String,
    /// Where HAProxy tells its own metrics.
    metrics: String,
}

impl Front {
    /// Starts it before these places, of which some may be empty yet; `None`, and the test is skipped, where there is no such
    /// program.
    ///
    /// # Errors
    /// When it does not start; the error shows its log.
    pub async fn start(kind: Kind, places: &[Place]) -> Result<Option<Self>> {
        let is_there =
            Command::new(kind.name()).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if is_there.is_err() {
            println!("{SKIPPED} there is no {}", kind.name());
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        // nginx writes as somebody else.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let (address, metrics) = (format!("127.0.0.1:{}", free()?), format!("127.0.0.1:{}", free()?));
        let config = folder.path().join("config");
        let text = match kind {
            Kind::Haproxy => haproxy(&shipped("deploy/haproxy/haproxy.cfg")?, &address, &metrics, places)?,
            Kind::Nginx => nginx(&shipped("deploy/nginx/nginx.conf")?, &address, folder.path(), places)?,
        };
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(kind.name());
        match kind {
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&config),
            Kind::Nginx => command.args(["-g", "daemon off;", "-c"]).arg(&config),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        let mut front = Self { kind, child, folder, address, metrics };
        front.listening().await.with_context(|| format!("its log:\n{}", front.log()))?;
        Ok(Some(front))
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it sends new clients to a place, or no longer does. nginx has no opinion before it tries.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn until_takes(&self, place: usize, takes: bool) -> Result<()> {
        if self.kind == Kind::Nginx {
            return Ok(());
        }
        let line = format!(r#"haproxy_server_status{{proxy="nodes",server="node-{place}",state="UP"}} "#);
        let wanted = format!("{line}{}", u8::from(takes));
        let until = Instant::now() + NOTICE;
        loop {
            let request =
                Request { address: &self.metrics, method: "GET", path: "/metrics", bearer: None, body: None };
            let said = request.send().await?.body;
            if said.lines().any(|line| line == wanted) {
                return Ok(());
            }
            let shown: String = said.lines().filter(|said| said.starts_with(&line)).collect();
            ensure!(Instant::now() < until, "node {place} does not come to `{wanted}`: {shown}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn listening(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        while tokio::net::TcpStream::connect(&self.address).await.is_err() {
            ensure!(self.child.try_wait()?.is_none(), "it has ended");
            ensure!(Instant::now() < until, "it does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Asked, nginx takes its workers with it.
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if asked.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn shipped(path: &str) -> Result<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The lines that name nodes, replaced: those of the places stand where the first one stood.
fn with_nodes(text: &str, word: &str, nodes: &str) -> Result<String> {
    let mut out = String::new();
    let mut put = false;
    for line in text.lines() {
        if !line.trim_start().starts_with(word) {
            writeln!(out, "{line}")?;
        } else if !std::mem::replace(&mut put, true) {
            out.push_str(nodes);
        }
    }
    ensure!(put, "no line begins with `{word}`");
    Ok(out)
}

fn replaced(text: &str, from: &str, to: &str) -> Result<String> {
    ensure!(text.contains(from), "`{from}` is not in the shipped file any more");
    Ok(text.replace(from, to))
}

fn haproxy(text: &str, address: &str, metrics: &str, places: &[Place]) -> Result<String> {
    let mut nodes = String::new();
    for (number, place) in places.iter().enumerate() {
        let port = place.internal.rsplit_once(':').context("no port")?.1;
        writeln!(nodes, "    server node-{number} {} port {port}", place.public)?;
    }
    let text = with_nodes(text, "server node-", &nodes)?;
    // All of this machine's nodes have one address; each has a port of its own.
    let text = replaced(&text, "http-check connect port 8083", "http-check connect")?;
    // It takes no more than the descriptors it may have; in a container that is its own affair.
    let text = replaced(&text, "maxconn 200000", "maxconn 8000")?;
    let text = replaced(&text, "bind :8080", &format!("bind {address}"))?;
    replaced(&text, "bind :8404", &format!("bind {metrics}"))
}

fn nginx(text: &str, address: &str, folder: &Path, places: &[Place]) -> Result<String> {
    let mut nodes = String::new();
    for place in places {
        writeln!(nodes, "        server {} max_fails=0;", place.public)?;
    }
    let text = with_nodes(text, "server node-", &nodes)?;
    let text = replaced(&text, "/tmp/", &format!("{}/", folder.display()))?;
    let text = replaced(&text, "worker_rlimit_nofile 262144;", "")?;
    let text = replaced(&text, "worker_connections 65536", "worker_connections 8000")?;
    replaced(&text, "listen 8080", &format!("listen {address}"))
}
