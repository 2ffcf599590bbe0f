//! One poll's reading: what has no integer yet gets one, then everything after the client's cursor is read.
//!
//! Owns: that nothing is missed between integers and logs. Must not know: HTTP, names of fields.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use parlance_backplane::{Fault, Place, Range, Seen};
use parlance_model::{Head, Identity, LogKey, Time, Topic};
use parlance_wire::socialhub::poll::{self as wire, Passing};
use parlance_wire::{Encoded, Style};
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::ear;
use super::fetch::{self, Fetch};
use super::receipts::{Receipts, is_receipt};
use super::scope::{Scope, Source};
use crate::config::Mount;
use crate::node::Node;

/// Of a log that was never looked at, so many entries are told at most, and none older.
const BACKLOG: u64 = 1000;
const BACKLOG_MS: u64 = 7 * 24 * 3600 * 1000;
/// Entries read at once, and pages of one log before the answer is given.
const PAGE: usize = 500;
const PAGES: usize = 10;
/// Logs read at once.
const AT_ONCE: usize = 8;
/// Integers a user has at most.
const POINTERS: usize = 10_000;
/// Stands in integers for events that are in no log; it is no house id, so no log has it.
const PASSING: &str = "~passing";

/// How much one answer holds.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub events: usize,
    pub bytes: usize,
}

/// An event with the user's integer.
pub(super) struct Item {
    pub integer: u64,
    pub told: Told,
}

pub(super) enum Told {
    Logged(Encoded),
    Passing(Passing),
}

/// What is answered.
pub(super) struct Page {
    items: Vec<Item>,
    last: u64,
    more: bool,
    size: Size,
}

impl Page {
    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The body, each event by `one`, all of them by `all`.
    pub(super) fn render(
        &self,
        one: impl Fn(&Encoded, u64) -> Option<String>,
        all: impl Fn(&[String], u64, bool) -> String,
    ) -> String {
        let (mut texts, mut bytes, mut last) = (Vec::with_capacity(self.items.len()), 0, 0);
        for item in &self.items {
            let text = match &item.told {
                Told::Logged(encoded) => one(encoded, item.integer),
                Told::Passing(passing) => passing.event(item.integer),
            };
            let Some(text) = text else { continue };
            bytes += text.len();
            if bytes > self.size.bytes && !texts.is_empty() {
                return all(&texts, last, true);
            }
            last = item.integer;
            texts.push(text);
        }
        all(&texts, self.last, self.more)
    }
}

/// Reads for one poll.
pub(super) struct Reader<'a> {
    node: &'a Arc<Node>,
    scope: Scope,
    style: Style,
    /// The client's cursor, as it was asked.
    asked: u64,
    /// From where is read; `None` before the first look at the integers.
    cursor: Option<u64>,
    size: Size,
}

impl<'a> Reader<'a> {
    pub(super) async fn load(
        node: &'a Arc<Node>,
        mount: &Mount,
        identity: &Identity,
        (asked, size): (u64, Size),
    ) -> Result<Reader<'a>, Fault> {
        let scope = Scope::load(node, mount, identity).await?;
        Ok(Self { node, scope, style: ear::style(mount), asked, cursor: None, size })
    }

    /// Where everything the user hears is published.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.scope.topics()
    }

    /// Whether something of that is out of reach.
    pub(super) fn is_partial(&self) -> bool {
        self.scope.is_partial()
    }

    /// Up to where a log was gone through.
    pub(super) fn mark(&self, log: &LogKey) -> u64 {
        self.scope.source(log).and_then(|source| source.mark).unwrap_or_default()
    }

    /// The answer when nothing happened.
    pub(super) fn nothing(&self) -> Page {
        Page { items: Vec::new(), last: self.asked, more: false, size: self.size }
    }

    /// Everything after the cursor, with what was heard that is in no log.
    pub(super) async fn pass(&mut self, passing: &[Passing]) -> Result<Page, Fault> {
        let mut after = match self.cursor {
            Some(cursor) => cursor,
            // First: what gets an integer now must not make a cursor of nowhere look like one of ours.
            None => match self.known().await? {
                Known::From(cursor) => *self.cursor.insert(cursor),
                Known::Beyond(newest) => return Ok(self.beyond(newest)),
            },
        };
        let unfinished = self.repair().await?;
        // Before the integers are read: none may come to lie between those that are told.
        let passing = self.number(passing).await?;
        let sequences = &self.node.backplane.sequences;
        loop {
            let limit = self.size.events;
            let mut pointers = sequences.pointers(&self.scope.user, after, limit + 1).await?;
            let more = pointers.len() > limit;
            pointers.truncate(limit);
            let Some(&(last, ..)) = pointers.last() else {
                return Ok(Page { more: unfinished, ..self.nothing() });
            };
            let mut items = Vec::with_capacity(pointers.len() + 1);
            items.extend(self.gap(after, pointers.first()));
            pointers.retain(|(integer, log, _)| {
                let known = passing.get(integer);
                items.extend(known.map(|p| Item { integer: *integer, told: Told::Passing((*p).clone()) }));
                !is_passing(log)
            });
            let out_of_reach = self.fetch(&pointers, &mut items).await?;
            if !items.is_empty() {
                items.sort_by_key(|item| item.integer);
                let last = out_of_reach.map_or(last, |first| first - 1);
                let more = more || unfinished || out_of_reach.is_some();
                return Ok(Page { items, last, more, size: self.size });
            }
            self.cursor = Some(last);
            if !more {
                return Ok(Page { more: unfinished, ..self.nothing() });
            }
            after = last;
        }
    }

    /// Integers are dense: those that are missing behind a cursor were forgotten, or lost.
    fn gap(&self, after: u64, first: Option<&fetch::Pointer>) -> Option<Item> {
        let (first, ..) = first.filter(|(first, ..)| after > 0 && *first > after + 1)?;
        let told = wire::gap(after + 1, first - 1, self.node.clock.now())?;
        Some(Item { integer: first - 1, told: Told::Logged(told) })
    }

    /// Adds what these integers are of. Some of it may be out of reach: integers are told in order, so what comes behind the
    /// first of that, which is returned, waits with it. A fault when nothing comes before it.
    async fn fetch(&self, pointers: &[fetch::Pointer], items: &mut Vec<Item>) -> Result<Option<u64>, Fault> {
        let (receipts, logged): (Vec<_>, Vec<_>) =
            pointers.iter().cloned().partition(|(_, log, _)| is_receipt(log));
        let fetch = Fetch { node: self.node, scope: &self.scope, style: &self.style };
        let of_receipts = self.receipts();
        let (fetched, told) = futures_util::join!(fetch.all(&logged), of_receipts.tell(&receipts));
        let (found, mut lost) = fetched;
        items.extend(found);
        match told {
            Ok(told) => items.extend(told),
            Err(fault) => lost.extend(receipts.first().map(|(integer, ..)| (*integer, fault))),
        }
        let Some((first, fault)) = lost.into_iter().min_by_key(|(integer, _)| *integer) else {
            return Ok(None);
        };
        items.retain(|item| item.integer < first);
        if items.is_empty() { Err(fault) } else { Ok(Some(first)) }
    }

    fn receipts(&self) -> Receipts<'_> {
        Receipts { node: self.node, scope: &self.scope, style: &self.style }
    }

    /// A cursor beyond every integer is of a past that the store lost, or of nowhere.
    async fn known(&self) -> Result<Known, Fault> {
        let sequences = &self.node.backplane.sequences;
        let user = &self.scope.user;
        if self.asked == 0 || !sequences.pointers(user, self.asked - 1, 1).await?.is_empty() {
            return Ok(Known::From(self.asked));
        }
        let all = sequences.pointers(user, 0, POINTERS + 1).await?;
        match all.last() {
            Some((newest, ..)) => Ok(Known::Beyond(*newest)),
            None if sequences.marks(user).await?.is_empty() => Ok(Known::Beyond(0)),
            // Nothing happened for so long that they expired. They go on where they were.
            None => Ok(Known::From(0)),
        }
    }

    /// Says so at once, and from where to go on: waiting with such a cursor, the client would never learn it, and what
    /// came meanwhile would be told once only.
    fn beyond(&self, newest: u64) -> Page {
        let told = wire::gap(newest + 1, self.asked, self.node.clock.now());
        let items = told.map(|told| Item { integer: newest, told: Told::Logged(told) });
        Page { items: items.into_iter().collect(), last: newest, more: false, size: self.size }
    }

    /// Integers for what is in no log. The same event has the same one in every poll that waits.
    async fn number<'p>(&self, passing: &'p [Passing]) -> Result<FxHashMap<u64, &'p Passing>, Fault> {
        if passing.is_empty() {
            return Ok(FxHashMap::default());
        }
        let log = LogKey::App(PASSING.into());
        // 53 bits: an engine may count in floating point.
        let place = |passing: &Passing| xxh3_64(passing.id.as_bytes()) >> 11;
        let pointers: Vec<_> =
            passing.iter().map(|p| (self.scope.user.clone(), log.clone(), place(p))).collect();
        let integers = self.node.backplane.sequences.assign(&pointers).await?;
        Ok(integers.into_iter().zip(passing).collect())
    }

    /// Compares with the heads of all logs: entries that no node has shown to this user yet get their integers, in the
    /// order they came. `true`: there are more of them than are read for one answer.
    async fn repair(&mut self) -> Result<bool, Fault> {
        let logs: Vec<LogKey> = self.scope.sources.iter().map(|source| source.log.clone()).collect();
        let places = self.node.backplane.fences.heads(&logs).await;
        let mut behind = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            match place {
                Ok(Place::Log(head)) => behind.push((index, head)),
                // Whatever comes there comes after this look.
                Ok(Place::Nothing { .. }) => behind.push((index, Head::default())),
                Ok(Place::Lost(_) | Place::Deleted(_)) => {}
                // The others go on; what is missed here is found when that part of the store is back.
                Err(fault) => tracing::debug!(%fault, log = ?logs.get(index), "a poll cannot see a log"),
            }
        }
        let reads: Vec<_> = behind.iter().map(|(index, head)| self.read_at(*index, *head)).collect();
        let read: Vec<Result<(usize, Read), Fault>> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        let (mut found, compared) = self.receipts().found(&behind).await?;
        let (mut marks, mut unfinished) = (Vec::new(), false);
        for read in read {
            let (index, read) = match read {
                Ok(read) => read,
                Err(fault) => {
                    tracing::debug!(%fault, "a poll cannot read a log");
                    continue;
                }
            };
            let Some(log) = logs.get(index) else { continue };
            found.extend(read.entries.into_iter().map(|(at, seq)| (at, log.clone(), seq)));
            marks.push((index, read.mark));
            unfinished |= read.unfinished;
        }
        found.sort_unstable();
        let user = &self.scope.user;
        let pointers: Vec<_> = found.into_iter().map(|(_, log, place)| (user.clone(), log, place)).collect();
        if !pointers.is_empty() {
            self.node.backplane.sequences.assign(&pointers).await?;
        }
        for (index, version) in compared {
            if let Some(source) = self.scope.sources.get_mut(index) {
                source.receipts = Some(version);
            }
        }
        for (index, mark) in marks {
            if let (Some(source), Some(mark)) = (self.scope.sources.get_mut(index), mark) {
                source.mark = Some(mark);
            }
        }
        self.scope.save(self.node, self.node.clock.now()).await?;
        Ok(unfinished)
    }

    async fn read_at(&self, index: usize, head: Head) -> Result<(usize, Read), Fault> {
        let Some(source) = self.scope.sources.get(index) else { return Ok((index, Read::default())) };
        Ok((index, self.read_on(source, head).await?))
    }

    /// What a log has after its mark.
    async fn read_on(&self, source: &Source, head: Head) -> Result<Read, Fault> {
        let since = Time::from_millis(self.node.clock.now().millis().saturating_sub(BACKLOG_MS));
        let (mut position, since) = match source.mark {
            Some(mark) if mark > head.seq => {
                self.compare(source, mark, head).await?;
                return Ok(Read::default());
            }
            Some(mark) => (mark.max(source.floor), Time::default()),
            // As when a channel is subscribed to: from now on.
            None if matches!(source.log, LogKey::App(_)) => (head.seq, since),
            None if head.at < since => (head.seq, since),
            None => (source.floor.max(head.seq.saturating_sub(BACKLOG)), since),
        };
        let mut read = Read { mark: Some(position), ..Read::default() };
        for number in 0..PAGES {
            if position >= head.seq {
                return Ok(read);
            }
            let range = Range::After { seq: position, limit: PAGE };
            let page = self.node.backplane.log.range(&source.log, range).await?;
            if (source.mark.is_some() || number > 0) && page.first > position + 1 {
                // Kept no more before it was told, or missing where it is kept: its integer tells that.
                let at = page.entries.first().map_or(head.at, |entry| entry.at);
                read.entries.push((at, page.first - 1));
            }
            let told = page
                .entries
                .iter()
                .filter(|entry| entry.at >= since && fetch::tell(source, entry, &self.style).is_some());
            // A clock that was set back must not turn the order of a log around.
            let mut latest = read.entries.last().map_or(Time::default(), |(at, _)| *at);
            read.entries.extend(told.map(|entry| {
                latest = latest.max(entry.at);
                (latest, entry.seq)
            }));
            position = page.entries.last().map_or(page.head, |entry| entry.seq);
            read.mark = Some(position);
            if !page.more {
                return Ok(read);
            }
        }
        read.unfinished = true;
        Ok(read)
    }

    /// A mark beyond the end: the log lost something. That is written down, and read with the next look.
    async fn compare(&self, source: &Source, mark: u64, head: Head) -> Result<(), Fault> {
        let seen = Seen { seq: mark, at: None, epoch: 0, number: source.number, from: head.seq + 1 };
        let fenced = self.node.backplane.fences.fence(&source.log, seen).await?;
        tracing::error!(log = ?source.log, ?seen, ?fenced, "a poll was told more than the log has");
        Ok(())
    }
}

/// What a client's cursor is.
enum Known {
    /// Good: everything after this is told.
    From(u64),
    /// Beyond the newest integer.
    Beyond(u64),
}

/// What was read of a log.
#[derive(Default)]
struct Read {
    entries: Vec<(Time, u64)>,
    mark: Option<u64>,
    unfinished: bool,
}

fn is_passing(log: &LogKey) -> bool {
    matches!(log, LogKey::App(name) if &**name == PASSING)
}
