//! I1 to I4: messages arrive, once, in order, and what does not is told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Finding, Run, Track};
use crate::chaos::catchup::{Item, any_core};
use crate::chaos::history::What;

/// I1.
pub(super) fn acked(run: &Run) -> Finding {
    let mut found = Finding::default();
    let counts = counts(run);
    let lost_ok = run.allows().acked_loss;
    for (track, at, body) in acks(run) {
        let count = counts.get(body).copied().unwrap_or(0);
        found.look(count == 1 || (count == 0 && lost_ok), || {
            format!("{}: {body}, acknowledged at {at} ms, is in the log {count} times", track.name)
        });
    }
    for track in run.clients().filter(|track| track.gone().is_none()) {
        for (place, items) in mine(run, track) {
            let shown: HashSet<&str> = kept(track, place).map(|(_, body)| body).collect();
            for item in items.iter().filter(|item| is_for(track, item)) {
                found.look(shown.contains(item.body.as_str()), || {
                    let Track { name, device, .. } = track;
                    format!("{name} ({}): {} (seq {}) never reached it", device.dialect, item.body, item.seq)
                });
            }
            if !lost_ok {
                let here: HashSet<&str> = items.iter().map(|item| item.body.as_str()).collect();
                let phantom: Vec<&&str> = shown.iter().filter(|body| !here.contains(**body)).collect();
                found.look(phantom.is_empty(), || {
                    format!("{}: shown, but in no log: {phantom:?}", track.name)
                });
            }
        }
    }
    found
}

/// I2.
pub(super) fn once(run: &Run) -> Finding {
    let mut found = Finding::default();
    for (body, count) in counts(run) {
        found.look(count == 1, || format!("{body} is in the log {count} times"));
    }
    for (place, items) in &run.dump.logs {
        let mut ids = HashMap::new();
        for item in items {
            if let Some(id) = &item.client_id
                && let Some(other) = ids.insert((&item.sender, id), &item.id)
            {
                found
                    .violations
                    .push(format!("{place}: {id} of {} has ids {other}, {}", item.sender, item.id));
            }
        }
    }
    let mut answers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for track in &run.tracks {
        for entry in &track.entries {
            if let What::Acked { body, id: Some(id) } = &entry.what {
                answers.entry(body).or_default().insert(id);
            }
        }
    }
    // An acknowledgement that is lost with its message makes room for another.
    let answers = answers.into_iter().filter(|_| !run.allows().acked_loss);
    for (body, ids) in answers {
        found.look(ids.len() == 1, || format!("{body} was acknowledged under {ids:?}"));
    }
    for track in run.clients() {
        let (mut bodies, mut ids) = (HashMap::new(), HashMap::<(&String, &String, String), _>::new());
        for entry in &track.entries {
            let shown = match &entry.what {
                What::Shown(shown) => shown,
                What::Reloaded { conversation } => {
                    bodies.retain(|(place, _), _| *place != conversation);
                    ids.retain(|(place, ..), _| *place != conversation);
                    continue;
                }
                _ => continue,
            };
            let again = bodies.insert((&shown.conversation, &shown.body), &shown.id);
            found.look(again.is_none(), || {
                format!("{}: {} shown as {:?} and as {}", track.name, shown.body, again, shown.id)
            });
            let key = any_core(&shown.id).map_or_else(|| shown.id.clone(), |core| format!("{core:?}"));
            if let Some(other) = ids.insert((&shown.conversation, &shown.from, key), &shown.body)
                && *other != shown.body
            {
                found
                    .violations
                    .push(format!("{}: {} is the id of {other} and of {}", track.name, shown.id, shown.body));
            }
        }
    }
    found
}

/// I3.
pub(super) fn order(run: &Run) -> Finding {
    let mut found = Finding::default();
    let places = run.by_body();
    let seq = |body: &str| places.get(body).map(|(_, item)| item.seq);
    for track in run.clients() {
        for place in &track.device.conversations {
            let mut last: Option<(u64, &str)> = None;
            for (at, body) in track.shown(place) {
                let Some((_, item)) = places.get(body).filter(|(_, item)| is_for(track, item)) else {
                    continue;
                };
                let seq = item.seq;
                found.look(last.is_none_or(|(before, _)| before < seq), || {
                    let Track { name, device, .. } = track;
                    format!("{name} ({}): at {at} ms {body} (seq {seq}) after {last:?}", device.dialect)
                });
                last = Some((seq, body));
            }
        }
        let sent = track.entries.iter().filter_map(|entry| match &entry.what {
            What::Sent { conversation, body, .. } => Some((conversation, body)),
            _ => None,
        });
        let mut last: HashMap<&String, (u64, &String)> = HashMap::new();
        for (conversation, body) in sent {
            let Some(seq) = seq(body) else { continue };
            if let Some((before, other)) = last.insert(conversation, (seq, body)) {
                found.look(before < seq, || format!("{}: {body} is in the log before {other}", track.name));
            }
        }
    }
    found
}

/// I4.
pub(super) fn gaps(run: &Run) -> Finding {
    let mut found = Finding::default();
    let places = run.by_body();
    let in_log: HashSet<&str> = places.keys().copied().collect();
    for track in run.clients().filter(|track| track.gone().is_none()) {
        let told = track.told();
        for (place, items) in mine(run, track) {
            let shown: Vec<(u64, u64)> = kept(track, place)
                .filter_map(|(at, body)| places.get(body).map(|(_, item)| (at, item.seq)))
                .collect();
            let seen: HashSet<u64> = shown.iter().map(|(_, seq)| *seq).collect();
            let newest = seen.iter().max().copied().unwrap_or(0);
            for item in items.iter().filter(|item| item.seq < newest && is_for(track, item)) {
                let before = shown.iter().filter(|(_, seq)| *seq < item.seq).map(|(at, _)| *at).max();
                let after = shown.iter().filter(|(_, seq)| *seq > item.seq).map(|(at, _)| *at).min();
                let (before, after) = (before.unwrap_or(0), after.unwrap_or(u64::MAX));
                let is_told = told.iter().any(|at| *at >= before && *at <= after);
                found.look(seen.contains(&item.seq) || is_told, || {
                    let Track { name, device, .. } = track;
                    let dialect = &device.dialect;
                    format!("{name} ({dialect}): lacks {} (seq {}), has {newest}", item.body, item.seq)
                });
            }
        }
        lost(run, track, (&in_log, &told), &mut found);
    }
    found
}

/// What was acknowledged and is lost must be told to those who never saw it.
fn lost(run: &Run, track: &Track, (in_log, told): (&HashSet<&str>, &[u64]), found: &mut Finding) {
    if !run.allows().acked_loss {
        return;
    }
    for (_, at, body) in acks(run).filter(|(_, _, body)| !in_log.contains(body)) {
        let place = body.split('~').nth(1).unwrap_or_default();
        let is_own = body.split('~').nth(2) == Some(&track.name);
        if is_own || !track.device.conversations.iter().any(|mine| mine == place) {
            continue;
        }
        let is_shown = track.ever_shown(place).any(|(_, shown)| shown == body);
        found.look(is_shown || told.iter().any(|told| *told >= at), || {
            let Track { name, device, .. } = track;
            format!("{name} ({}): never heard of {body}, which is lost, and was not told", device.dialect)
        });
    }
}

/// Conversations the device's user is a member of to the end, with their logs.
fn mine<'a>(run: &'a Run, track: &'a Track) -> impl Iterator<Item = (&'a str, &'a [Item])> {
    track.device.conversations.iter().filter_map(move |place| {
        let is_member = run.removed(&track.device.user, place).is_none();
        let items = run.dump.logs.get(place).filter(|_| is_member)?;
        Some((place.as_str(), items.as_slice()))
    })
}

/// What a device knows of a conversation in the end: what it shows since it was read anew; with SeChat also what it
/// showed before, for there a message keeps its id when it is appended anew, and is not told again.
fn kept<'a>(track: &'a Track, place: &'a str) -> Box<dyn Iterator<Item = (u64, &'a str)> + 'a> {
    if track.device.dialect == "sechat" {
        Box::new(track.ever_shown(place))
    } else {
        Box::new(track.shown(place))
    }
}

/// SeChat does not send an author's messages back.
fn is_for(track: &Track, item: &Item) -> bool {
    track.device.dialect != "sechat" || item.sender != track.device.user
}

fn counts(run: &Run) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in run.dump.logs.values().flatten() {
        *counts.entry(item.body.as_str()).or_default() += 1;
    }
    counts
}

fn acks(run: &Run) -> impl Iterator<Item = (&Track, u64, &str)> {
    run.tracks.iter().flat_map(|track| {
        track.entries.iter().filter_map(move |entry| match &entry.what {
            What::Acked { body, .. } => Some((track, entry.at, body.as_str())),
            _ => None,
        })
    })
}
