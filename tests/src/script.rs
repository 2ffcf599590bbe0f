//! A program of another language as a process: lines in, lines out, killed when it is dropped.
//!
//! Owns: where the tools are that `cargo xtask test` installs. Must not know: what the lines say.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

/// Names the interpreter of the Python tests; set but empty, there is none and those tests are skipped.
pub const PYTHON: &str = "PARLANCE_TEST_PYTHON";
/// The same for schemathesis, which has an environment of its own.
pub const SCHEMATHESIS: &str = "PARLANCE_TEST_SCHEMATHESIS";
/// Starts the line on standard output that tells `cargo xtask test` of a skipped test.
pub const SKIPPED: &str = "parlance-tests: skipped:";

/// A running script.
pub struct Script {
    child: Child,
    stdin: Mutex<ChildStdin>,
    log: Arc<Mutex<String>>,
}

impl Script {
    /// Starts it; `see` is called with every line of its standard output, and with `None` at the end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, mut see: impl FnMut(Option<&str>) + Send + 'static) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let missing =
            || format!("cannot start {program}: run `cargo xtask test` once, it says what is missing");
        let mut child = command.spawn().with_context(missing)?;
        let stdin = Mutex::new(child.stdin.take().context("no standard input")?);
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let log: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut log = lock(&written);
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                see(Some(&line));
            }
            see(None);
        });
        Ok(Self { child, stdin, log })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell(&self, line: &str) -> Result<()> {
        let mut stdin = lock(&self.stdin);
        writeln!(stdin, "{line}").with_context(|| format!("the script is gone; its log:\n{}", self.log()))
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() && !log.is_empty() {
            eprintln!("log of the script:\n{log}");
        }
    }
}

/// The command for a script of `tests/node`.
///
/// # Errors
/// When its packages are not installed.
pub fn node(script: &str) -> Result<Command> {
    packages()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let mut command = Command::new("node");
    command.arg(folder.join(script)).current_dir(folder);
    Ok(command)
}

/// The folder of the packages that scripts of `tests/node` import.
///
/// # Errors
/// When they are not installed.
pub fn packages() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/node_modules");
    ensure!(
        folder.join("socket.io-client").exists(),
        "node packages are missing: run `cargo xtask test` once"
    );
    Ok(folder)
}

/// The command for a script of `tests/python`; `None` when `cargo xtask test` found that Python is not to be had
/// here, and then the skipped test is reported to it.
///
/// # Errors
/// When its packages are not installed, and nobody has tried.
pub fn python(script: &str) -> Result<Option<Command>> {
    let Some(interpreter) = interpreter(PYTHON, "python")? else { return Ok(None) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut command = Command::new(interpreter);
    command.arg("-u").arg(folder.join(script)).current_dir(folder);
    Ok(Some(command))
}

/// The command for a script that needs nothing but Python; `None` as for [`python`].
///
/// # Errors
/// When the skipped test cannot be reported.
pub fn bare_python(script: &Path) -> Result<Option<Command>> {
    let none = std::env::var_os(PYTHON).is_some_and(|named| named.is_empty());
    if none && interpreter(PYTHON, "python")?.is_none() {
        return Ok(None);
    }
    let mut command = Command::new("python3");
    command.arg("-u").arg(script);
    Ok(Some(command))
}

/// The command for schemathesis with a configuration of `tests/openapi`; `None` as for [`python`].
///
/// # Errors
/// When it is not installed, and nobody has tried.
pub fn schemathesis(config: &str) -> Result<Option<Command>> {
    let Some(interpreter) = interpreter(SCHEMATHESIS, "schemathesis")? else { return Ok(None) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
    let mut command = Command::new(interpreter.with_file_name("schemathesis"));
    command.args(["--config-file", config, "run", "--no-color"]).current_dir(folder);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(Some(command))
}

/// The interpreter of an environment that `cargo xtask test` makes; none when it found that there can be none.
fn interpreter(variable: &str, name: &str) -> Result<Option<PathBuf>> {
    let interpreter = match std::env::var_os(variable) {
        Some(none) if none.is_empty() => {
            // Written past the capture of the test harness, which shows nothing of a test that passes.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            writeln!(std::io::stdout(), "{SKIPPED} {test}: no Python, or not its packages")?;
            return Ok(None);
        }
        Some(named) => PathBuf::from(named),
        // target/<profile>/deps/<test>
        None => {
            let own = std::env::current_exe()?;
            own.ancestors()
                .nth(3)
                .context("the test lies outside a target folder")?
                .join("tools")
                .join(name)
                .join("bin/python")
        }
    };
    ensure!(interpreter.exists(), "Python packages are missing: run `cargo xtask test` once");
    Ok(Some(interpreter))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
