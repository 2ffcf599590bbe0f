//! Which of the events that were read go now. Pure.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::source::{Event, Lane};

/// Events of one lane, one after the other.
#[derive(Debug)]
pub struct Run {
    /// Of which lane.
    pub lane: String,
    /// Which.
    pub events: Vec<Event>,
}

/// Picks those that may go, in order by lane. What is `held` stays behind, and so does what comes behind something that stays:
/// its lane is held from then on. `waits`: whether nothing of a lane is to be tried yet.
pub fn pick(
    events: Vec<(Lane, Event)>,
    held: &mut FxHashSet<String>,
    waits: impl Fn(&str) -> bool,
) -> Vec<Run> {
    let (mut runs, mut at): (Vec<Run>, FxHashMap<String, usize>) = (Vec::new(), FxHashMap::default());
    // Lanes in which something goes now that has to be settled before anything behind it goes.
    let mut closed = FxHashSet::default();
    for (Lane { name, alone }, event) in events {
        let begun = at.contains_key(&name);
        if held.contains(&name) {
            continue;
        }
        if closed.contains(&name) || (alone && begun) || (!begun && waits(&name)) {
            held.insert(name);
            continue;
        }
        if alone {
            closed.insert(name.clone());
        }
        let index = *at.entry(name.clone()).or_insert_with(|| {
            runs.push(Run { lane: name, events: Vec::new() });
            runs.len() - 1
        });
        if let Some(run) = runs.get_mut(index) {
            run.events.push(event);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capitals go alone; a letter is a lane.
    fn picked(text: &str, held: &mut FxHashSet<String>, waiting: &str) -> Vec<String> {
        let event = |(index, letter): (usize, char)| {
            let lane =
                Lane { name: letter.to_ascii_lowercase().to_string(), alone: letter.is_ascii_uppercase() };
            let event = Event {
                id: format!("{letter}{index}"),
                key: String::new(),
                call: String::new(),
                target: None,
                body: None,
                at: 0,
            };
            (lane, event)
        };
        let events = text.chars().enumerate().map(event).collect();
        let runs = pick(events, held, |lane| waiting.contains(lane));
        runs.iter()
            .map(|run| run.events.iter().map(|e| e.id.as_str()).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn what_stays_holds_back_what_is_behind_it_and_nothing_else() {
        let mut held = FxHashSet::default();
        assert_eq!(picked("abab", &mut held, ""), ["a0 a2", "b1 b3"]);
        assert!(held.is_empty());
        assert_eq!(picked("abab", &mut held, "a"), ["b1 b3"]);
        assert!(held.contains("a") && !held.contains("b"));
        // Also when its wait ended between two pages.
        assert_eq!(picked("aab", &mut held, ""), ["b2"]);
    }

    #[test]
    fn what_goes_alone_goes_alone() {
        for (text, expected) in
            [("aaAaa", vec!["a0 a1"]), ("Aaa", vec!["A0"]), ("AA", vec!["A0"]), ("AbBab", vec!["A0", "b1"])]
        {
            let mut held = FxHashSet::default();
            assert_eq!(picked(text, &mut held, ""), expected, "{text}");
            assert!(held.contains("a") || text.contains('b'));
        }
    }
}
