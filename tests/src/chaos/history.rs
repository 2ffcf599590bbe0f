//! What happened, as it is written down: one file of JSON lines per device, and one of the rig's own.
//!
//! Owns: the form of these files. Must not know: who judges them.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One line: when, in milliseconds since the run began, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the run began; all files of a run share that beginning.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The first line of a device's file: who it is.
    Device(Device),
    /// A node has taken the transport.
    Reached { node: usize },
    /// The server has let the device in.
    Up,
    /// ... and taken up the session where it ended.
    Recovered,
    /// The connection is gone.
    Down { code: Option<u16>, reason: String },
    /// The device's cable is cut for good, without a word.
    Gone,
    /// The user closes the device.
    Left,
    /// A message was handed to the client.
    Sent { conversation: String, body: String, client_id: String },
    /// ... the server has it; under this id, where the dialect says so.
    Acked { body: String, id: Option<String> },
    /// ... the client has given up.
    Failed { body: String },
    /// A message was shown.
    Shown(Shown),
    /// The server said that something is missing, or where to look.
    Told { kind: String },
    /// What was shown of a conversation is thrown away, and its history read from the beginning.
    Reloaded { conversation: String },
    /// Somebody's presence.
    Presence { user: String, online: bool },
    /// Somebody types, or no longer.
    Typing { conversation: String, user: String, on: bool },
    /// A key was pressed here.
    Typed { conversation: String },
    /// Somebody received or read.
    Receipt { read: bool, conversation: Option<String>, ids: Vec<String>, by: Option<String> },
    /// A receipt was sent from here.
    Marked { id: String, author: String },
    /// A frame that mentions a conversation this device has no business with.
    Glimpse { conversation: String, frame: String },
    /// The server refused something.
    Refused { code: String, message: String },
    /// Of the rig: a fault begins.
    Fault { name: String },
    /// Of the rig: it is over.
    Healed { name: String },
    /// Of the rig: the load ends, what is under way is waited for.
    Settle,
    /// Of the rig: this node was killed, or stopped where it stood.
    Killed { node: usize },
    /// Of the rig: a member was removed; this is when that was acknowledged.
    Removed { conversation: String, user: String },
    /// Of the rig: what is in use.
    Sample(Sample),
    /// Of the rig: a node was asked to stop.
    Stopping { node: usize },
    /// Of the rig: its readiness after that.
    Readiness { node: usize, status: u16 },
    /// Of the rig: it ended.
    Exited { node: usize, code: Option<i32> },
    /// Of the rig: clients were sent to nodes that come to stay.
    Rollout,
    /// Of the rig: the primary is down on which something of these lies; of nobody else.
    Away { conversations: Vec<String>, users: Vec<String> },
    /// Of the rig: it is started again.
    Back,
    /// Of the rig: the readiness of a node that has to be ready.
    Well { node: usize, status: u16 },
}

/// Who a device is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its user.
    pub user: String,
    /// What it speaks.
    pub dialect: String,
    /// The conversations its user is a member of from the start.
    pub conversations: Vec<String>,
}

/// A message that was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Where.
    pub conversation: String,
    /// Its id, as the dialect names it.
    pub id: String,
    /// Who wrote it.
    pub from: String,
    /// The text.
    pub body: String,
    /// It was read from the history.
    pub fetched: bool,
}

/// What the processes use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Resident memory of all nodes, in KiB.
    pub rss_kib: u64,
    /// Open descriptors of all nodes.
    pub descriptors: u64,
    /// Threads of all nodes.
    pub threads: u64,
    /// The machine's load average of the last minute, in hundredths: what else it was busy with.
    #[serde(default)]
    pub load: u64,
    /// Connections to Redis; absent when it does not answer.
    pub redis_connections: Option<u64>,
    /// Keys in Redis.
    pub redis_keys: Option<u64>,
}

/// The beginning of a run.
#[derive(Debug, Clone, Copy)]
pub struct Origin(Instant);

impl Origin {
    /// Now.
    #[expect(clippy::new_without_default, reason = "a default that differs each time would mislead")]
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since.
    pub fn elapsed(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Writes one file.
#[derive(Clone)]
pub struct Recorder {
    origin: Origin,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Recorder {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(origin: Origin, path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { origin, file: Arc::new(Mutex::new(BufWriter::new(file))) })
    }

    /// Writes a line. A full disk shows in [`Self::finish`].
    pub fn note(&self, what: What) {
        let entry = Entry { at: self.origin.elapsed(), what };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(line) = serde_json::to_string(&entry) {
            // A buffered writer keeps its failure and shows it when it is flushed.
            let _ = writeln!(file, "{line}");
        }
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        self.origin.elapsed()
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self) -> Result<()> {
        Ok(self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()?)
    }
}

/// Reads a file back.
///
/// # Errors
/// When it cannot be read or a line is none of ours.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    lines
        .map(|line| {
            let line = line?;
            serde_json::from_str(&line).with_context(|| format!("{}: {line}", path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.jsonl");
        let recorder = Recorder::create(Origin::new(), &path)?;
        let all = [
            What::Device(Device {
                user: "u".into(),
                dialect: "famly".into(),
                conversations: vec!["1".into()],
            }),
            What::Up,
            What::Down { code: Some(1012), reason: "x".into() },
            What::Sample(Sample { rss_kib: 1, ..Sample::default() }),
        ];
        all.iter().for_each(|what| recorder.note(what.clone()));
        recorder.finish()?;
        let found: Vec<What> = read(&path)?.into_iter().map(|entry| entry.what).collect();
        assert_eq!(found, all);
        Ok(())
    }
}
