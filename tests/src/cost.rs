//! What something costs in processor time, of whichever process.
//!
//! Must not know: what is measured.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result};

/// The processor time that each thread of a process has had so far.
#[derive(Debug, Clone, Default)]
pub struct Spent(BTreeMap<OsString, Duration>);

impl Spent {
    /// What was spent since. Of a thread that has ended meanwhile nothing is known any more: idle ones end.
    pub fn since(&self, before: &Self) -> Duration {
        let of_thread = |(thread, spent): (&OsString, &Duration)| {
            spent.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(of_thread).sum()
    }
}

/// What a process has spent so far.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Spent> {
    let mut spent = Spent::default();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("no such process")? {
        let thread = thread?;
        spent.0.insert(thread.file_name(), one(&thread.path().join("schedstat")));
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
        assert!(cpu(pid).unwrap().since(&process) >= Duration::from_millis(5), "{text}");
        assert!(cpu(u32::MAX).is_err());
    }

    #[test]
    fn threads_that_have_ended_take_nothing_away() {
        let of = |threads: &[(&str, u64)]| {
            Spent(
                threads.iter().map(|(name, ms)| (OsString::from(name), Duration::from_millis(*ms))).collect(),
            )
        };
        let (before, after) = (of(&[("1", 500), ("2", 70)]), of(&[("2", 90), ("3", 5)]));
        assert_eq!(after.since(&before), Duration::from_millis(25));
    }
}
