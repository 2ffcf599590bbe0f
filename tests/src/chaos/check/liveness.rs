//! I12 and I13: after healing it is quick and everybody is back; a node that is asked to stop does so in good order.

use std::collections::HashMap;

use super::{Finding, Run};
use crate::chaos::history::What;

/// From healing on, sends must be quick after this long.
const QUICK_AFTER: u64 = 10_000;
/// From healing on, everybody must be back within this.
const BACK_WITHIN: u64 = 5000;

/// I12.
pub(super) fn live(run: &Run) -> Finding {
    let mut found = Finding::default();
    let Some((_, healed)) = run.faulty() else { return found };
    let mut waits = Vec::new();
    for track in run.clients().filter(|track| track.gone().is_none()) {
        let mut answers = HashMap::new();
        for entry in &track.entries {
            match &entry.what {
                What::Acked { body, .. } | What::Failed { body } => answers.insert(body, entry.at),
                _ => None,
            };
        }
        for entry in &track.entries {
            let What::Sent { body, conversation, .. } = &entry.what else { continue };
            let is_member = run.removed(&track.device.user, conversation).is_none();
            if is_member && entry.at >= healed + QUICK_AFTER && entry.at < run.settled() {
                waits.push(answers.get(body).map_or(u64::MAX, |at| at - entry.at));
            }
        }
        let check = healed + BACK_WITHIN + 500;
        if check < run.settled() {
            found.look(track.is_connected(check, check), || {
                let spans = track.connected();
                format!("{}: not back {BACK_WITHIN} ms after healing at {healed}: {spans:?}", track.name)
            });
        }
    }
    waits.sort_unstable();
    if let Some(p99) = waits.get(waits.len().saturating_sub(1) * 99 / 100).copied() {
        let limit = run.scenario.ack_p99_ms;
        found.look(p99 <= limit, || {
            let load = load(run) as f64 / 100.0;
            format!("p99 of {} sends after healing: {p99} ms; the machine's load was {load}", waits.len())
        });
        found.figure = Some(format!("p99 {p99} ms of {}", waits.len()));
    }
    found
}

/// The machine's load at the end: on one that is busy with other things nothing is quick.
fn load(run: &Run) -> u64 {
    let mut samples = run.rig.iter().rev();
    let last = samples.find_map(|entry| match &entry.what {
        What::Sample(sample) => Some(sample.load),
        _ => None,
    });
    last.unwrap_or(0)
}

/// I13.
pub(super) fn drain(run: &Run) -> Finding {
    let mut found = Finding::default();
    let mut stopping = None;
    for entry in &run.rig {
        match entry.what {
            What::Stopping { .. } => stopping = stopping.or(Some(entry.at)),
            What::Readiness { node, status } => found.look(status != 200, || {
                format!("node {node} says that it is ready after it was asked to stop")
            }),
            What::Exited { node, code } => {
                found.look(code == Some(0), || format!("node {node} ended with {code:?}"));
            }
            _ => {}
        }
    }
    let rollout = run.rig.iter().find(|entry| entry.what == What::Rollout).map(|entry| entry.at);
    let Some((rollout, (_, healed))) = rollout.zip(run.faulty()) else { return found };
    for track in run.clients().filter(|track| track.gone().is_none()) {
        let during = |at: u64| at >= rollout && at <= healed;
        let bounces = track
            .entries
            .iter()
            .filter(|entry| matches!(entry.what, What::Down { .. }) && during(entry.at))
            .count();
        found.look(bounces <= 1, || format!("{} was sent away {bounces} times in one rollout", track.name));
    }
    found
}
