//! What is read ahead for a client that comes: guesses, which save round trips and decide nothing. What the user is in,
//! and what is to be heard from where, is found out as if there were none.
//!
//! Owns: which conversations it is probably about, who is in them, the first pages of what was probably missed.
//! Must not know: what a session is, who may hear what.

use std::sync::Arc;

use futures_util::future::join_all;
use parlance_backplane::{Found, Membership, Page, Place};
use parlance_model::{ConversationId, LogKey, Topic, UserId};
use rustc_hash::FxHashMap;

use super::attach::hears_contacts;
use super::link::Link;
use super::replay;
use crate::config::Mount;
use crate::node::Node;

/// Pages read ahead at most: they are held in memory until their conversations are joined.
const PAGES: usize = 32;

/// Members of conversations, each with the version of the conversation they were read in.
pub(super) type Contacts = FxHashMap<ConversationId, (u64, Vec<UserId>)>;

/// Those that are the same in what was read since.
pub(super) fn unchanged(
    mut contacts: Contacts,
    memberships: &[Membership],
) -> FxHashMap<ConversationId, Vec<UserId>> {
    let same = |m: &Membership| {
        let (_, members) =
            contacts.remove(&m.conversation).filter(|(version, _)| *version == m.head.version)?;
        Some((m.conversation.clone(), members))
    };
    memberships.iter().filter_map(same).collect()
}

/// What was read for a connection before it attaches.
#[derive(Default)]
pub(super) struct Ahead {
    /// The user's conversations: not a guess, but read a moment ago.
    pub found: Option<Found>,
    /// Members of conversations, with the version they are of: somebody may have come since.
    pub contacts: Contacts,
    /// What follows the place of a session in a log.
    pub pages: FxHashMap<Topic, Page>,
}

/// What was seen of conversations that are probably the user's.
#[derive(Default)]
pub(super) struct Glance {
    pub names: Vec<ConversationId>,
    heads: FxHashMap<ConversationId, u64>,
    contacts: Contacts,
}

/// The conversations that a user who comes to this mount will probably hear.
pub(super) async fn names(node: &Node, mount: &Mount, user: &UserId) -> Vec<ConversationId> {
    if mount.spoken().implied_role().is_none() {
        return Vec::new();
    }
    // Whoever has to know is told of the fault.
    node.backplane.conversations.named_of_user(user).await.unwrap_or_default()
}

/// Has the node begin to hear them, and looks at where they stand when the client names a `session`.
pub(super) async fn glance(
    node: &Arc<Node>,
    link: &Link,
    names: Vec<ConversationId>,
    session: bool,
) -> Glance {
    node.feed.prepare(names.iter().cloned().map(Topic::Conversation).collect()).await;
    if !session {
        return Glance { names, ..Glance::default() };
    }
    let (heads, contacts) = tokio::join!(heads(node, &names), contacts(node, link, &names));
    Glance { names, heads, contacts }
}

async fn heads(node: &Node, names: &[ConversationId]) -> FxHashMap<ConversationId, u64> {
    let logs: Vec<LogKey> = names.iter().cloned().map(LogKey::Conversation).collect();
    let places = node.backplane.fences.heads(&logs).await;
    let head = |(id, place): (&ConversationId, _)| match place {
        Ok(Place::Log(head)) => Some((id.clone(), head.seq)),
        _ => None,
    };
    names.iter().zip(places).filter_map(head).collect()
}

async fn contacts(node: &Node, link: &Link, names: &[ConversationId]) -> Contacts {
    if !hears_contacts(link) {
        return Contacts::default();
    }
    let outlines = join_all(names.iter().map(|id| node.backplane.members.outline(id))).await;
    let members = |(id, outline): (&ConversationId, _)| match outline {
        Ok(Some(parlance_backplane::Outline { conversation, .. })) => {
            let members = conversation.members.into_iter().map(|member| member.user).collect();
            Some((id.clone(), (conversation.head.version, members)))
        }
        _ => None,
    };
    names.iter().zip(outlines).filter_map(members).collect()
}

impl Glance {
    /// Reads what probably was missed after these places, and has the node begin to hear the contacts' presence.
    pub(super) async fn read(
        self,
        node: &Arc<Node>,
        link: &Link,
        places: impl IntoIterator<Item = (ConversationId, u64)>,
    ) -> Ahead {
        let Self { heads, contacts, .. } = self;
        let mut watched: Vec<&UserId> = contacts.values().flat_map(|(_, members)| members).collect();
        watched.sort_unstable();
        watched.dedup();
        let others = watched.into_iter().filter(|user| **user != link.listener.user);
        node.feed.prepare(others.cloned().map(Topic::Presence).collect()).await;
        let behind = |(id, seq): &(ConversationId, u64)| heads.get(id).is_some_and(|head| head > seq);
        let page = async |(id, seq): (ConversationId, u64)| {
            let page = replay::page(node, &LogKey::Conversation(id.clone()), seq).await;
            Some((Topic::Conversation(id), page.ok()?))
        };
        let pages = join_all(places.into_iter().filter(behind).take(PAGES).map(page)).await;
        Ahead { found: None, contacts, pages: pages.into_iter().flatten().collect() }
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::Head;
    use parlance_model::delivery::Marks;

    use super::*;

    #[test]
    fn members_read_ahead_count_only_where_nobody_came_or_went_since() {
        let id = |name: &str| ConversationId::parse(name).unwrap();
        let membership = |name: &str, version| Membership {
            conversation: id(name),
            number: 1,
            joined_seq: 0,
            head: Head { version, ..Head::default() },
            marks: Marks::default(),
        };
        let members = vec![UserId::parse("u").unwrap()];
        let read = |name: &str, version| (id(name), (version, members.clone()));
        let contacts = [read("same", 3), read("changed", 3), read("left", 3)].into_iter().collect();
        let mine = [membership("changed", 4), membership("fresh", 1), membership("same", 3)];
        assert_eq!(unchanged(contacts, &mine), FxHashMap::from_iter([(id("same"), members)]));
    }
}
