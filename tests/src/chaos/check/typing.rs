//! I7: who no longer types is no longer said to.

use super::{Finding, Run, Track};
use crate::chaos::history::What;

/// From the last word of a typist to the end, as it is promised.
const STOPS_AFTER: u64 = 4000 + 500;
/// A client goes on saying that it types for so long after the last key.
const LINGERS: u64 = 2000;
/// What a busy machine may add.
const BUSY: u64 = 1000;

/// I7.
pub(super) fn stops(run: &Run) -> Finding {
    let mut found = Finding::default();
    for track in run.clients().filter(|track| track.gone().is_none()) {
        for (n, entry) in track.entries.iter().enumerate() {
            let What::Typing { conversation, user, on: true } = &entry.what else { continue };
            if *user == track.device.user || entry.at > run.settled() {
                continue;
            }
            let keys = keys(run, user, conversation);
            let slack = run.slack(entry.at);
            let from = entry.at.saturating_sub(LINGERS + BUSY + slack);
            found.look(keys.iter().any(|key| *key >= from && *key <= entry.at), || {
                format!("{}: at {} ms {user} starts to type in {conversation}, late", track.name, entry.at)
            });
            let deadline = deadline(entry.at, &keys) + slack;
            let end = end(track, n, (conversation, user));
            if end.is_none_or(|end| end > deadline) && is_removed(run, track, conversation) {
                continue;
            }
            // Whoever is not connected, or a run that ends, hears no end.
            if end.is_none() && (!track.is_connected(entry.at, deadline) || deadline > run.settled()) {
                continue;
            }
            let end = end.unwrap_or(u64::MAX);
            found.look(end <= deadline, || {
                let Track { name, device, .. } = track;
                let end = if end == u64::MAX { "never".to_owned() } else { format!("at {end} ms") };
                let dialect = &device.dialect;
                format!("{name} ({dialect}): {user} types in {conversation} from {} ms; ends {end}, due by {deadline}", entry.at)
            });
        }
    }
    found
}

/// Whether the device's user lost the conversation, or one of them if the dialect does not say which: then nothing
/// more is heard of it.
fn is_removed(run: &Run, track: &Track, conversation: &str) -> bool {
    let mut mine = track.device.conversations.iter();
    mine.any(|place| {
        (conversation.is_empty() || place == conversation) && run.removed(&track.device.user, place).is_some()
    })
}

/// When a user pressed keys in a conversation, or anywhere if the dialect does not say where.
fn keys(run: &Run, user: &str, conversation: &str) -> Vec<u64> {
    let devices = run.clients().filter(|track| track.device.user == user);
    let mut keys: Vec<u64> = devices
        .flat_map(|track| &track.entries)
        .filter(|entry| {
            matches!(&entry.what, What::Typed { conversation: c } if conversation.is_empty() || c == conversation)
        })
        .map(|entry| entry.at)
        .collect();
    keys.sort_unstable();
    keys
}

/// By when the end must be heard: every further key puts it off.
fn deadline(start: u64, keys: &[u64]) -> u64 {
    let span = LINGERS + STOPS_AFTER + BUSY;
    keys.iter().filter(|key| **key >= start).fold(start + span, |deadline, key| {
        if *key <= deadline { deadline.max(key + span) } else { deadline }
    })
}

/// When the end is heard, or the connection ends.
fn end(track: &Track, from: usize, (conversation, user): (&str, &str)) -> Option<u64> {
    track.entries[from..].iter().find_map(|entry| match &entry.what {
        What::Typing { conversation: c, user: u, on: false } if c == conversation && u == user => {
            Some(entry.at)
        }
        What::Down { .. } | What::Left => Some(entry.at),
        _ => None,
    })
}
