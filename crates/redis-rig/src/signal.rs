//! Signals to processes of the tests; a process that was stopped stands still when that returns.
//!
//! Must not know: whose process it is.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::operator::PATIENCE;

/// Sends a signal. After `SIGSTOP` it returns when no thread runs any more: the system lets each of them go on until
/// it is interrupted, and a busy machine takes its time with that.
///
/// # Errors
/// When there is no such process, or it does not stop.
pub fn send(pid: Pid, signal: Signal) -> Result<()> {
    kill_process(pid, signal)?;
    if signal != Signal::STOP {
        return Ok(());
    }
    let end = Instant::now() + PATIENCE;
    while runs(pid)? {
        ensure!(Instant::now() < end, "{pid:?} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether any thread of a process is not stopped.
fn runs(pid: Pid) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let stat = match fs::read_to_string(thread?.path().join("stat")) {
            Ok(stat) => stat,
            // It ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        // The state follows the name, which is in brackets and may hold any character.
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        if !matches!(state, Some("T" | "t" | "Z" | "X")) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_stopped_stands_still_and_goes_on() -> Result<()> {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
        let pid = Pid::from_child(&child);
        let stopped = send(pid, Signal::STOP).and_then(|()| runs(pid));
        let goes_on = send(pid, Signal::CONT).and_then(|()| runs(pid));
        child.kill()?;
        child.wait()?;
        ensure!(!stopped? && goes_on?);
        Ok(())
    }
}
