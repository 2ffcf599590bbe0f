//! The judge: reads the histories of a run and says of every promise whether it was kept.
//!
//! Owns: reading, the list of promises, the report. Each promise is a pure function over a [`Run`]. Must not know:
//! how faults are brought about.

mod delivery;
mod limits;
mod liveness;
mod outside;
#[cfg(test)]
mod planted;
mod presence;
mod receipts;
mod resources;
mod secrecy;
mod typing;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::catchup::Item;
use super::dump::Dump;
use super::faults::Allowance;
use super::history::{self, Device, Entry, What};
use super::scenario::Scenario;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Invariant {
    /// I1: an acknowledged message is in the log once and reaches every member.
    Acked,
    /// I2: nothing twice.
    Once,
    /// I3: order.
    Order,
    /// I4: a gap is told.
    Gap,
    /// I5: who is gone is seen to be gone, once.
    Ghost,
    /// I6: who is there is never said to be gone.
    FalseOffline,
    /// I7: typing stops.
    Typing,
    /// I8: limits hold over all nodes.
    Limits,
    /// I9: receipts only go forward.
    Receipts,
    /// I10: nobody hears what is not for them.
    Leak,
    /// I11: what is used comes back to what it was.
    Bounded,
    /// I12: when all is well, it is quick, and everybody is back.
    Live,
    /// I13: a node that is asked to stop does so in good order.
    Drain,
    /// I14: no panic, and nothing secret in a log.
    Log,
    /// I15: the archive and the backend have what the logs have, once, in order.
    Outside,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Acked,
        Self::Once,
        Self::Order,
        Self::Gap,
        Self::Ghost,
        Self::FalseOffline,
        Self::Typing,
        Self::Limits,
        Self::Receipts,
        Self::Leak,
        Self::Bounded,
        Self::Live,
        Self::Drain,
        Self::Log,
        Self::Outside,
    ];

    /// Its number.
    pub fn name(self) -> String {
        format!("I{}", self as usize + 1)
    }

    /// What it promises, in short.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Acked => "acked never lost",
            Self::Once => "no duplicates",
            Self::Order => "order",
            Self::Gap => "gaps are told",
            Self::Ghost => "no ghosts",
            Self::FalseOffline => "no false offline",
            Self::Typing => "typing stops",
            Self::Limits => "limits over the cluster",
            Self::Receipts => "receipts go forward",
            Self::Leak => "no leaks",
            Self::Bounded => "bounded",
            Self::Live => "alive after healing",
            Self::Drain => "drain",
            Self::Log => "no panic, clean logs",
            Self::Outside => "archive and backend agree",
        }
    }

    fn check(self, run: &Run) -> Finding {
        match self {
            Self::Acked => delivery::acked(run),
            Self::Once => delivery::once(run),
            Self::Order => delivery::order(run),
            Self::Gap => delivery::gaps(run),
            Self::Ghost => presence::ghosts(run),
            Self::FalseOffline => presence::false_offline(run),
            Self::Typing => typing::stops(run),
            Self::Limits => limits::hold(run),
            Self::Receipts => receipts::forward(run),
            Self::Leak => secrecy::leaks(run),
            Self::Bounded => resources::bounded(run),
            Self::Live => liveness::live(run),
            Self::Drain => liveness::drain(run),
            Self::Log => secrecy::logs(run),
            Self::Outside => outside::agrees(run),
        }
    }
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many things were looked at; none: it says nothing.
    pub checked: usize,
    /// What is wrong, with evidence.
    pub violations: Vec<String>,
    /// A figure worth showing.
    pub figure: Option<String>,
}

impl Finding {
    /// One thing was looked at.
    fn look(&mut self, is_well: bool, evidence: impl FnOnce() -> String) {
        self.checked += 1;
        if !is_well {
            self.violations.push(evidence());
        }
    }
}

/// What is said of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Kept, so many times; with a figure.
    Kept(usize, Option<String>),
    /// Nothing to say, and why.
    NotApplicable(String),
    /// Broken, with evidence.
    Broken(Vec<String>),
}

/// The verdicts of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What the run is called.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// By promise.
    pub verdicts: BTreeMap<Invariant, Verdict>,
    /// Messages that were acknowledged.
    pub acked: usize,
    /// Messages that were shown, over all clients.
    pub shown: usize,
}

impl Report {
    /// Whether nothing is broken.
    pub fn is_well(&self) -> bool {
        !self.verdicts.values().any(|verdict| matches!(verdict, Verdict::Broken(_)))
    }

    /// What is broken, for people.
    pub fn evidence(&self) -> String {
        let mut text = String::new();
        for (invariant, verdict) in &self.verdicts {
            let Verdict::Broken(all) = verdict else { continue };
            text.push_str(&format!(
                "{} {} ({}): {} violations\n",
                self.name,
                invariant.name(),
                invariant.text(),
                all.len()
            ));
            all.iter().take(8).for_each(|one| text.push_str(&format!("    {one}\n")));
        }
        text
    }
}

/// A device's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Its file's name.
    pub name: String,
    /// Who it is.
    pub device: Device,
    /// What happened.
    pub entries: Vec<Entry>,
}

impl Track {
    /// Whether it takes part in the load, and is no probe.
    pub fn is_client(&self) -> bool {
        self.device.dialect != "probe"
    }

    /// When its cable was cut for good.
    pub fn gone(&self) -> Option<u64> {
        self.entries.iter().find(|entry| entry.what == What::Gone).map(|entry| entry.at)
    }

    /// What happened since a conversation was read anew, or all of it.
    pub fn since_reload<'a>(&'a self, conversation: &str) -> &'a [Entry] {
        let reloaded =
            |entry: &Entry| matches!(&entry.what, What::Reloaded { conversation: c } if c == conversation);
        let from = self.entries.iter().rposition(reloaded).unwrap_or(0);
        &self.entries[from..]
    }

    /// What it shows of a conversation in the end: since when and which text.
    pub fn shown<'a>(&'a self, conversation: &'a str) -> impl Iterator<Item = (u64, &'a str)> + 'a {
        shown(self.since_reload(conversation), conversation)
    }

    /// What it ever showed of a conversation.
    pub fn ever_shown<'a>(&'a self, conversation: &'a str) -> impl Iterator<Item = (u64, &'a str)> + 'a {
        shown(&self.entries, conversation)
    }

    /// From when to when it was connected.
    pub fn connected(&self) -> Vec<(u64, u64)> {
        let mut spans = Vec::new();
        let mut since = None;
        for entry in &self.entries {
            match entry.what {
                What::Up => since = Some(entry.at),
                What::Down { .. } | What::Gone | What::Left => {
                    spans.extend(since.take().map(|from| (from, entry.at)));
                }
                _ => {}
            }
        }
        spans.extend(since.map(|from| (from, u64::MAX)));
        spans
    }

    /// Whether it was connected all that time.
    pub fn is_connected(&self, from: u64, to: u64) -> bool {
        self.connected().iter().any(|(up, down)| *up <= from && *down >= to)
    }

    /// When the server said that something may be missing: in so many words, or by a session that is a new one
    /// where the dialect has sessions that are taken up.
    pub fn told(&self) -> Vec<u64> {
        let recovers = matches!(self.device.dialect.as_str(), "famly" | "lingochat" | "chatgenius");
        let mut told = Vec::new();
        for (n, entry) in self.entries.iter().enumerate() {
            match &entry.what {
                What::Told { .. } => told.push(entry.at),
                What::Up if recovers => {
                    let next = self.entries.get(n + 1).map(|next| &next.what);
                    if next != Some(&What::Recovered) {
                        told.push(entry.at);
                    }
                }
                _ => {}
            }
        }
        told
    }
}

/// Everything a run has left.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What was to happen.
    pub scenario: Scenario,
    /// The clients.
    pub tracks: Vec<Track>,
    /// What the rig did.
    pub rig: Vec<Entry>,
    /// The logs at the end.
    pub dump: Dump,
    /// The nodes' own logs.
    pub node_logs: Vec<(String, String)>,
}

impl Run {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When something is missing or is not of our form.
    pub fn load(folder: &Path) -> Result<Self> {
        let scenario = std::fs::read_to_string(folder.join("scenario.json"))?;
        let mut run = Self {
            scenario: serde_json::from_str(&scenario)?,
            tracks: Vec::new(),
            rig: history::read(&folder.join("rig.jsonl"))?,
            dump: Dump::load(&folder.join("dump.json"))?,
            node_logs: Vec::new(),
        };
        let mut paths: Vec<_> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            match path.extension().and_then(|kind| kind.to_str()) {
                Some("log") => run.node_logs.push((name, std::fs::read_to_string(&path)?)),
                Some("jsonl") if name != "rig" => run.tracks.push(track(name, history::read(&path)?)?),
                _ => {}
            }
        }
        if run.tracks.is_empty() {
            bail!("{} holds no histories", folder.display());
        }
        Ok(run)
    }

    /// Judges it.
    pub fn judge(&self) -> Report {
        let verdict = |invariant: Invariant| {
            if let Some(why) = self.scenario.excludes(invariant) {
                return Verdict::NotApplicable(why.to_owned());
            }
            let found = invariant.check(self);
            if !found.violations.is_empty() {
                Verdict::Broken(found.violations)
            } else if found.checked == 0 {
                Verdict::NotApplicable("nothing to look at".to_owned())
            } else {
                Verdict::Kept(found.checked, found.figure)
            }
        };
        let count = |what: fn(&What) -> bool| {
            self.tracks.iter().flat_map(|track| &track.entries).filter(|entry| what(&entry.what)).count()
        };
        Report {
            name: self.scenario.name.clone(),
            seed: self.scenario.seed,
            verdicts: Invariant::ALL.into_iter().map(|one| (one, verdict(one))).collect(),
            acked: count(|what| matches!(what, What::Acked { .. })),
            shown: count(|what| matches!(what, What::Shown(_))),
        }
    }

    fn allows(&self) -> Allowance {
        self.scenario.allows()
    }

    /// The clients that take part in the load.
    fn clients(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.is_client())
    }

    /// When the first fault began and the last one was over.
    fn faulty(&self) -> Option<(u64, u64)> {
        let began = self.rig.iter().find(|entry| matches!(entry.what, What::Fault { .. }))?.at;
        let healed = self.rig.iter().rev().find(|entry| matches!(entry.what, What::Healed { .. }))?.at;
        Some((began, healed))
    }

    /// What may come later than it should at a time: nothing, but around a fault what that allows.
    fn slack(&self, at: u64) -> u64 {
        let stall = self.allows().stall_ms;
        match self.faulty() {
            Some((began, healed)) if at >= began && at <= healed + stall => stall + (healed - began),
            _ => 0,
        }
    }

    /// When the load ended.
    fn settled(&self) -> u64 {
        self.rig.iter().find(|entry| entry.what == What::Settle).map_or(u64::MAX, |entry| entry.at)
    }

    /// When a user was removed from a conversation.
    fn removed(&self, user: &str, conversation: &str) -> Option<u64> {
        self.rig.iter().find_map(|entry| match &entry.what {
            What::Removed { conversation: c, user: u } if c == conversation && u == user => Some(entry.at),
            _ => None,
        })
    }

    /// Every message of the logs by its text.
    fn by_body(&self) -> HashMap<&str, (&str, &Item)> {
        let all = self.dump.logs.iter();
        all.flat_map(|(id, items)| items.iter().map(move |item| (item.body.as_str(), (id.as_str(), item))))
            .collect()
    }
}

fn shown<'a>(entries: &'a [Entry], conversation: &'a str) -> impl Iterator<Item = (u64, &'a str)> + 'a {
    entries.iter().filter_map(move |entry| match &entry.what {
        What::Shown(shown) if shown.conversation == conversation => Some((entry.at, shown.body.as_str())),
        _ => None,
    })
}

fn track(name: String, entries: Vec<Entry>) -> Result<Track> {
    let device = entries.iter().find_map(|entry| match &entry.what {
        What::Device(device) => Some(device.clone()),
        _ => None,
    });
    Ok(Track { device: device.with_context(|| format!("{name} does not say who it is"))?, name, entries })
}
