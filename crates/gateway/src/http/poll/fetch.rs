//! The entries that integers point at, as they are told.
//!
//! Must not know: integers' meaning, cursors.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use parlance_backplane::{Fault, Range};
use parlance_model::{Entry, Event, LogKey, Resync};
use parlance_wire::{Accent, Encoded, Style};

use super::reader::{Item, Told};
use super::scope::{Scope, Source};
use crate::events;
use crate::node::Node;

/// Entries between two that are wanted are read along when they are no more than this.
const SKIP: u64 = 16;
/// Entries read at once.
const RUN: u64 = 500;
/// Reads under way at once.
const AT_ONCE: usize = 8;

/// An integer, its log, and the place there.
pub(super) type Pointer = (u64, LogKey, u64);

/// An entry in this dialect; `None` when there is no word for it.
pub(super) fn tell(source: &Source, entry: &Entry, style: &Style) -> Option<Encoded> {
    let event = events::of_entry(&source.log, source.number, entry, false)?;
    parlance_wire::encode(Accent::Socialhub, style, &event)
}

/// Reads entries for one user.
pub(super) struct Fetch<'a> {
    pub node: &'a Arc<Node>,
    pub scope: &'a Scope,
    pub style: &'a Style,
}

/// A stretch of one log, with the integers of what is wanted of it, by sequence.
struct Run<'a> {
    source: &'a Source,
    wanted: BTreeMap<u64, u64>,
}

impl Fetch<'_> {
    /// What the user may hear of these; and the first integer of each stretch that is out of reach.
    pub(super) async fn all(&self, pointers: &[Pointer]) -> (Vec<Item>, Vec<(u64, Fault)>) {
        let mut by_log: BTreeMap<&LogKey, BTreeMap<u64, u64>> = BTreeMap::new();
        for (integer, log, seq) in pointers {
            by_log.entry(log).or_default().insert(*seq, *integer);
        }
        let (mut runs, mut lost) = (Vec::new(), Vec::new());
        for (log, wanted) in by_log {
            if let Some(source) = self.scope.source(log) {
                runs.extend(cut(source, wanted));
            } else if self.scope.is_away(log) {
                lost.extend(wanted.values().min().map(|first| (*first, out_of_reach())));
            }
            // Else: who is no member any more hears nothing of before either.
        }
        let mut reads = Vec::with_capacity(runs.len());
        for run in runs {
            let first = run.wanted.values().min().copied().unwrap_or_default();
            reads.push(self.read(run).map(move |read| read.map_err(|fault| (first, fault))));
        }
        let mut items = Vec::new();
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        while let Some(read) = reads.next().await {
            match read {
                Ok(some) => items.extend(some),
                Err(fault) => lost.push(fault),
            }
        }
        (items, lost)
    }

    async fn read(&self, run: Run<'_>) -> Result<Vec<Item>, Fault> {
        let Run { source, mut wanted } = run;
        let (Some((&first, _)), Some((&last, _))) = (wanted.first_key_value(), wanted.last_key_value())
        else {
            return Ok(Vec::new());
        };
        let mut items = Vec::with_capacity(wanted.len());
        let mut seq = first.saturating_sub(1);
        loop {
            let limit = usize::try_from(last.saturating_sub(seq)).unwrap_or(usize::MAX);
            let page = self.node.backplane.log.range(&source.log, Range::After { seq, limit }).await?;
            items.extend(self.lost(source, &mut wanted, page.first));
            for entry in &page.entries {
                let Some(integer) = wanted.remove(&entry.seq) else { continue };
                let told = tell(source, entry, self.style);
                items.extend(told.map(|told| Item { integer, told: Told::Logged(told) }));
            }
            // A page ends where something is missing.
            match page.entries.last() {
                Some(entry) if page.more && entry.seq < last => seq = entry.seq,
                _ => return Ok(items),
            }
        }
    }

    /// What is kept no more is not passed over in silence.
    fn lost(&self, source: &Source, wanted: &mut BTreeMap<u64, u64>, first: u64) -> Option<Item> {
        let kept = wanted.split_off(&first);
        let gone = std::mem::replace(wanted, kept);
        let LogKey::Conversation(conversation) = &source.log else { return None };
        let ((from, _), (to, integer)) = (gone.first_key_value()?, gone.last_key_value()?);
        let at = self.node.clock.now();
        let event = Event::Resync(Resync {
            conversation: conversation.clone(),
            number: source.number,
            from: *from,
            to: *to,
            at,
        });
        let told = parlance_wire::encode(Accent::Socialhub, self.style, &event)?;
        Some(Item { integer: *integer, told: Told::Logged(told) })
    }
}

/// What cannot be told from what is not the user's to hear.
pub(super) fn out_of_reach() -> Fault {
    Fault::Unavailable("a conversation is out of reach".to_owned())
}

/// Cuts what is wanted of a log into stretches that are worth reading in one go.
fn cut(source: &Source, wanted: BTreeMap<u64, u64>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (seq, integer) in wanted {
        if seq <= source.floor {
            continue;
        }
        let near = runs.last_mut().filter(|run| {
            let (first, last) = (run.wanted.first_key_value(), run.wanted.last_key_value());
            first.is_some_and(|(first, _)| seq - first < RUN)
                && last.is_some_and(|(last, _)| seq - last <= SKIP)
        });
        match near {
            Some(run) => _ = run.wanted.insert(seq, integer),
            None => runs.push(Run { source, wanted: BTreeMap::from([(seq, integer)]) }),
        }
    }
    runs
}
