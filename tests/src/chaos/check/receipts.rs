//! I9: receipts only go forward, and come from recipients.

use std::collections::{HashMap, HashSet};

use super::{Finding, Run, Track};
use crate::chaos::catchup::any_core;
use crate::chaos::history::What;
use crate::tongue::CoreId;

/// A message of the logs, as receipts need to know it.
struct Known<'a> {
    place: &'a str,
    seq: u64,
    sender: &'a str,
}

/// Messages by every name a receipt may use.
struct Names<'a> {
    by_core: HashMap<CoreId, Known<'a>>,
    by_client: HashMap<&'a str, Known<'a>>,
}

impl<'a> Names<'a> {
    fn of(run: &'a Run) -> Self {
        let (mut by_core, mut by_client) = (HashMap::new(), HashMap::new());
        for (place, items) in &run.dump.logs {
            for item in items {
                let known = || Known { place, seq: item.seq, sender: &item.sender };
                if let Some(core) = any_core(&item.id) {
                    by_core.insert(core, known());
                }
                if let Some(id) = &item.client_id {
                    by_client.insert(id.as_str(), known());
                }
            }
        }
        Self { by_core, by_client }
    }

    fn find(&self, id: &str) -> Option<&Known<'a>> {
        any_core(id).and_then(|core| self.by_core.get(&core)).or_else(|| self.by_client.get(id))
    }
}

/// I9.
pub(super) fn forward(run: &Run) -> Finding {
    let mut found = Finding::default();
    let names = Names::of(run);
    for track in run.clients() {
        one(run, track, &names, &mut found);
    }
    found
}

fn one(run: &Run, track: &Track, names: &Names<'_>, found: &mut Finding) {
    let mut upto: HashMap<(&str, &str), u64> = HashMap::new();
    let mut read_by: HashSet<(&str, &str)> = HashSet::new();
    for entry in &track.entries {
        let (read, ids, by) = match &entry.what {
            // A loss that is told takes cursors along: they are set anew.
            What::Told { .. } if run.allows().acked_loss => {
                upto.clear();
                read_by.clear();
                continue;
            }
            // Each connection is told anew what came meanwhile.
            What::Up => {
                upto.clear();
                read_by.clear();
                continue;
            }
            What::Receipt { read, ids, by: Some(by), .. } => (*read, ids, by.as_str()),
            _ => continue,
        };
        for id in ids {
            let Some(known) = names.find(id) else { continue };
            let name = &track.name;
            let is_member = run.dump.members.get(known.place).is_some_and(|all| all.iter().any(|m| m == by))
                || run.removed(by, known.place).is_some();
            found.look(is_member && by != known.sender, || {
                format!("{name}: {by} cannot have received {id} of {} in {}", known.sender, known.place)
            });
            if read {
                let last = upto.insert((known.place, by), known.seq).unwrap_or(0);
                found.look(last <= known.seq, || {
                    format!(
                        "{name}: at {} ms {by} had read {last} of {}, then {}",
                        entry.at, known.place, known.seq
                    )
                });
                read_by.insert((id, by));
            } else {
                found.look(!read_by.contains(&(id.as_str(), by)), || {
                    format!("{name}: at {} ms {id} is delivered to {by} after it was read", entry.at)
                });
            }
        }
    }
}
