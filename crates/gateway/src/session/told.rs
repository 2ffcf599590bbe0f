//! Receipts that came while their author was away (sechat), or its connection was down (lingochat, when the
//! session goes on): the newest messages' states are told again, once per conversation whose cursors moved. Live
//! receipts wait meanwhile, so that none is told behind a later one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Fault, Membership, Range};
use parlance_hub::{Hold, Teller};
use parlance_model::{
    ConversationId, Cursor, Entry, Event, LogKey, MessageReceipt, ReceiptKind, Topic, UserId,
};
use parlance_wire::Dialect;
use rustc_hash::FxHashSet;

use super::link::Link;
use crate::events;
use crate::node::Node;

/// Entries looked back over, per conversation.
const LOOK_BACK: usize = 64;
/// Conversations whose state is remembered per user.
const MAX_CONVERSATIONS: usize = 1000;
/// As long as history itself by default: older receipts are of no use.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Conversation → the cursor version its author was told.
pub(super) type Told = BTreeMap<String, u64>;

fn key(link: &Link) -> String {
    format!("told:{}:{}", link.mount.name, link.listener.user)
}

/// The connection ends in good order: everything up to here was told to it.
pub(super) async fn remember(node: &Node, link: &Link) -> Result<(), Fault> {
    let ids = conversations(link);
    if ids.is_empty() {
        return Ok(());
    }
    let mut versions = versions_of(node, ids).await?;
    // Not of where something waits still: all of it is told again.
    versions.retain(|(id, _)| !link.listener.holds_receipts(id));
    let told: Told = versions.into_iter().map(|(id, version)| (id.to_string(), version)).collect();
    let bytes = serde_json::to_vec(&told).map_err(|e| Fault::Corrupt(e.to_string()))?;
    node.backplane.shared.save(&key(link), bytes, Some(KEPT)).await
}

/// The conversations whose receipts one task of a connection tells again. Live ones wait until [`Due::release`]; where
/// that is not reached they go on waiting for the next attempt.
pub(super) struct Due<'a> {
    link: &'a Link,
    ids: Vec<ConversationId>,
}

/// Takes on those of these conversations whose receipts attaching is to tell again. To be called before their rooms
/// are joined. Left out is what an invitation has taken on (a request may bring about what the connection is invited
/// to as well), and what is joined already: there everything was heard.
pub(super) fn due<'a>(
    node: &Node,
    link: &'a Link,
    ids: impl IntoIterator<Item = &'a ConversationId>,
) -> Due<'a> {
    let mut due = Due { link, ids: Vec::new() };
    if is_told_again(link) {
        ids.into_iter().for_each(|id| _ = due.take(node, id, Teller::Attach));
    }
    due
}

/// The same of a conversation that the user has just come into; `None`: it is attaching's.
pub(super) fn due_of_invitation<'a>(node: &Node, link: &'a Link, id: &ConversationId) -> Option<Due<'a>> {
    let mut due = Due { link, ids: Vec::new() };
    let is_own = !is_told_again(link) || due.take(node, id, Teller::Invitation) != Hold::Attaching;
    is_own.then_some(due)
}

fn is_told_again(link: &Link) -> bool {
    matches!(link.dialect, Dialect::Sechat | Dialect::Lingochat)
}

fn is_in(node: &Node, link: &Link, id: &ConversationId) -> bool {
    node.hub.is_in(&Topic::Conversation(id.clone()), link.listener.number)
}

impl Due<'_> {
    fn take(&mut self, node: &Node, id: &ConversationId, teller: Teller) -> Hold {
        let listener = &self.link.listener;
        let hold = listener.hold_receipts(id, teller);
        match hold {
            Hold::Elsewhere | Hold::Attaching => {}
            Hold::First if is_in(node, self.link, id) => listener.release_receipts(id),
            Hold::First | Hold::Again => self.ids.push(id.clone()),
        }
        hold
    }

    /// Which these are.
    pub(super) fn names(&self) -> FxHashSet<&str> {
        self.ids.iter().map(ConversationId::as_str).collect()
    }

    /// Whether there is nothing to tell again.
    pub(super) const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// What was to be told again was told.
    pub(super) fn release(mut self) {
        std::mem::take(&mut self.ids).iter().for_each(|id| self.link.listener.release_receipts(id));
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        self.ids.iter().for_each(|id| self.link.listener.put_down_receipts(id));
    }
}

/// Tells what moved in these conversations since the user's last connection ended. Looks at the cursors after the
/// rooms were joined: what moves from then on is heard live.
pub(super) async fn catch_up(node: &Arc<Node>, link: &Link, due: &Due<'_>) -> Result<(), Fault> {
    let moved = moved(node, due).await?;
    if moved.is_empty() {
        return Ok(());
    }
    let stored = node.backplane.shared.load(&key(link)).await?;
    let told: Told = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    tell(node, link, &moved, &told).await
}

/// Tells what moved in these conversations since these versions.
pub(super) async fn catch_up_from(
    node: &Arc<Node>,
    link: &Link,
    due: &Due<'_>,
    told: &Told,
) -> Result<(), Fault> {
    tell(node, link, &moved(node, due).await?, told).await
}

/// The cursor versions of a user's conversations.
pub(super) fn versions(memberships: &[Membership]) -> Told {
    memberships.iter().map(|m| (m.conversation.to_string(), m.head.cursor_version)).collect()
}

async fn tell(node: &Node, link: &Link, moved: &[(ConversationId, u64)], told: &Told) -> Result<(), Fault> {
    for (id, version) in moved {
        // Smaller: what was told then was lost since.
        if is_in(node, link, id) && told.get(id.as_str()).copied().unwrap_or(0) != *version {
            since(node, link, id, 0).await?;
        }
    }
    Ok(())
}

/// Those in which a cursor ever moved, and their versions; of very many the first.
async fn moved(node: &Node, due: &Due<'_>) -> Result<Vec<(ConversationId, u64)>, Fault> {
    let versions = versions_of(node, due.ids.iter().take(MAX_CONVERSATIONS).cloned().collect()).await?;
    Ok(versions.into_iter().filter(|(_, version)| *version > 0).collect())
}

/// The cursor versions of those of these conversations that exist.
async fn versions_of(node: &Node, ids: Vec<ConversationId>) -> Result<Vec<(ConversationId, u64)>, Fault> {
    let logs: Vec<LogKey> = ids.iter().cloned().map(LogKey::Conversation).collect();
    let mut versions = Vec::with_capacity(ids.len());
    for (id, place) in ids.into_iter().zip(node.backplane.fences.heads(&logs).await) {
        if let Some(head) = place?.log() {
            versions.push((id, head.cursor_version));
        }
    }
    Ok(versions)
}

fn conversations(link: &Link) -> Vec<ConversationId> {
    let ids = link.topics().into_iter();
    ids.filter_map(|t| if let Topic::Conversation(id) = t { Some(id) } else { None })
        .take(MAX_CONVERSATIONS)
        .collect()
}

/// Tells the states of the user's own messages after a sequence.
pub(super) async fn since(node: &Node, link: &Link, id: &ConversationId, seq: u64) -> Result<(), Fault> {
    let (version, cursors) = node.backplane.cursors.cursors(id).await?;
    if version == 0 {
        return Ok(());
    }
    let key = LogKey::Conversation(id.clone());
    let range = Range::Before { seq: u64::MAX, limit: LOOK_BACK };
    let page = node.backplane.kept.range(&key, range).await?;
    let entries = page.entries.get(page.entries.partition_point(|e| e.seq <= seq)..).unwrap_or_default();
    let users: Vec<UserId> = cursors.iter().map(|cursor| cursor.user.clone()).collect();
    let joined = node.backplane.members.joined(id, &users).await?;
    let cursors: Vec<(Cursor, u64)> =
        cursors.into_iter().zip(joined).filter_map(|(cursor, joined)| Some((cursor, joined?))).collect();
    let listener = &link.listener;
    for receipt in receipts(link, id, entries, &cursors) {
        listener.outbox.half_empty().await;
        // The user may have been removed meanwhile.
        if !is_in(node, link, id) {
            return Ok(());
        }
        let event = Event::Receipt(receipt.clone());
        if let Some(piece) = parlance_wire::encode(listener.accent(), &listener.style, &event) {
            node.metrics.frames_out(link.dialect, 1);
            listener.push_receipt_again(&receipt, &piece);
        }
    }
    Ok(())
}

/// The states of the user's own messages with each other member, in the order they come about. What was said
/// before a member joined, which goes with its cursor, has no state with that member.
fn receipts(
    link: &Link,
    conversation: &ConversationId,
    entries: &[Entry],
    cursors: &[(Cursor, u64)],
) -> Vec<MessageReceipt> {
    let user = &link.listener.user;
    let mut all = Vec::new();
    for entry in entries {
        let Some(message) = events::message_ref(entry).filter(|m| m.author == *user) else { continue };
        for (cursor, _) in cursors.iter().filter(|(c, joined)| c.user != *user && *joined < entry.seq) {
            let states = [(ReceiptKind::Delivered, cursor.delivered), (ReceiptKind::Read, cursor.read)];
            for (kind, up_to) in states {
                if entry.seq <= up_to {
                    all.push(MessageReceipt {
                        conversation: conversation.clone(),
                        message: message.clone(),
                        kind,
                        by: cursor.user.clone(),
                        at: if kind == ReceiptKind::Read { cursor.read_at } else { entry.at },
                    });
                }
            }
        }
    }
    all
}
