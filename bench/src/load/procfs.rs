//! CPU time and memory of local processes, as the kernel counts them.
//!
//! Must not know: what the processes are.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};

use crate::outcome::{Machine, Server, is_store};

/// A process to be watched: `name=pid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What it is called in the outcome.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl FromStr for Watch {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, pid) = text.split_once('=').ok_or_else(|| anyhow!("not name=pid: {text}"))?;
        Ok(Self { name: name.to_owned(), pid: pid.trim().parse().context("not a process id")? })
    }
}

/// CPU time of all threads, by thread, in nanoseconds.
type Threads = BTreeMap<u32, u64>;

/// The watched processes at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Vec<(Threads, u64)>);

/// Watches processes from the start of a run.
pub struct Watcher {
    watches: Vec<Watch>,
    before: Snapshot,
    peaks: Vec<u64>,
}

impl Watcher {
    /// Reads the memory before the load comes.
    pub fn new(watches: &[Watch]) -> Result<Self> {
        let before = snapshot(watches)?;
        let peaks = before.0.iter().map(|(_, rss)| *rss).collect();
        Ok(Self { watches: watches.to_vec(), before, peaks })
    }

    /// Memory of all servers together now, in KiB; remembers the most of each process.
    pub fn sample(&mut self) -> u64 {
        let mut sum = 0;
        for (watch, peak) in self.watches.iter().zip(&mut self.peaks) {
            let now = resident_kib(watch.pid).unwrap_or(0);
            *peak = now.max(*peak);
            if !is_store(&watch.name) {
                sum += now;
            }
        }
        sum
    }

    /// Where the CPU time stands.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let now = snapshot(&self.watches)?;
        for ((_, rss), peak) in now.0.iter().zip(&mut self.peaks) {
            *peak = (*rss).max(*peak);
        }
        Ok(now)
    }

    /// What the processes used between two snapshots.
    pub fn servers(&self, from: &Snapshot, to: &Snapshot) -> Vec<Server> {
        let both = from.0.iter().zip(&to.0).zip(self.watches.iter().zip(&self.before.0).zip(&self.peaks));
        both.map(|(((from, _), (to, after)), ((watch, (_, before)), peak))| Server {
            name: watch.name.clone(),
            pid: watch.pid,
            cpu_us: used(from, to) / 1000,
            rss_kib_before: *before,
            rss_kib_peak: *peak,
            rss_kib_after: *after,
        })
        .collect()
    }

    /// Memory of all servers together before the load came, in KiB.
    pub fn before(&self) -> u64 {
        let servers = self.watches.iter().zip(&self.before.0).filter(|(watch, _)| !is_store(&watch.name));
        servers.map(|(_, (_, rss))| rss).sum()
    }

    /// Whether anything is watched.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }
}

/// Threads that began in between count from nothing; those that ended in between are not seen.
fn used(from: &Threads, to: &Threads) -> u64 {
    to.iter().map(|(thread, now)| now.saturating_sub(from.get(thread).copied().unwrap_or(0))).sum()
}

fn snapshot(watches: &[Watch]) -> Result<Snapshot> {
    let one = |watch: &Watch| -> Result<(Threads, u64)> {
        let threads = threads(watch.pid).with_context(|| format!("{} ({})", watch.name, watch.pid))?;
        Ok((threads, resident_kib(watch.pid)?))
    };
    Ok(Snapshot(watches.iter().map(one).collect::<Result<_>>()?))
}

fn threads(pid: u32) -> Result<Threads> {
    let mut threads = Threads::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).context("no such process")? {
        let entry = entry?;
        // One that ended since the listing is not counted.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let thread = entry.file_name().to_string_lossy().parse()?;
        threads.insert(thread, stat.split(' ').next().unwrap_or_default().parse()?);
    }
    Ok(threads)
}

/// The resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// What this machine's processors did since it started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    busy: u64,
    stolen: u64,
}

impl Ticks {
    /// Until now; nothing where the system does not tell.
    pub fn now() -> Self {
        Self::read(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|tick| tick.parse().ok()).collect();
        let [user, nice, system, _, _, irq, softirq, stolen, ..] = ticks[..] else { return Self::default() };
        Self { busy: user + nice + system + irq + softirq, stolen }
    }

    /// Of the time since `from` in which there was something to do, the share that a hypervisor gave to others.
    pub fn stolen_since(self, from: Self) -> f64 {
        let (busy, stolen) = (self.busy.saturating_sub(from.busy), self.stolen.saturating_sub(from.stolen));
        stolen as f64 / (busy + stolen).max(1) as f64
    }
}

/// This machine; what it does not tell is left out.
pub fn machine() -> Machine {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let total: u64 = total.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, |cpus| cpus.get() as u32);
    Machine { cpus, memory_mib: total / 1024, kernel: kernel.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hypervisor_took_is_a_share_of_what_was_to_be_done() {
        let from = Ticks::read("cpu  100 0 50 1000 7 0 10 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        assert_eq!(from, Ticks { busy: 160, stolen: 40 });
        let to = Ticks { busy: 220, stolen: 60 };
        assert!((to.stolen_since(from) - 0.25).abs() < 1e-9);
        assert!(Ticks::read("").stolen_since(from) == 0.0, "nothing is told");
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let watch: Watch = format!("me={}", std::process::id()).parse().unwrap();
        let mut watcher = Watcher::new(std::slice::from_ref(&watch)).unwrap();
        let from = watcher.snapshot().unwrap();
        let begun = std::time::Instant::now();
        let mut sum = 0u64;
        while begun.elapsed().as_millis() < 50 {
            sum = std::hint::black_box(sum + 1);
        }
        let to = watcher.snapshot().unwrap();
        let server = &watcher.servers(&from, &to)[0];
        assert!(server.cpu_us > 1000, "{server:?}");
        assert!(server.rss_kib_peak > 100 && server.name == "me");
        assert!("x".parse::<Watch>().is_err() && "x=y".parse::<Watch>().is_err());
    }

    #[test]
    fn threads_that_come_and_go_do_not_confuse_it() {
        let (from, to) = (Threads::from([(1, 100), (2, 900)]), Threads::from([(1, 150), (3, 30)]));
        assert_eq!(used(&from, &to), 80);
    }
}
