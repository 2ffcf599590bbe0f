//! I15: what nodes write to and tell has what the logs have.

use std::collections::HashSet;

use super::{Finding, Run};
use crate::chaos::catchup::Item;
use crate::chaos::outside::{Row, Seen, Told};

/// I15.
pub(super) fn agrees(run: &Run) -> Finding {
    let mut found = Finding::default();
    let Some(seen) = &run.dump.outside else { return found };
    // What a log lost with its Redis was archived and told all the same.
    let more_ok = run.allows().acked_loss;
    for (place, items) in &run.dump.logs {
        archived(&mut found, (place, items), seen, more_ok);
        told(&mut found, (place, items), seen, more_ok);
    }
    found.look(more_ok || seen.superseded == 0, || {
        format!("{} messages lost their place in the archive to another one", seen.superseded)
    });
    let count = |all: usize| all.to_string();
    let rows = count(seen.archived.values().map(Vec::len).sum());
    let events = count(seen.told.values().map(Vec::len).sum());
    found.figure =
        Some(format!("{rows} messages archived, {events} told, {} of all events again", seen.repeats));
    found
}

fn archived(found: &mut Finding, (place, items): (&str, &[Item]), seen: &Seen, more_ok: bool) {
    let rows = seen.archived.get(place).map_or(&[][..], Vec::as_slice);
    let has = |item: &Item, row: &Row| {
        let same = |row: &Row| (row.seq, &row.sender, &row.body) == (item.seq, &item.sender, &item.body);
        same(row) && row.client_id == item.client_id
    };
    for item in items {
        let times = rows.iter().filter(|row| has(item, row)).count();
        found.look(times == 1, || {
            format!("{place}: {} (seq {}) is archived {times} times", item.body, item.seq)
        });
    }
    found.look(more_ok || rows.len() == items.len(), || {
        format!("{place}: {} messages are archived, and {} are in the log", rows.len(), items.len())
    });
}

fn told(found: &mut Finding, (place, items): (&str, &[Item]), seen: &Seen, more_ok: bool) {
    let events = seen.told.get(place).map_or(&[][..], Vec::as_slice);
    let here: HashSet<&str> = items.iter().map(|item| item.body.as_str()).collect();
    let bodies = events.iter().map(|Told { body, .. }| body.as_str());
    let bodies: Vec<&str> = bodies.filter(|body| !more_ok || here.contains(body)).collect();
    let expected: Vec<&str> = items.iter().map(|item| item.body.as_str()).collect();
    found.look(bodies == expected, || {
        let first = bodies.iter().zip(&expected).position(|(told, said)| told != said);
        let (told, said) = (bodies.len(), expected.len());
        format!("{place}: of {said} messages {told} were told; the first that differs: {first:?}")
    });
}
