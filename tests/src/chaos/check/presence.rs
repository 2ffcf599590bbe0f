//! I5 and I6: who is gone is seen to be gone, who is there is not.

use std::collections::BTreeMap;

use super::{Finding, Run, Track};
use crate::chaos::history::What;

/// A lease, a sweep and the way to the clients.
const GONE_AFTER: u64 = 35_000 + 1000 + 1000;
/// What leases are given right after Redis was away.
const AFTER_OUTAGE: u64 = 15_000;
/// Leases of a dead node hold for so long: whoever is back within it was never away.
const LEASE: u64 = 35_000;
/// What a busy machine may add.
const BUSY: u64 = 1500;
/// How much earlier than the client the server may notice that they are cut off.
const FIRST_TO_KNOW: u64 = 1000;
/// An "offline" that was true this long before it was heard was on its way; announcements are throttled to one in
/// two seconds.
const ON_ITS_WAY: u64 = 3000;

/// Whether presence of users is heard in this dialect.
fn watches(track: &Track) -> bool {
    matches!(track.device.dialect.as_str(), "sechat" | "socialhub" | "famly") && track.gone().is_none()
}

/// What a device was told of a user: when, and whether online.
fn heard<'a>(track: &'a Track, user: &'a str) -> impl Iterator<Item = (u64, bool)> + 'a {
    track.entries.iter().filter_map(move |entry| match &entry.what {
        What::Presence { user: u, online } if u == user => Some((entry.at, *online)),
        _ => None,
    })
}

/// I5.
pub(super) fn ghosts(run: &Run) -> Finding {
    let mut found = Finding::default();
    let outage = if run.allows().redis_away { AFTER_OUTAGE } else { 0 };
    for gone in run.clients() {
        let Some(at) = gone.gone() else { continue };
        let user = &gone.device.user;
        let deadline = at + GONE_AFTER + outage + BUSY;
        if run.settled() < deadline {
            continue;
        }
        for track in run.clients().filter(|track| watches(track) && track.device.user != *user) {
            let told: Vec<(u64, bool)> = heard(track, user).filter(|(x, _)| *x >= at).collect();
            let name = &track.name;
            if track.is_connected(at, deadline) {
                let first = told.iter().find(|(_, online)| !online).map(|(x, _)| x - at);
                found.look(first.is_some_and(|after| at + after <= deadline), || {
                    format!("{name}: {user} went at {at} ms; seen to be gone after {first:?} ms")
                });
                let ends = told.iter().filter(|(_, online)| !online).count();
                found.look(ends <= 1, || format!("{name}: {user} was said to go {ends} times: {told:?}"));
            } else {
                // It may have been away when it was said; but it must not believe otherwise now.
                let last = heard(track, user).last();
                found.look(!matches!(last, Some((x, true)) if x >= at), || {
                    format!("{name}: {user} went at {at} ms and is there again: {last:?}")
                });
            }
        }
    }
    found
}

/// I6.
pub(super) fn false_offline(run: &Run) -> Finding {
    let mut found = Finding::default();
    let present = present(run);
    for track in run.clients().filter(|track| watches(track)) {
        for (user, spans) in &present {
            if *user == track.device.user {
                continue;
            }
            let was_there = |from: u64, to: u64| spans.iter().any(|(up, down)| *up <= from && *down >= to);
            let mut last = None;
            for (at, online) in heard(track, user) {
                last = Some((at, online));
                if online || at > run.settled() {
                    continue;
                }
                let since = at.saturating_sub(ON_ITS_WAY + run.slack(at));
                // The server may see the end of a connection a little before the client does.
                found.look(!was_there(since, at + FIRST_TO_KNOW), || {
                    format!("{}: {user} said to be offline at {at} ms; was there: {spans:?}", track.name)
                });
            }
            let end = run.settled();
            let is_long_there = was_there(end.saturating_sub(10_000), end);
            // What was said while the device was away it cannot know; what it heard last, it goes on believing.
            if is_long_there && track.is_connected(end.saturating_sub(10_000), end) {
                let believes = matches!(last, Some((at, false)) if track.is_connected(at, end));
                found.look(!believes, || {
                    format!("{}: {user} is there, and still offline since {last:?}", track.name)
                });
            }
        }
    }
    found
}

/// From when to when each user had a device connected; a node's death alone takes nobody away who is back in time.
fn present(run: &Run) -> BTreeMap<&str, Vec<(u64, u64)>> {
    let mut all: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for track in run.clients() {
        all.entry(&track.device.user).or_default().extend(spans(run, track));
    }
    for spans in all.values_mut() {
        spans.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (up, down) in spans.drain(..) {
            match joined.last_mut() {
                Some(last) if up <= last.1 => last.1 = last.1.max(down),
                _ => joined.push((up, down)),
            }
        }
        *spans = joined;
    }
    all
}

fn spans(run: &Run, track: &Track) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for (up, down) in track.connected() {
        match spans.last_mut() {
            Some(last) if up - last.1 < LEASE && died_under(run, track, last.1) => last.1 = down,
            _ => spans.push((up, down)),
        }
    }
    spans
}

/// Whether the connection that ended then was one to a node that was killed a moment before.
fn died_under(run: &Run, track: &Track, at: u64) -> bool {
    let reached = track.entries.iter().rev().find_map(|entry| match entry.what {
        What::Reached { node } if entry.at <= at => Some(node),
        _ => None,
    });
    run.rig.iter().any(|entry| {
        matches!(entry.what, What::Killed { node } if Some(node) == reached) && at.abs_diff(entry.at) < 2000
    })
}
