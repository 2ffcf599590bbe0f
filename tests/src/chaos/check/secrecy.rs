//! I10 and I14: nobody hears what is not for them, and logs keep quiet.

use super::{Finding, Run};
use crate::chaos::history::What;
use crate::{API_KEY, SECRET};

/// After a removal is acknowledged, this long something may still come.
const REMOVAL: u64 = 1000;
/// What a panic says of itself.
const PANIC: &str = "panicked at";
/// The first letters of every token that is signed here: a JWT's head.
const TOKEN: &str = "eyJ";

/// I10.
pub(super) fn leaks(run: &Run) -> Finding {
    let mut found = Finding::default();
    for track in run.clients() {
        let user = &track.device.user;
        for entry in &track.entries {
            match &entry.what {
                What::Glimpse { conversation, frame } => {
                    found.violations.push(format!("{}: of {conversation}: {frame}", track.name));
                }
                What::Shown(shown) => {
                    let is_mine = track.device.conversations.contains(&shown.conversation);
                    let removed = run.removed(user, &shown.conversation);
                    let is_late = removed.is_some_and(|at| entry.at > at + REMOVAL + run.slack(at));
                    found.look(is_mine && !is_late, || {
                        format!("{}: {} at {} ms, removed at {removed:?}", track.name, shown.body, entry.at)
                    });
                }
                _ => {}
            }
        }
    }
    found
}

/// I14.
pub(super) fn logs(run: &Run) -> Finding {
    let mut found = Finding::default();
    for (name, text) in &run.node_logs {
        for line in text.lines() {
            found.checked += 1;
            let what = if line.contains(PANIC) {
                "a panic"
            } else if line.contains(SECRET) || line.contains(API_KEY) {
                "a secret"
            } else if line.contains(TOKEN) {
                "a token"
            } else if line.contains("m~") {
                "a body"
            } else {
                continue;
            };
            found.violations.push(format!("{name}: {what}: {line}"));
        }
    }
    found
}
