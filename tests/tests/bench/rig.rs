//! Runs the load generator and reads its outcome.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parlance_tests::{API_KEY, Gateway, Options, SECRET, built_bench};
use serde_json::Value;
use tokio::time::timeout;

/// A run is seconds long; a busy machine may take its time.
const LONG: Duration = Duration::from_secs(120);

/// A gateway that lets load through.
pub async fn gateway() -> Gateway {
    Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await.unwrap()
}

/// What a run came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub outcome: Value,
    #[expect(dead_code, reason = "shown when a test fails")]
    pub said: String,
}

impl Done {
    /// A number of the checker's.
    pub fn check(&self, name: &str) -> u64 {
        self.outcome["checks"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A figure.
    pub fn figure(&self, name: &str) -> f64 {
        self.outcome["figures"][name]["value"].as_f64().unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// How many were timed.
    pub fn timed(&self, name: &str) -> u64 {
        self.outcome["times"][name]["count"].as_u64().unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Nothing was lost, doubled, disordered or an error, and so many messages were sent and delivered.
    #[track_caller]
    pub fn is_exactly(&self, sent: u64, delivered: u64) {
        assert_eq!(self.code, Some(0), "{self:?}");
        let counts =
            ["sent", "delivered", "expected", "lost", "doubled", "disordered"].map(|name| self.check(name));
        assert_eq!(counts, [sent, delivered, delivered, 0, 0, 0], "{self:?}");
    }
}

/// Runs the load generator with these words.
pub async fn run(words: &[&str]) -> Done {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = tokio::process::Command::new(built_bench().unwrap());
    command.args(words).arg("--json").arg(file.path()).arg("--quiet").kill_on_drop(true);
    let output = timeout(LONG, command.output()).await.unwrap().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let outcome = std::fs::read(file.path()).unwrap();
    Done { code: output.status.code(), outcome: serde_json::from_slice(&outcome).unwrap_or_default(), said }
}

/// The words that lead to a gateway.
pub fn to(gateway: &Gateway) -> Vec<String> {
    let words = [
        "--nodes",
        &format!("ws://{}", gateway.address()),
        "--api",
        &format!("http://{}", gateway.internal_address()),
        "--secret",
        SECRET,
        "--api-key",
        API_KEY,
    ];
    words.map(str::to_owned).to_vec()
}

/// Runs a scenario on a gateway; `words` with spaces between.
pub async fn on(gateway: &Gateway, words: &str) -> Done {
    let to = to(gateway);
    let all: Vec<&str> = words.split(' ').chain(to.iter().map(String::as_str)).collect();
    run(&all).await
}

/// The floor as a process; it ends with the test.
pub struct Floor {
    child: Child,
    pub url: String,
}

impl Floor {
    /// Starts it on any port.
    pub fn start() -> Self {
        let mut command = Command::new(built_bench().unwrap());
        let mut child = command.args(["floor", "--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready on ").unwrap().to_owned();
        Self { child, url }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.kill();
    }
}
