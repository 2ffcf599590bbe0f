//! I12 and I13: after healing it is quick and everybody is back; a node that is asked to stop does so in good order.

use std::collections::HashMap;

use super::{Finding, Run};
use crate::chaos::Fault;
use crate::chaos::history::What;
use crate::chaos::rig::DRAIN_MS;

/// From healing on, sends must be quick after this long.
const QUICK_AFTER: u64 = 10_000;
/// A primary's death is noticed after this long.
const NOTICED: u64 = 1500;
/// While a primary is down, what lies elsewhere is acknowledged within this.
const GOES_ON: u64 = 1500;
/// What a node may take to end when its time is over: a moment for closing handshakes, and the engine.
const ENDS_WITHIN: u64 = 5000;
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
    elsewhere(run, &mut found);
    found
}

/// While a primary is down, what lies on others goes on and no node is taken out; and nobody is told that something is
/// kept where it cannot be.
fn elsewhere(run: &Run, found: &mut Finding) {
    let mut rig = run.rig.iter();
    let down = rig.by_ref().find_map(|entry| match &entry.what {
        What::Away { conversations, users } => Some((entry.at, conversations, users)),
        _ => None,
    });
    let Some((down, conversations, users)) = down else { return };
    let back = rig.find(|entry| entry.what == What::Back).map_or(u64::MAX, |entry| entry.at);
    for entry in &run.rig {
        if let What::Well { node, status } = entry.what {
            found.look(status == 200, || format!("node {node} answers {status} at {}: not ready", entry.at));
        }
    }
    let (mut quick, mut refused) = (0, 0);
    for track in run.clients().filter(|track| track.gone().is_none()) {
        for entry in &track.entries {
            let What::Sent { body, conversation, .. } = &entry.what else { continue };
            if entry.at < down + NOTICED || entry.at + GOES_ON > back {
                continue;
            }
            let acked = track.entries.iter().find_map(|it| match &it.what {
                What::Acked { body: acked, .. } if acked == body => Some(it.at),
                _ => None,
            });
            let said = || format!("{} said {body} at {}, acknowledged at {acked:?}", track.name, entry.at);
            if conversations.contains(conversation) {
                refused += 1;
                let lies = acked.is_some_and(|at| at < back);
                found.look(!lies, || format!("{}, where nothing can be kept", said()));
            } else if !users.contains(&track.device.user) {
                quick += 1;
                let went_on = acked.is_some_and(|at| at - entry.at <= GOES_ON);
                found.look(went_on, || format!("{}, which has nothing to do with what is down", said()));
            }
        }
    }
    found.look(quick > 0, || "nobody said anything that had to go on".to_owned());
    let figure = format!("meanwhile {quick} went on, {refused} waited");
    found.figure = Some(found.figure.take().map_or(figure.clone(), |earlier| format!("{earlier}; {figure}")));
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

/// A node that owes an answer waits for it as long as it may, and no longer.
fn deadline(run: &Run, found: &mut Finding) {
    let at =
        |wanted: fn(&What) -> bool| run.rig.iter().find(|entry| wanted(&entry.what)).map(|entry| entry.at);
    let asked = at(|what| matches!(what, What::Stopping { .. }));
    let ended = at(|what| matches!(what, What::Exited { .. }));
    let took = asked.zip(ended).map(|(asked, ended)| ended - asked);
    let in_time = took.is_some_and(|took| (DRAIN_MS..=DRAIN_MS + ENDS_WITHIN).contains(&took));
    found.look(in_time, || format!("a node with a deadline of {DRAIN_MS} ms ended after {took:?}"));
    found.figure = took.map(|took| format!("ended {took} ms after it was asked to"));
}

/// I13.
pub(super) fn drain(run: &Run) -> Finding {
    let mut found = Finding::default();
    for entry in &run.rig {
        match entry.what {
            What::Readiness { node, status } => found.look(status != 200, || {
                format!("node {node} says that it is ready after it was asked to stop")
            }),
            What::Exited { node, code } => {
                found.look(code == Some(0), || format!("node {node} ended with {code:?}"));
            }
            _ => {}
        }
    }
    if run.scenario.has(Fault::DrainDeadline) {
        deadline(run, &mut found);
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
