//! What something costs in processor time, of whichever process.
//!
//! Must not know: what is measured.

use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time all threads of a process that still live have had so far.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut spent = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("no such process")? {
        spent += one(&thread?.path().join("schedstat"));
    }
    Ok(spent)
}

/// The processor time the calling thread has had so far.
pub fn own_thread() -> Duration {
    one("/proc/thread-self/schedstat".as_ref())
}

/// A thread that is gone by now has had none.
fn one(path: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn work_costs_time_of_the_thread_and_the_process() {
        let pid = std::process::id();
        let (thread, process) = (own_thread(), cpu(pid).unwrap());
        let mut text = String::new();
        while own_thread() < thread + Duration::from_millis(5) {
            text = black_box(format!("{}", text.len()));
        }
        assert!(cpu(pid).unwrap() >= process + Duration::from_millis(5), "{text}");
        assert!(cpu(u32::MAX).is_err());
    }
}
