//! A Redis server of the test's own, in a temporary folder, gone when the test ends.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parlance_backplane::Clock;
use parlance_backplane_redis::Options;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The running server.
pub struct Server {
    child: Child,
    port: u16,
    cluster: bool,
    directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn start(port: u16, cluster: bool, directory: &tempfile::TempDir) -> Child {
    let program = std::env::var("PARLANCE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    Command::new(&program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .args(["--stream-node-max-bytes", "1024", "--loglevel", "warning"])
        .args(["--cluster-enabled", if cluster { "yes" } else { "no" }])
        .arg("--dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error} (Debian: apt-get install redis-server)"))
}

impl Server {
    /// Starts one that is a whole cluster by itself: it refuses calls that touch several slots.
    #[allow(dead_code, reason = "not every test needs one")]
    pub async fn start_cluster() -> Self {
        let server = Self::start_with(true).await;
        assert_eq!(server.operator("CLUSTER ADDSLOTSRANGE 0 16383").await, "+OK");
        while server.operator("SET ready 1").await != "+OK" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server
    }

    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with(false).await
    }

    /// Starts one and waits until it answers, and is the one that was started: another process may take the port first.
    async fn start_with(cluster: bool) -> Self {
        for _ in 0..10 {
            let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
            let mut server = Self { child: start(port, cluster, &directory), port, cluster, directory };
            if server.is_own().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    async fn is_own(&mut self) -> bool {
        for _ in 0..200 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                return self.says_it_is(stream).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    async fn says_it_is(&self, stream: TcpStream) -> bool {
        let own = format!("process_id:{}", self.child.id());
        let mut lines = BufReader::new(stream).lines();
        lines.get_mut().get_mut().write_all(b"INFO server\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("process_id:") {
                return line == own;
            }
        }
        false
    }

    /// Options for this server.
    pub fn options(&self, clock: Clock) -> Options {
        Options::new(&format!("redis://127.0.0.1:{}", self.port), clock)
    }

    /// Sends one command as an operator would, and returns the first line of the answer.
    #[allow(dead_code, reason = "not every test has an operator")]
    pub async fn operator(&self, command: &str) -> String {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    /// How often a command was called so far.
    #[allow(dead_code, reason = "not every test counts")]
    pub async fn calls_of(&self, command: &str) -> u64 {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap());
        stream.get_mut().write_all(b"INFO commandstats\r\nPING\r\n").await.unwrap();
        let head = format!("cmdstat_{command}:calls=");
        let mut lines = stream.lines();
        while let Some(line) = lines.next_line().await.unwrap().filter(|line| line != "+PONG") {
            if let Some(rest) = line.strip_prefix(&head) {
                return rest.split(',').next().and_then(|calls| calls.parse().ok()).unwrap();
            }
        }
        0
    }

    /// Kills it where it stands and starts it again on what it left.
    #[allow(dead_code, reason = "not every test restarts it")]
    pub async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = start(self.port, self.cluster, &self.directory);
        assert!(self.is_own().await, "the server comes back");
    }
}
