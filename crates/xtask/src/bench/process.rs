//! Processes that end with this one, however it ends.
//!
//! Owns: their groups, their output, free ports, waiting until they are ready. Must not know: what they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// How long one may take to end.
const END: Duration = Duration::from_secs(10);

/// Where processes run: a folder that is removed in the end, and the caretaker that ends what is left.
#[derive(Clone)]
pub struct Stage {
    /// The folder.
    pub folder: PathBuf,
    caretaker: Arc<Caretaker>,
}

impl Stage {
    /// Makes the folder and starts the caretaker: this program again, with `bench caretaker`.
    ///
    /// # Errors
    /// When the folder cannot be made, or this program cannot be started.
    pub fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut command = Command::new(std::env::current_exe().context("where does this program lie?")?);
        command.args(["bench", "caretaker"]).arg(&folder);
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn().context("no caretaker")?;
        let line = Mutex::new(child.stdin.take());
        Ok(Self { folder, caretaker: Arc::new(Caretaker { child: Mutex::new(child), line }) })
    }

    /// Starts a process whose output goes to a file named after it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = self.folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.caretaker.tell(&format!("+{}", child.id()));
        Ok(Process { name: name.to_owned(), child, log, caretaker: self.caretaker.clone() })
    }
}

/// Told of every process that starts and ends; when its input ends, it ends those that are left.
struct Caretaker {
    child: Mutex<Child>,
    line: Mutex<Option<ChildStdin>>,
}

impl Caretaker {
    fn tell(&self, word: &str) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_mut()
            && let Err(error) = writeln!(line, "{word}")
        {
            eprintln!("the caretaker is gone, started processes may stay: {error}");
        }
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        drop(self.line.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.child.lock().unwrap_or_else(PoisonError::into_inner).wait());
    }
}

/// The caretaker's life: reads `+pid` and `-pid` until the input ends, then ends the groups that are left and removes
/// the folder.
///
/// # Errors
/// When the input cannot be read or the folder cannot be removed.
pub fn take_care(folder: &Path, input: impl BufRead) -> Result<()> {
    let left = leftover(input)?;
    left.iter().for_each(|pid| signal(*pid, Signal::TERM));
    if !left.is_empty() {
        sleep(Duration::from_secs(1));
        left.iter().for_each(|pid| signal(*pid, Signal::KILL));
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// The processes that started and did not end.
fn leftover(input: impl BufRead) -> io::Result<BTreeSet<u32>> {
    let mut left = BTreeSet::new();
    for line in input.lines() {
        let line = line?;
        let (sign, pid) = line.split_at(line.len().min(1));
        match (sign, pid.parse()) {
            ("+", Ok(pid)) => drop(left.insert(pid)),
            ("-", Ok(pid)) => drop(left.remove(&pid)),
            _ => {}
        }
    }
    Ok(left)
}

/// To a group; one that is gone needs none.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

/// A running process; ended, with all it started, when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    caretaker: Arc<Caretaker>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// With the end of its output when it ends before, or takes too long.
    pub fn wait_until(&mut self, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !ready(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}): {}", self.name, self.last_words());
            }
            if begun.elapsed() > START {
                bail!("{} is not ready after {} s: {}", self.name, START.as_secs(), self.last_words());
            }
            sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                bail!("{} has not ended after {} s", self.name, patience.as_secs());
            }
            sleep(LOOK);
        }
    }

    /// The end of its output.
    pub fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let begun = Instant::now();
        signal(self.pid(), Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < END {
            sleep(LOOK);
        }
        signal(self.pid(), Signal::KILL);
        drop(self.child.wait());
        self.caretaker.tell(&format!("-{}", self.pid()));
    }
}

/// A port of the loopback address that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether a server answers a line with something that contains `word`.
pub fn answers(port: u16, line: &str, word: &str) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(line.as_bytes())?;
        let mut answer = [0; 512];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    ask().is_ok_and(|answer| answer.contains(word))
}

/// Lets processes that are started from now on have as many descriptors as this user may.
pub fn raise_descriptor_limit() {
    /// What ten thousand connections need on either side, with room.
    const WANTED: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    let limit = |maximum| Rlimit { current: Some(WANTED.min(maximum)), maximum: Some(maximum) };
    // Only root may have more than the hard limit.
    let hard = now.maximum.unwrap_or(WANTED);
    if hard >= WANTED || setrlimit(Resource::Nofile, limit(WANTED)).is_err() {
        let _ = setrlimit(Resource::Nofile, limit(hard));
    }
}

#[cfg(test)]
mod tests {
    use super::leftover;

    #[test]
    fn the_caretaker_ends_only_what_did_not_end() {
        let left = leftover(&b"+10\n+11\n-10\n+12\n?\n\n-x\n"[..]).unwrap();
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [11, 12]);
    }
}
