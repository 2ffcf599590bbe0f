//! Reading a part of a conversation's log as messages, for the public routes and the server API alike.
//!
//! Owns: what `after`, `before`, `since` and `limit` mean. Must not know: who asks, how an answer is spelt.

use parlance_backplane::{Fault, Page as Part, Range};
use parlance_model::{Conversation, Entry, Event, LogKey, MessageId, Record, Time};
use parlance_wire::history::{Frame, Item, Reaction};
use rustc_hash::FxHashMap;

use crate::events;
use crate::node::Node;

/// Messages of a page when nobody says how many.
pub const DEFAULT_LIMIT: usize = 50;
/// Messages of a page at most.
pub const MOST: usize = 200;
/// What is said of another limit.
pub const LIMITS: &str = "limit is 1 to 200";
/// Entries read at once beyond the messages that are wanted: most logs have little else.
const SLACK: usize = 16;
/// Entries read at once where a log has long stretches without a message.
const CHUNK: usize = 500;
/// Reads after which a page ends that has a message: one without says nothing of where to go on.
const READS: usize = 8;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// A message id, exclusive.
    pub after: Option<String>,
    /// A message id, exclusive. With one of the others: where reading ends.
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

/// Reads a page; without bounds the newest messages.
pub async fn read(node: &Node, conversation: &Conversation, asked: &Asked) -> Result<Page, Refused> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Refused::Invalid(LIMITS));
    }
    let key = LogKey::Conversation(conversation.id.clone());
    let (from, below) = bounds(conversation, asked)?;
    let reading = Reading { node, key: &key, limit };
    let stretch = match from {
        Some(from) => reading.forward(from, below).await?,
        None => reading.backward(below).await?,
    };
    let number = conversation.number();
    let told = stretch.messages.iter().filter_map(|entry| events::of_entry(&key, number, entry, false));
    let items = told
        .filter_map(|event| match event {
            Event::Message(event) => Some(Item { event, reactions: Vec::new() }),
            _ => None,
        })
        .collect();
    Ok(Page { items, frame: stretch.frame })
}

impl Page {
    /// Fills in the reactions that stand.
    pub async fn react(&mut self, node: &Node, conversation: &Conversation) -> Result<(), Fault> {
        let (Some(first), Some(last)) = (self.items.first(), self.items.last()) else { return Ok(()) };
        let (first, last) = (first.event.seq, last.event.seq);
        let mut by_target: FxHashMap<u64, Vec<Reaction>> = FxHashMap::default();
        for found in node.backplane.reactions.standing(&conversation.id, first, last).await? {
            let reaction = Reaction { kind: found.kind, user: found.user, at: found.at };
            by_target.entry(found.target).or_default().push(reaction);
        }
        for item in &mut self.items {
            item.reactions = by_target.remove(&item.event.seq).unwrap_or_default();
        }
        Ok(())
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Behind(u64),
    At(Time),
}

impl Begin {
    const fn range(self, limit: usize) -> Range {
        match self {
            Self::Behind(seq) => Range::After { seq, limit },
            Self::At(at) => Range::Since { at, limit },
        }
    }
}

/// Where reading begins, unless at the end, and the sequence that is read no more.
fn bounds(conversation: &Conversation, asked: &Asked) -> Result<(Option<Begin>, u64), Refused> {
    let sequence = |text: &String| sequence(conversation, text);
    let below = asked.before.as_ref().map_or(Ok(u64::MAX), sequence)?;
    let from = match (&asked.after, &asked.since) {
        (Some(_), Some(_)) => return Err(Refused::Invalid("only one of after and since")),
        (Some(after), None) => Some(Begin::Behind(sequence(after)?)),
        (None, Some(since)) => Some(match time(since) {
            Some(at) => Begin::At(at),
            None => Begin::Behind(sequence(since)?),
        }),
        (None, None) => None,
    };
    Ok((from, below))
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

/// The messages of a stretch of a log, and how the log stood when it was read.
#[derive(Default)]
struct Stretch {
    messages: Vec<Entry>,
    frame: Frame,
}

impl Stretch {
    /// One more entry, in the direction of reading. `false`: it is a message, and there were enough.
    fn take(&mut self, entry: Entry, limit: usize) -> bool {
        match &entry.record {
            Record::Message(_) if self.messages.len() == limit => return false,
            Record::Message(_) => self.messages.push(entry),
            Record::Lost { .. } => self.frame.truncated = true,
            _ => {}
        }
        true
    }
}

struct Reading<'a> {
    node: &'a Node,
    key: &'a LogKey,
    /// Messages at most.
    limit: usize,
}

impl Reading<'_> {
    async fn part(&self, range: Range, stretch: &mut Stretch) -> Result<Part, Fault> {
        let part = self.node.backplane.history.range(self.key, range).await?;
        (stretch.frame.first, stretch.frame.last) = (part.first, part.head);
        Ok(part)
    }

    /// From a place on, up to the sequence `below`.
    async fn forward(&self, from: Begin, below: u64) -> Result<Stretch, Fault> {
        let mut stretch = Stretch::default();
        let mut range = from.range(self.limit + SLACK);
        for read in 1.. {
            let part = self.part(range, &mut stretch).await?;
            if begins_late(&part, range) {
                if read > 1 {
                    // What went while this was read is missing between two pages, where it is told.
                    stretch.frame.more = true;
                    break;
                }
                stretch.frame.truncated = true;
            }
            let last = part.entries.last().map(|entry| entry.seq);
            for entry in part.entries {
                if entry.seq >= below {
                    return Ok(stretch);
                }
                if !stretch.take(entry, self.limit) {
                    stretch.frame.more = true;
                    return Ok(stretch);
                }
            }
            let Some(seq) = last.filter(|_| part.more) else { break };
            if read >= READS && !stretch.messages.is_empty() {
                stretch.frame.more = true;
                break;
            }
            range = Range::After { seq, limit: CHUNK };
        }
        Ok(stretch)
    }

    /// Back from the sequence `below`.
    async fn backward(&self, mut below: u64) -> Result<Stretch, Fault> {
        let mut stretch = Stretch::default();
        for read in 1.. {
            let limit = if read == 1 { self.limit + SLACK } else { CHUNK };
            let part = self.part(Range::Before { seq: below, limit }, &mut stretch).await?;
            let oldest = part.entries.first().map(|entry| entry.seq);
            stretch.frame.more = !part.entries.into_iter().rev().all(|entry| stretch.take(entry, self.limit));
            if stretch.frame.more {
                break;
            }
            let Some(seq) = oldest.filter(|_| part.more) else {
                stretch.frame.truncated |= part.first > 1;
                break;
            };
            if read >= READS && !stretch.messages.is_empty() {
                stretch.frame.more = true;
                break;
            }
            below = seq;
        }
        stretch.messages.reverse();
        Ok(stretch)
    }
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
