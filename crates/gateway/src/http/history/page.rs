//! Reading a part of a conversation's log as messages, for the public routes and the server API alike.
//!
//! Owns: what `after`, `before`, `since` and `limit` mean. Must not know: who asks, how an answer is spelt.

use parlance_backplane::{Fault, Page as Part, Range};
use parlance_model::{Conversation, Entry, Event, LogKey, MessageId, Record, Time};
use parlance_wire::history::{Frame, Item, Reaction};
use rustc_hash::FxHashMap;

use crate::events;
use crate::node::Node;

const DEFAULT_LIMIT: usize = 50;
const MOST: usize = 200;
/// Entries read at once.
const CHUNK: usize = 500;
/// Reads for one call: a log may hold long stretches without a message.
const READS: usize = 8;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// A message id, exclusive.
    pub after: Option<String>,
    /// A message id, exclusive.
    pub before: Option<String>,
    /// A time (inclusive) or a message id (exclusive).
    pub since: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
}

/// Why there is no page.
#[derive(Debug)]
pub enum Refused {
    /// The call is wrong.
    Invalid(&'static str),
    /// The id is of another conversation.
    Foreign,
    /// The log cannot be read now.
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A page of messages, oldest first.
#[derive(Debug)]
pub struct Page {
    /// The messages; their reactions are empty before [`Page::react`].
    pub items: Vec<Item>,
    /// What goes with them.
    pub frame: Frame,
}

/// The messages of a collected stretch, and how the log stood when it was read.
struct Stretch {
    entries: Vec<Entry>,
    more: bool,
    truncated: bool,
    first: u64,
    head: u64,
}

/// Reads a page; without bounds the newest messages.
pub async fn read(node: &Node, conversation: &Conversation, asked: &Asked) -> Result<Page, Refused> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Refused::Invalid("limit is 1 to 200"));
    }
    let key = LogKey::Conversation(conversation.id.clone());
    let stretch = match range(conversation, asked)? {
        Range::Before { seq, .. } => backward(node, &key, seq, limit).await?,
        forward => self::forward(node, &key, forward, limit).await?,
    };
    let frame =
        Frame { more: stretch.more, truncated: stretch.truncated, first: stretch.first, last: stretch.head };
    let number = conversation.number();
    let told = stretch.entries.iter().filter_map(|entry| events::of_entry(&key, number, entry, false));
    let items = told
        .filter_map(|event| match event {
            Event::Message(event) => Some(Item { event, reactions: Vec::new() }),
            _ => None,
        })
        .collect();
    Ok(Page { items, frame })
}

impl Page {
    /// Fills in the reactions that stand.
    pub async fn react(&mut self, node: &Node, conversation: &Conversation) -> Result<(), Fault> {
        let Some(first) = self.items.first() else { return Ok(()) };
        let key = LogKey::Conversation(conversation.id.clone());
        let mut by_target = standing(&reactions(node, &key, first.event.seq).await?);
        for item in &mut self.items {
            item.reactions = by_target.remove(&item.event.seq).unwrap_or_default();
        }
        Ok(())
    }
}

fn range(conversation: &Conversation, asked: &Asked) -> Result<Range, Refused> {
    let limit = CHUNK;
    let sequence = |text: &str| sequence(conversation, text);
    match (&asked.after, &asked.before, &asked.since) {
        (None, None, None) => Ok(Range::Before { seq: u64::MAX, limit }),
        (Some(after), None, None) => Ok(Range::After { seq: sequence(after)?, limit }),
        (None, Some(before), None) => Ok(Range::Before { seq: sequence(before)?, limit }),
        (None, None, Some(since)) => match time(since) {
            Some(at) => Ok(Range::Since { at, limit }),
            None => Ok(Range::After { seq: sequence(since)?, limit }),
        },
        _ => Err(Refused::Invalid("only one of after, before and since")),
    }
}

/// An ISO time; a `+` that nobody escaped has become a space on its way here.
fn time(text: &str) -> Option<Time> {
    Time::parse_iso(text).or_else(|| Time::parse_iso(&text.replace(' ', "+")))
}

fn sequence(conversation: &Conversation, text: &str) -> Result<u64, Refused> {
    let id = MessageId::from_any(text).ok_or(Refused::Invalid("not a message id"))?;
    let block = conversation.numbers.iter().position(|number| *number == id.number());
    block
        .and_then(|block| u32::try_from(block).ok())
        .map(|block| id.sequence_in(block))
        .ok_or(Refused::Foreign)
}

const fn is_message(entry: &Entry) -> bool {
    matches!(entry.record, Record::Message(_))
}

async fn forward(node: &Node, key: &LogKey, mut range: Range, limit: usize) -> Result<Stretch, Fault> {
    let mut found = Stretch { entries: Vec::new(), more: true, truncated: false, first: 0, head: 0 };
    for read in 0..READS {
        let page = node.backplane.log.range(key, range).await?;
        if read == 0 {
            found.truncated = begins_late(&page, range);
        }
        found.truncated |= page.entries.iter().any(|entry| matches!(entry.record, Record::Lost { .. }));
        (found.first, found.head) = (page.first, page.head);
        let last = page.entries.last().map(|entry| entry.seq);
        found.entries.extend(page.entries.into_iter().filter(is_message));
        if found.entries.len() > limit {
            found.entries.truncate(limit);
            return Ok(found);
        }
        match last.filter(|_| page.more) {
            Some(seq) => range = Range::After { seq, limit: CHUNK },
            None => {
                found.more = false;
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Whether entries are gone that would have come first in this range.
fn begins_late(page: &Part, range: Range) -> bool {
    match range {
        // A cursor beyond the end is of a past that the log lost.
        Range::After { seq, .. } => seq.saturating_add(1) < page.first || seq > page.head,
        // Only the time before the first kept entry is known: it is kept with that entry.
        Range::Since { at, .. } => {
            let first = page.entries.first().filter(|entry| entry.seq == page.first && entry.seq > 1);
            first.is_some_and(|entry| entry.prev_at >= at)
        }
        Range::Before { .. } => false,
    }
}

async fn backward(node: &Node, key: &LogKey, mut seq: u64, limit: usize) -> Result<Stretch, Fault> {
    // Newest first while collecting.
    let mut found = Stretch { entries: Vec::new(), more: true, truncated: false, first: 0, head: 0 };
    for _ in 0..READS {
        let page = node.backplane.log.range(key, Range::Before { seq, limit: CHUNK }).await?;
        (found.first, found.head) = (page.first, page.head);
        let oldest = page.entries.first().map(|entry| entry.seq);
        found.entries.extend(page.entries.into_iter().rev().filter(is_message));
        match oldest.filter(|_| page.more && found.entries.len() <= limit) {
            Some(next) => seq = next,
            None => {
                found.more = found.entries.len() > limit;
                found.truncated = !found.more && found.first > 1;
                break;
            }
        }
    }
    found.entries.truncate(limit);
    found.entries.reverse();
    Ok(found)
}

/// The reactions after a message: those to it and to everything newer.
async fn reactions(node: &Node, key: &LogKey, mut seq: u64) -> Result<Vec<Entry>, Fault> {
    let mut found = Vec::new();
    for _ in 0..READS {
        let page = node.backplane.log.range(key, Range::After { seq, limit: CHUNK }).await?;
        let last = page.entries.last().map(|entry| entry.seq);
        found.extend(page.entries.into_iter().filter(|e| matches!(e.record, Record::Reaction { .. })));
        match last.filter(|_| page.more) {
            Some(next) => seq = next,
            None => break,
        }
    }
    Ok(found)
}

/// The reactions that stand, by the sequence of their message.
fn standing(entries: &[Entry]) -> FxHashMap<u64, Vec<Reaction>> {
    let mut all: FxHashMap<u64, Vec<Reaction>> = FxHashMap::default();
    for entry in entries {
        let Record::Reaction { author, target, kind, added } = &entry.record else { continue };
        let of_target = all.entry(*target).or_default();
        of_target.retain(|r| r.user != author.id || r.kind != *kind);
        if *added {
            of_target.push(Reaction { kind: kind.clone(), user: author.id.clone(), at: entry.at });
        }
    }
    all
}
