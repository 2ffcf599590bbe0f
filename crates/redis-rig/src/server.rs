//! One server process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::operator::{Operator, PATIENCE};
use crate::{port, signal};

/// What a server is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server by itself, or a primary or replica under Sentinel.
    Plain,
    /// A node of a cluster.
    Cluster,
    /// A Sentinel.
    Sentinel,
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The program: `redis-server` unless `PARLANCE_REDIS_SERVER` names another.
    pub program: PathBuf,
    /// What it is part of.
    pub kind: Kind,
    /// Further settings, as in its configuration file: name and value.
    pub settings: Vec<(String, String)>,
}

impl Setup {
    /// A kind with the settings that are shipped: an append-only file, no eviction.
    pub fn new(kind: Kind) -> Self {
        let program = std::env::var_os("PARLANCE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        Self { program: program.into(), kind, settings: Vec::new() }
    }

    /// One more setting; the last one of a name counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server.
pub struct Server {
    setup: Setup,
    child: Option<Child>,
    port: u16,
    folder: TempDir,
    paused: AtomicBool,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing can be done about one that is gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A folder in memory where there is one: a disk that is busy with other things lets a server's sync, and so the
/// server, stand still for seconds. What a process wrote outlives its `kill -9` in both.
fn folder() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

impl Server {
    /// Starts one and waits until it answers and is the one that was started; another process may take the port
    /// first, then another port is tried.
    ///
    /// # Errors
    /// When there is no such program, or it does not start.
    pub async fn start(setup: Setup) -> Result<Self> {
        for _ in 0..10 {
            let port = if setup.kind == Kind::Cluster { port::with_bus() } else { port::free() }?;
            let (folder, paused) = (folder()?, AtomicBool::new(false));
            let mut server = Self { setup: setup.clone(), child: None, port, folder, paused };
            if server.launch().await? {
                return Ok(server);
            }
        }
        bail!("{} does not start", setup.program.display())
    }

    /// A standalone server with the settings that are shipped.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn standalone() -> Result<Self> {
        Self::start(Setup::new(Kind::Plain)).await
    }

    async fn launch(&mut self) -> Result<bool> {
        self.child = Some(self.spawn()?);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                return Ok(false);
            }
            if self.is_own().await.unwrap_or(false) {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("{} does not answer on port {}", self.setup.program.display(), self.port)
    }

    fn spawn(&self) -> Result<Child> {
        let mut lines = vec![
            format!("port {}", self.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", self.folder.path().display()),
            "loglevel warning".to_owned(),
            "logfile server.log".to_owned(),
        ];
        if self.setup.kind != Kind::Sentinel {
            let shipped = [
                "save \"\"",
                "appendonly yes",
                "appendfsync everysec",
                "maxmemory-policy noeviction",
                "stream-node-max-bytes 1024",
                "repl-diskless-sync-delay 0",
            ];
            lines.extend(shipped.map(str::to_owned));
        }
        if self.setup.kind == Kind::Cluster {
            let shipped =
                ["cluster-enabled yes", "cluster-require-full-coverage no", "cluster-node-timeout 2000"];
            lines.extend(shipped.map(str::to_owned));
        }
        lines.extend(self.setup.settings.iter().map(|(name, value)| format!("{name} {value}")));
        let file = self.folder.path().join("redis.conf");
        // A Sentinel, and CONFIG REWRITE, keep what they learned in this file.
        if !file.exists() {
            std::fs::write(&file, lines.join("\n") + "\n")?;
        }
        let mut command = Command::new(&self.setup.program);
        command.arg(&file).args((self.setup.kind == Kind::Sentinel).then_some("--sentinel"));
        let program = self.setup.program.display();
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{program} is missing: run `cargo xtask test` once"))
    }

    async fn is_own(&self) -> Result<bool> {
        let Some(child) = &self.child else { return Ok(false) };
        let own = format!("process_id:{}\r\n", child.id());
        Ok(self.command(&["INFO", "server"]).await?.contains(&own))
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its folder: log, configuration, append-only file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, as a gateway takes it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command as an operator would, and returns the answer: the text of a simple one, of a list its
    /// elements, one a line.
    ///
    /// # Errors
    /// When it is not reached, or answers with an error.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        self.operator().await?.command(words).await
    }

    /// A connection for several commands.
    ///
    /// # Errors
    /// When it is not reached.
    pub async fn operator(&self) -> Result<Operator> {
        Operator::connect(self.port).await
    }

    /// A line of a section of `INFO`, by its name; empty when there is none.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn info(&self, section: &str, name: &str) -> Result<String> {
        let all = self.command(&["INFO", section]).await?;
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.unwrap_or_default().trim().to_owned())
    }

    /// Whether it runs and is not paused.
    pub fn runs(&self) -> bool {
        self.child.is_some() && !self.paused.load(Ordering::SeqCst)
    }

    /// Waits until everything it acknowledged is with the operating system: with `appendfsync everysec` a server
    /// holds writes back for up to 2 s while its disk is busy with the last sync, and a `kill -9` takes those along.
    ///
    /// # Errors
    /// When it does not answer, or does not come to it in time.
    pub async fn written(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.info("persistence", "aof_buffer_length").await? != "0" {
            ensure!(Instant::now() < deadline, "the append-only file is never written");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Kills the process where it stands (`kill -9`), without starting it again.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Starts it again on what it left; kills it first when it runs.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        let log = self.folder.path().join("server.log");
        let came = self.launch().await?;
        ensure!(came, "no server on port {} again: {}", self.port, std::fs::read_to_string(log)?);
        Ok(())
    }

    /// Starts it again with nothing of what it had; kills it first when it runs.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart_empty(&mut self) -> Result<()> {
        self.kill9()?;
        for entry in std::fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?;
            } else if name.ends_with(".rdb") || name.contains("aof") {
                std::fs::remove_file(&path)?;
            }
        }
        self.restart().await
    }

    /// Stops the process as a debugger would (`SIGSTOP`): from here on it answers nothing, its connections stay.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.paused.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets it go on after [`Self::pause`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the server is not running")?;
        signal::send(Pid::from_child(child), signal)
    }

    /// How often a command was called so far.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn calls_of(&self, command: &str) -> Result<u64> {
        let all = self.command(&["INFO", "commandstats"]).await?;
        let head = format!("cmdstat_{command}:calls=");
        let line = all.lines().find_map(|line| line.strip_prefix(&head));
        let calls = line.and_then(|rest| rest.split(',').next()).map(str::parse).transpose()?;
        Ok(calls.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_keeps_what_it_had_over_a_kill_unless_it_is_emptied() -> Result<()> {
        let mut server = Server::standalone().await?;
        assert_eq!(server.command(&["SET", "k", "two words"]).await?, "OK");
        server.written().await?;
        server.restart().await?;
        assert_eq!(server.command(&["GET", "k"]).await?, "two words");
        assert_eq!(server.calls_of("get").await?, 1);
        server.restart_empty().await?;
        assert_eq!(server.command(&["GET", "k"]).await?, "");
        assert!(server.command(&["NONSENSE"]).await.is_err());
        Ok(())
    }
}
