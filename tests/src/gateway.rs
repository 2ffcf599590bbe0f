//! A node as a process: the real binary with its own data folder and ports.
//!
//! Must not know: what is tested with it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_redis_rig::{Server, signal};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::front::Place;
use crate::http::{Request, Response};
use crate::{API_KEY, PATIENCE, SECRET, Ws, token};

/// A debug build on a busy machine may take its time.
const START: Duration = Duration::from_secs(30);

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    environment: Vec<(String, String)>,
    config: Option<String>,
    binary: Option<PathBuf>,
    place: Option<Place>,
}

impl Options {
    /// A node that keeps nothing over a restart: quicker, for tests that do not restart.
    #[must_use]
    pub fn brief() -> Self {
        Self::default().env("PARLANCE_ACK_LEVEL", "memory")
    }

    /// Sets an environment variable of the node (`PARLANCE_…`).
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the node a configuration file (TOML).
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Has the node listen where others expect it, and not on any free ports.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Starts another program than the one that was built with the tests.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }
}

/// Where a node is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    public: String,
    internal: String,
}

/// What is known of a process from its output.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready(Addresses),
    Gone,
}

struct Process {
    child: Child,
    stage: watch::Receiver<Stage>,
}

/// A node; dropped, it is killed.
pub struct Gateway {
    options: Options,
    folder: TempDir,
    addresses: Addresses,
    process: Option<Process>,
    log: Arc<Mutex<String>>,
    engine: Engine,
}

/// Set to `redis`, every node that is not given an engine runs on a Redis of its own.
const ENGINE: &str = "PARLANCE_TEST_ENGINE";
/// Set to an address, these nodes share the Redis there, each under a prefix of its own.
const SHARED: &str = "PARLANCE_TEST_REDIS_URL";

/// What a node that is not given an engine runs on.
enum Engine {
    Embedded,
    Own(Server),
    Shared { url: String, prefix: String },
}

impl Engine {
    async fn of(options: &Options) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if options.environment.iter().any(|(name, _)| name == "PARLANCE_REDIS_URL") {
            return Ok(Self::Embedded);
        }
        if let Ok(url) = std::env::var(SHARED) {
            let prefix = format!("t{}-{}:", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            return Ok(Self::Shared { url, prefix });
        }
        let own = std::env::var_os(ENGINE).is_some_and(|engine| engine == "redis");
        Ok(if own { Self::Own(Server::standalone().await?) } else { Self::Embedded })
    }

    fn environment(&self, command: &mut Command) {
        let url = match self {
            Self::Embedded => return,
            Self::Own(server) => server.url(),
            Self::Shared { url, prefix } => {
                command.env("PARLANCE_REDIS_PREFIX", prefix);
                url.clone()
            }
        };
        // The levels of the embedded engine mean nothing there.
        command.env("PARLANCE_REDIS_URL", url).env_remove("PARLANCE_ACK_LEVEL");
    }
}

impl Gateway {
    /// Starts a node with a fresh data folder on free ports and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready; the error shows its log.
    pub async fn start(options: Options) -> Result<Self> {
        let Place { public, internal } = options.place.clone().map_or_else(Place::any, Ok)?;
        let mut gateway = Self {
            engine: Engine::of(&options).await?,
            options,
            folder: tempfile::tempdir()?,
            addresses: Addresses { public, internal },
            process: None,
            log: Arc::default(),
        };
        gateway.launch().await?;
        Ok(gateway)
    }

    /// Starts the node again with its data, on its ports; kills it first when it is running.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.launch().await
    }

    /// The same with other options; those that say where its data is are as they were.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn restart_as(&mut self, options: Options) -> Result<()> {
        self.options = options;
        self.restart().await
    }

    /// Kills the process, as `kill -9` does, and waits for its end. Does nothing when it is not running.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.child.kill()?;
            process.child.wait()?;
        }
        Ok(())
    }

    /// Gives the running node another configuration file and waits until it has taken it over.
    ///
    /// # Errors
    /// When it does not; the error shows its log.
    pub async fn reload(&self, toml: &str) -> Result<()> {
        const RELOADED: &str = "configuration reloaded";
        let before = self.log().matches(RELOADED).count();
        std::fs::write(self.folder.path().join("parlance.toml"), toml)?;
        self.signal(Signal::HUP)?;
        let reloaded = async {
            while self.log().matches(RELOADED).count() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reloaded).await.with_context(|| format!("not reloaded; its log:\n{}", self.log()))
    }

    /// Asks the process to stop, waits for its end, and returns how it ended.
    ///
    /// # Errors
    /// When it does not end in time (then it is killed).
    pub async fn sigterm(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.exited(START).await
    }

    /// Sends a signal to the process, as [`signal::send`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::send(Pid::from_child(&self.process.as_ref().context("not running")?.child), signal)
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it does not within `patience` (then it is killed).
    pub async fn exited(&mut self, patience: Duration) -> Result<ExitStatus> {
        let mut process = self.process.take().context("not running")?;
        if timeout(patience, process.stage.wait_for(|stage| *stage == Stage::Gone)).await.is_err() {
            process.child.kill()?;
            process.child.wait()?;
            bail!("the node does not end; its log:\n{}", self.log());
        }
        Ok(process.child.wait()?)
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// What the node has written to standard error so far, over all its lives.
    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the public listener is, `host:port`.
    pub fn address(&self) -> &str {
        &self.addresses.public
    }

    /// Where the internal listener is, `host:port`.
    pub fn internal_address(&self) -> &str {
        &self.addresses.internal
    }

    /// The WebSocket address of a path on the public listener.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addresses.public)
    }

    /// Opens `path` as `user`, with the token in the query.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(&self, path: &str, user: &str) -> Result<Ws> {
        Ws::connect(&self.url(&format!("{path}?token={}", token(user)?))).await
    }

    /// Calls the server API with the key of the tests.
    ///
    /// # Errors
    /// When there is no answer, or it is not JSON.
    pub async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let answer = self.internal(method, path, Some(API_KEY), body).await?;
        Ok((answer.status, answer.json()?))
    }

    /// Calls the internal listener.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn internal(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response> {
        Request { address: &self.addresses.internal, method, path, bearer, body }.send().await
    }

    /// Calls the public listener with a user's token.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn public(&self, method: &str, path: &str, bearer: Option<&str>) -> Result<Response> {
        Request { address: &self.addresses.public, method, path, bearer, body: None }.send().await
    }

    async fn launch(&mut self) -> Result<()> {
        let mut child = self.command()?.spawn().context("cannot start the node")?;
        let (told, stage) = watch::channel(Stage::Starting);
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let log = Arc::clone(&self.log);
        let reader = std::thread::spawn(move || read_log(stderr, &log));
        std::thread::spawn(move || read_stage(stdout, reader, &told));
        let mut end = stage.clone();
        let process = self.process.insert(Process { child, stage });
        let ready = timeout(START, process.stage.wait_for(|stage| *stage != Stage::Starting)).await;
        let stage = ready.ok().and_then(Result::ok).map(|stage| stage.clone());
        match stage {
            Some(Stage::Ready(addresses)) => {
                self.addresses = addresses;
                Ok(())
            }
            stage => {
                self.kill9()?;
                // What it said last may still be on its way; late, it is missing in the error.
                let _ = timeout(START, end.wait_for(|stage| *stage == Stage::Gone)).await;
                bail!("the node is not ready ({stage:?}); its log:\n{}", self.log())
            }
        }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(match &self.options.binary {
            Some(path) => path.clone(),
            None => built_binary()?,
        });
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PARLANCE_"))
        {
            command.env_remove(name);
        }
        command.arg("serve").args(["--listen", &self.addresses.public]);
        command.args(["--internal-listen", &self.addresses.internal]);
        if let Some(config) = &self.options.config {
            let path = self.folder.path().join("parlance.toml");
            std::fs::write(&path, config)?;
            command.arg("--config").arg(path);
        }
        command.env("PARLANCE_DATA_DIR", self.data_dir());
        command.env("PARLANCE_JWT_SECRET", SECRET).env("PARLANCE_API_KEY", API_KEY);
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        self.engine.environment(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the folder is removed all the same.
        let _ = self.kill9();
        if std::thread::panicking() {
            eprintln!("log of the node:\n{}", self.log());
        }
    }
}

/// Waits until `path` of the internal listener answers `status`; useful after a fault.
///
/// # Errors
/// When it does not within the patience of the tests.
pub async fn until_status(gateway: &Gateway, path: &str, status: u16) -> Result<()> {
    let asked = async {
        loop {
            if gateway.internal("GET", path, None, None).await.is_ok_and(|answer| answer.status == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.with_context(|| format!("{path} does not become {status}"))
}

fn lock(log: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_log(stderr: impl Read, log: &Mutex<String>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let mut log = lock(log);
        log.push_str(&String::from_utf8_lossy(&line));
        log.push('\n');
    }
}

/// Gone is a process whose last words, on both outputs, were read.
fn read_stage(stdout: impl Read, log: JoinHandle<()>, stage: &watch::Sender<Stage>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(addresses) = ready_line(&line) {
            stage.send_replace(Stage::Ready(addresses));
        }
    }
    // Both end with the process; a reader that panicked has read what it could.
    let _ = log.join();
    stage.send_replace(Stage::Gone);
}

/// Reads `ready public=ADDR internal=ADDR`.
fn ready_line(line: &str) -> Option<Addresses> {
    let mut words = line.strip_prefix("ready ")?.split_whitespace();
    let public = words.next()?.strip_prefix("public=")?.to_owned();
    let internal = words.next()?.strip_prefix("internal=")?.to_owned();
    Some(Addresses { public, internal })
}

/// The `parlance` binary beside the test's own; built when it is missing.
///
/// # Errors
/// When it cannot be built.
pub fn built_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BUILT.get_or_init(|| find_or_build("parlance").map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

/// The load generator, beside the gateway; built when it is not there.
///
/// # Errors
/// When it cannot be built.
pub fn built_bench() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BUILT.get_or_init(|| find_or_build("parlance-bench").map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

fn find_or_build(package: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let beside = own.parent().context("the test lies outside a target folder")?;
    let profile = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let binary = profile.join(format!("{package}{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--package", package]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "cargo build --package {package} failed");
    }
    ensure!(binary.exists(), "{} was not built", binary.display());
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;

    use anyhow::Result;

    use super::{Addresses, Gateway, Options, ready_line};

    /// A program that behaves as `script` says instead of being a node.
    fn program(folder: &tempfile::TempDir, script: &str) -> Result<PathBuf> {
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    #[test]
    fn only_a_whole_ready_line_counts() {
        let addresses = Addresses { public: "127.0.0.1:1".to_owned(), internal: "[::1]:2".to_owned() };
        assert_eq!(ready_line("ready public=127.0.0.1:1 internal=[::1]:2"), Some(addresses));
        assert_eq!(ready_line("ready public=127.0.0.1:1"), None);
        assert_eq!(ready_line("not ready public=a internal=b"), None);
    }

    #[tokio::test]
    async fn a_node_keeps_its_ports_and_settings_over_a_restart() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = program(
            &folder,
            r#"echo "$@ $PARLANCE_X $PARLANCE_DATA_DIR" >&2
            echo "ready public=$3 internal=$5"
            exec sleep 60"#,
        )?;
        let mut gateway = Gateway::start(Options::default().binary(&path).env("PARLANCE_X", "y")).await?;
        let (first, public, internal) =
            (gateway.pid(), gateway.address().to_owned(), gateway.internal_address().to_owned());
        gateway.kill9()?;
        assert_eq!(gateway.pid(), None);
        gateway.restart().await?;
        assert_ne!(gateway.pid(), first);
        assert_eq!(gateway.url("/ws"), format!("ws://{public}/ws"));
        let status = gateway.sigterm().await?;
        assert_eq!(status.signal(), Some(15));
        let log = gateway.log();
        let data = gateway.data_dir();
        let line = format!("--listen {public} --internal-listen {internal} y {}", data.display());
        assert_eq!(log.matches(&line).count(), 2, "{log}");
        Ok(())
    }

    #[tokio::test]
    async fn a_node_that_dies_at_start_is_reported_with_its_log() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = program(&folder, "echo no such option >&2; exec 1>&-; exec sleep 0.1")?;
        let Err(error) = Gateway::start(Options::default().binary(&path)).await else {
            anyhow::bail!("it counts as started")
        };
        assert!(error.to_string().contains("no such option"), "{error}");
        Ok(())
    }
}
