//! Notices that a file of keys, secrets or certificates is another one than before: a mounted Secret that was rotated.
//!
//! Owns: when it is looked. Must not know: what is in the files.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parlance_gateway::config::Config;

/// Time of change, size, and which file it is; `None`: there is none.
type Mark = Option<(i64, i64, u64, u64)>;

/// The files, as they were last seen.
pub struct Rotation {
    every: Duration,
    looked: Instant,
    seen: Vec<(PathBuf, Mark)>,
}

impl Rotation {
    /// Those of a configuration. Followed through links: a mounted Secret is exchanged by one.
    pub fn of(config: &Config) -> Self {
        let seen = config.secret_files().into_iter().map(|path| (path.clone(), mark(&path)));
        let every = Duration::from_millis(config.secrets_check_ms);
        Self { every, looked: Instant::now(), seen: seen.collect() }
    }

    /// Whether it is time to look, and one has changed since the last look.
    pub fn is_seen(&mut self) -> bool {
        if self.every.is_zero() || self.looked.elapsed() < self.every {
            return false;
        }
        self.looked = Instant::now();
        let mut changed = false;
        for (path, seen) in &mut self.seen {
            let now = mark(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

fn mark(path: &PathBuf) -> Mark {
    let about = std::fs::metadata(path).ok()?;
    Some((about.mtime(), about.mtime_nsec(), about.size(), about.ino()))
}
