//! I11: what is used comes back to what it was.

use super::{Finding, Run};
use crate::chaos::history::{Sample, What};

/// How long after the last fault it may take.
const AFTER: u64 = 60_000;
/// Fewer descriptors or connections than this more is noise.
const FEW: u64 = 12;
/// Memory below this more is the allocator's, in KiB.
const SOME_KIB: u64 = 48 * 1024;

/// One of the figures of a sample.
type Figure = fn(&Sample) -> u64;

/// I11.
pub(super) fn bounded(run: &Run) -> Finding {
    let mut found = Finding::default();
    let Some((began, healed)) = run.faulty() else { return found };
    let before = samples(run, began.saturating_sub(3000), began);
    let settled = run.settled();
    let after = samples(run, settled.saturating_sub(3000), settled);
    let figures: [(&str, u64, Figure); 3] = [
        ("descriptors", FEW, |sample| sample.descriptors),
        ("connections to Redis", FEW, |sample| sample.redis_connections.unwrap_or(0)),
        ("KiB of memory", SOME_KIB, |sample| sample.rss_kib),
    ];
    for (name, noise, figure) in figures {
        let (before, after) = (median(&before, figure), median(&after, figure));
        if before == 0 || after == 0 {
            continue;
        }
        // Before its time is up, a run can only show what grows without bound.
        let factor = if settled >= healed + AFTER { 110 } else { 150 };
        found.look(after <= before * factor / 100 + noise, || format!("{name}: {before}, then {after}"));
        let text = format!("{before} → {after} {name}");
        found.figure = Some(found.figure.map_or(text.clone(), |all| format!("{all}, {text}")));
    }
    found
}

fn samples(run: &Run, from: u64, to: u64) -> Vec<&Sample> {
    let all = run.rig.iter().filter(|entry| entry.at >= from && entry.at <= to);
    all.filter_map(|entry| match &entry.what {
        What::Sample(sample) => Some(sample),
        _ => None,
    })
    .collect()
}

fn median(samples: &[&Sample], figure: Figure) -> u64 {
    let mut all: Vec<u64> = samples.iter().map(|sample| figure(sample)).filter(|value| *value > 0).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}
