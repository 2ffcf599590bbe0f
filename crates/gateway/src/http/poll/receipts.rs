//! Read receipts for those who poll. They are in no log: how far each reader has come is compared with how far the user
//! was told, and a move that was not told yet gets the user's integer, so that it is told however often it is asked for.
//!
//! Must not know: HTTP, cursors of polls.

use std::sync::Arc;

use parlance_backplane::{Fault, Range};
use parlance_model::{
    ConversationId, Cursor, CursorMoved, Entry, Event, Head, LogKey, MessageRef, ReceiptKind, Time, UserId,
};
use parlance_wire::{Accent, Style};
use rustc_hash::FxHashMap;

use super::fetch::{self, Pointer};
use super::reader::{Item, Told};
use super::scope::{Scope, Source};
use crate::events;
use crate::node::Node;

/// Stands in integers for the moves of one reader in one conversation; it is no house id, so no log has it.
const READ: &str = "~read~";
/// Messages that one receipt names at most: the newest.
const NAMED: u64 = 256;
/// A place is the sequence that was read up to, and behind it how many sequences that is from the one before.
const SPANS: u64 = 2 * NAMED;

/// A move that was not told yet: when, and its place in integers.
pub(super) type Found = (Time, LogKey, u64);

/// Compares and tells for one user.
pub(super) struct Receipts<'a> {
    pub node: &'a Arc<Node>,
    pub scope: &'a Scope,
    pub style: &'a Style,
}

fn log_of(conversation: &ConversationId, reader: &UserId) -> LogKey {
    LogKey::App(format!("{READ}{conversation}~{reader}").into())
}

fn parse(log: &LogKey) -> Option<(ConversationId, UserId)> {
    let LogKey::App(name) = log else { return None };
    let (conversation, reader) = name.strip_prefix(READ)?.split_once('~')?;
    Some((ConversationId::parse(conversation).ok()?, UserId::parse(reader).ok()?))
}

/// Whether an integer is of a receipt.
pub(super) fn is_receipt(log: &LogKey) -> bool {
    matches!(log, LogKey::App(name) if name.starts_with(READ))
}

/// The messages that `reader` read in `from+1..=to`; nobody reads their own.
fn read_of(entries: &[Entry], reader: &UserId, (from, to): (u64, u64)) -> Vec<MessageRef> {
    let within = entries.iter().filter(|entry| entry.seq > from && entry.seq <= to);
    within.filter_map(events::message_ref).filter(|message| message.author != *reader).collect()
}

impl Receipts<'_> {
    /// What moved in conversations whose cursors are of another version than the user was told of; and the conversations
    /// (by source) that were compared, with their versions.
    pub(super) async fn found(
        &self,
        heads: &[(usize, Head)],
    ) -> Result<(Vec<Found>, Vec<(usize, u64)>), Fault> {
        let changed = |(index, head): &(usize, Head)| {
            let source = self.scope.sources.get(*index)?;
            let LogKey::Conversation(id) = &source.log else { return None };
            (head.cursor_version > 0 && source.receipts != Some(head.cursor_version))
                .then(|| (*index, source, id.clone()))
        };
        let changed: Vec<_> = heads.iter().filter_map(changed).collect();
        if changed.is_empty() {
            return Ok(Default::default());
        }
        let ids: Vec<ConversationId> = changed.iter().map(|(.., id)| id.clone()).collect();
        let backplane = &self.node.backplane;
        let (standing, told) = futures_util::join!(
            backplane.cursors.standing(&ids),
            backplane.sequences.marks(&self.scope.user)
        );
        let told: FxHashMap<LogKey, u64> = told?.into_iter().collect();
        let (mut found, mut compared) = (Vec::new(), Vec::new());
        for ((index, source, id), set) in changed.into_iter().zip(standing) {
            // What cannot be read now keeps its version, and is compared with the next look.
            let Ok(set) = set else { continue };
            if let Ok(moved) = self.moved(source, &id, &set.cursors, &told).await {
                found.extend(moved);
                compared.push((index, set.version));
            }
        }
        Ok((found, compared))
    }

    async fn moved(
        &self,
        source: &Source,
        id: &ConversationId,
        cursors: &[Cursor],
        told: &FxHashMap<LogKey, u64>,
    ) -> Result<Vec<Found>, Fault> {
        let mut steps: Vec<(LogKey, &Cursor, (u64, u64))> = Vec::new();
        for cursor in cursors.iter().filter(|cursor| cursor.read_at >= self.scope.since) {
            let log = log_of(id, &cursor.user);
            let before = told.get(&log).map_or(0, |place| place / SPANS).max(source.floor);
            let from = before.max(cursor.read.saturating_sub(NAMED));
            if cursor.read > from {
                steps.push((log, cursor, (from, cursor.read)));
            }
        }
        let last = steps.iter().map(|(.., (_, to))| *to).max().unwrap_or_default();
        let first = steps.iter().map(|(.., (from, _))| *from).min().unwrap_or_default();
        let entries = self.entries(&source.log, first.max(last.saturating_sub(NAMED)), last).await?;
        let place = |(log, cursor, (from, to)): (LogKey, &Cursor, (u64, u64))| {
            let any = !read_of(&entries, &cursor.user, (from, to)).is_empty();
            any.then(|| (cursor.read_at, log, to * SPANS + (to - from)))
        };
        Ok(steps.into_iter().filter_map(place).collect())
    }

    async fn entries(&self, log: &LogKey, from: u64, to: u64) -> Result<Vec<Entry>, Fault> {
        let limit = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let range = Range::After { seq: from, limit };
        Ok(self.node.backplane.log.range(log, range).await?.entries)
    }

    /// The receipts that these integers are of, as they are told.
    pub(super) async fn tell(&self, pointers: &[Pointer]) -> Result<Vec<Item>, Fault> {
        let of = |(integer, log, place): &Pointer| Some((*integer, parse(log)?, *place));
        let asked: Vec<_> = pointers.iter().filter_map(of).collect();
        let mut ids: Vec<ConversationId> = asked.iter().map(|(_, (id, _), _)| id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let sets = self.node.backplane.cursors.standing(&ids).await;
        let mut cursors: FxHashMap<(ConversationId, UserId), Time> = FxHashMap::default();
        for (id, set) in ids.into_iter().zip(sets) {
            cursors.extend(set?.cursors.into_iter().map(|c| ((id.clone(), c.user), c.read_at)));
        }
        let mut items = Vec::with_capacity(asked.len());
        for (integer, of, place) in asked {
            let at = cursors.get(&of).copied().unwrap_or_default();
            let told = self.receipt(of, (place / SPANS, place % SPANS), at).await?;
            items.extend(told.map(|told| Item { integer, told }));
        }
        Ok(items)
    }

    async fn receipt(
        &self,
        (conversation, by): (ConversationId, UserId),
        (to, span): (u64, u64),
        at: Time,
    ) -> Result<Option<Told>, Fault> {
        let log = LogKey::Conversation(conversation.clone());
        if self.scope.is_away(&log) {
            return Err(fetch::out_of_reach());
        }
        // Who is no member any more hears nothing of before either.
        let Some(source) = self.scope.source(&log) else { return Ok(None) };
        let from = to.saturating_sub(span).max(source.floor);
        let entries = self.entries(&log, from, to).await?;
        let messages = read_of(&entries, &by, (from, to));
        let last = messages.last().cloned();
        let event =
            Event::Cursor(CursorMoved { conversation, kind: ReceiptKind::Read, by, at, messages, last });
        Ok(parlance_wire::encode(Accent::Socialhub, self.style, &event).map(Told::Logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readers_moves_have_a_name_of_their_own() {
        let id = |text| ConversationId::parse(text).unwrap();
        let user = |text| UserId::parse(text).unwrap();
        let log = log_of(&id("a:b@c"), &user("d:e"));
        assert!(is_receipt(&log));
        assert_eq!(parse(&log), Some((id("a:b@c"), user("d:e"))));
        assert_eq!(parse(&LogKey::App("feed:updates".into())), None);
        assert!(!is_receipt(&LogKey::User(user("d"))));
    }
}
