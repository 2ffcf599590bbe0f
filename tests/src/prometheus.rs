//! Prometheus as a process: Debian's own program, its data in a temporary folder, scraping what it is told to.
//!
//! Must not know: which metrics there are.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::form_urlencoded::byte_serialize;

use crate::http::Request;
use crate::script::SKIPPED;

/// Names the folder of the programs; set but empty, there are none and the tests that need them are skipped.
const FOLDER: &str = "PARLANCE_TEST_PROMETHEUS";
/// It reads its rules and opens its store before it answers; a busy machine may take its time.
const START: Duration = Duration::from_secs(30);

/// A running server; dropped, it is killed.
pub struct Prometheus {
    child: Child,
    folder: TempDir,
    address: String,
}

impl Prometheus {
    /// Starts it with these rule files, asking each of the targets (`host:port`) every second, and waits until it is ready; `None`,
    /// and the test is skipped, when `cargo xtask test` found that there is no such program.
    ///
    /// # Errors
    /// When it does not start; the error shows its log.
    pub async fn start(rules: &[PathBuf], targets: &[&str]) -> Result<Option<Self>> {
        let Some(program) = program("prometheus")? else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", parlance_redis_rig::port::free()?);
        let config = folder.path().join("prometheus.json");
        // JSON is YAML.
        let told = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": [{"job_name": "parlance", "static_configs": [{"targets": targets}]}],
        });
        std::fs::write(&config, told.to_string())?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(&program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, folder, address };
        server.ready().await.with_context(|| format!("its log:\n{}", server.log()))?;
        Ok(Some(server))
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "Prometheus ended: {ended:?}");
            let ask =
                Request { address: &self.address, method: "GET", path: "/-/ready", bearer: None, body: None };
            if ask.send().await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Prometheus never became ready");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks its API; what stands in `data`.
    ///
    /// # Errors
    /// When it refuses, with its words.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        let request = Request { address: &self.address, method: "GET", path, bearer: None, body: None };
        let mut answer = request.send().await?.json()?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }

    /// The series that an expression gives now: their labels and values.
    ///
    /// # Errors
    /// When the expression is none.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let encoded: String = byte_serialize(expression.as_bytes()).collect();
        let mut data = self.ask(&format!("/api/v1/query?query={encoded}")).await?;
        let series = match data["result"].take() {
            Value::Array(series) => series,
            other => vec![json!({"metric": {}, "value": other})],
        };
        let one = |mut series: Value| {
            let value = series["value"][1].as_str().context("no value")?.parse()?;
            Ok((series["metric"].take(), value))
        };
        series.into_iter().map(one).collect::<Result<_>>().with_context(|| expression.to_owned())
    }
}

/// Has `promtool` judge what a node says at `/metrics`; nobody judges where there is no such program.
///
/// # Errors
/// What it complains about.
pub fn check_metrics(page: &str) -> Result<()> {
    use std::io::Write as _;

    let Some(program) = program("promtool")? else { return Ok(()) };
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(page.as_bytes())?;
    let judged = child.wait_with_output()?;
    let said =
        String::from_utf8_lossy(&judged.stderr).into_owned() + &String::from_utf8_lossy(&judged.stdout);
    ensure!(judged.status.success(), "{said}");
    Ok(())
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that `cargo xtask test` has unpacked; none when it found that there can be none.
fn program(name: &str) -> Result<Option<PathBuf>> {
    let folder = match std::env::var_os(FOLDER) {
        Some(none) if none.is_empty() => {
            use std::io::Write as _;
            // Written past the capture of the test harness, which shows nothing of a test that passes.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            writeln!(std::io::stdout(), "{SKIPPED} {test}: there is no prometheus")?;
            return Ok(None);
        }
        Some(named) => PathBuf::from(named),
        // target/<profile>/deps/<test>
        None => {
            let own = std::env::current_exe()?;
            let target: &Path = own.ancestors().nth(3).context("the test lies outside a target folder")?;
            target.join("tools/prometheus/usr/bin")
        }
    };
    let program = folder.join(name);
    ensure!(program.exists(), "{name} is missing: run `cargo xtask test` once");
    Ok(Some(program))
}
