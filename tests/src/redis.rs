//! A Redis server of the test's own: a free port, a temporary folder, gone with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep};

use crate::PATIENCE;

/// The running server.
pub struct Redis {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Nothing can be done about one that is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Redis {
    /// Starts one and waits until it answers, and is the one that was started. Another process may take the port
    /// first: then another port is tried.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not start.
    pub async fn start() -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let mut server = Self::spawn()?;
        while !server.is_own().await.unwrap_or(false) {
            if Instant::now() > deadline {
                bail!("redis-server does not answer on port {}", server.port);
            }
            if server.child.try_wait()?.is_some() {
                server = Self::spawn()?;
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(server)
    }

    fn spawn() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server is missing: run `cargo xtask test` once")?;
        Ok(Self { child, port, _folder: folder })
    }

    async fn is_own(&self) -> Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"INFO server\r\n").await?;
        let mut answer = vec![0; 8192];
        let count = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).into_owned();
        Ok(answer.contains(&format!("process_id:{}\r\n", self.child.id())))
    }

    /// Its address, as a gateway takes it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
