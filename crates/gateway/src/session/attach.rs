//! What a connection joins by itself once it is authenticated.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use parlance_backplane::{Fault, Found, Membership, Range};
use parlance_model::{Channel, ConversationId, Event, LogKey, Role, Topic, UserId};
use parlance_wire::Dialect;
use rustc_hash::{FxHashMap, FxHashSet};

use super::ahead::{self, Ahead};
use super::link::Link;
use super::recovery::Recovery;
use super::replay::{Start, is_deaf, join, join_with, leave};
use super::told::{self, Due, Told};
use super::{recovery, restore};
use crate::commands::{conversations, rooms};
use crate::config::PresenceScope;
use crate::node::Node;

/// Joins the user's own feed, and what the dialect implies: every conversation of the user in the dialect's
/// own role (sechat from the delivered cursor on, backlog before live; a recovered session from where it
/// was), presence by the mount's scope; for socialhub what the client had subscribed before.
///
/// [`settle`] follows. Whether that is all of it: what lies in a part of the engine that is away is left out, and comes with a later
/// attempt. `again`: this is one.
pub(super) async fn attach(node: &Arc<Node>, link: &Arc<Link>, again: bool) -> Result<bool, Fault> {
    let whole = match link.dialect.implied_role() {
        // Boxed: it is several times as large as what others need.
        Some(_) => Box::pin(attach_member(node, link, again)).await?,
        None => {
            let restored = restore::restore(node, link).await?;
            if restored.is_none() {
                restore::fresh(node, link).await?;
            }
            // A kept entry without the user's own feed still gets it.
            let start = Start::After { seq: link.feed_start(), queued: false };
            let feed = Topic::User(link.listener.user.clone());
            join(node, link, vec![(feed, start, Role::Joined)]).await?;
            let left = leave_lost(node, link).await?;
            if restored.is_some() {
                restore::save(node, link).await?;
            }
            restored.unwrap_or(true) && left
        }
    };
    Ok(whole)
}

/// What follows attaching, and what a client that recovers need not wait for: leaves what the user was removed from
/// meanwhile, and is present in the rooms it is inside of. Whether that is all of it.
pub(super) async fn settle(node: &Arc<Node>, link: &Arc<Link>) -> Result<bool, Fault> {
    let whole = link.dialect.implied_role().is_none() || leave_lost(node, link).await?;
    let inside = rooms::inside(node, link);
    if link.dialect.implied_role() == Some(Role::Member) {
        // A recovered session's: the client entered them itself, and they count as when it did.
        for id in &inside {
            link.add_channel(&Channel::Conversation(id.clone()), usize::MAX);
        }
    }
    Ok(is_there(rooms::enter(node, link, inside, false).await)? && whole)
}

/// Whether something could be done; a part of the engine that is away is none of it.
pub(super) fn is_there(done: Result<(), Fault>) -> Result<bool, Fault> {
    match done {
        Ok(()) => Ok(true),
        Err(Fault::Unavailable(why)) => {
            tracing::debug!(why, "joining is tried again");
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// Joins what a connection hears from now on, without reading: the user's feed, and presence where everybody
/// hears everybody's.
pub(super) async fn greet(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    if link.dialect.implied_role().is_none() {
        return Ok(());
    }
    let mut topics = vec![(Topic::User(link.listener.user.clone()), Start::Now, Role::Joined)];
    if link.dialect == Dialect::Sechat && link.mount.presence_scope == PresenceScope::Everyone {
        topics.push((Topic::PresenceAll, Start::Now, Role::Joined));
    }
    join(node, link, topics).await?;
    // Whoever comes during maintenance is told as those were who were there when it began.
    if let Some(notice) = node.maintenance.load_full() {
        link.tell(&Event::Maintenance((*notice).clone()));
    }
    Ok(())
}

/// Whether presence comes from the user's contacts.
pub(super) fn hears_contacts(link: &Link) -> bool {
    let known = matches!(link.dialect, Dialect::Sechat | Dialect::Famly);
    known && link.mount.presence_scope == PresenceScope::Contacts
}

async fn attach_member(node: &Arc<Node>, link: &Arc<Link>, again: bool) -> Result<bool, Fault> {
    // The user's feed is listened to since the admission: an invitation that came since then is heard.
    let Ahead { found, contacts, pages } = link.take_ahead();
    let Found { here: memberships, away } = match found {
        Some(found) => found,
        None => node.backplane.conversations.found_of_user(&link.listener.user).await?,
    };
    let mut whole = away.is_empty();
    let contacts = ahead::unchanged(contacts, &memberships);
    let topics = {
        let mut recovery = link.recovery();
        if let Some(recovery) = recovery.as_mut().filter(|_| away.is_empty()) {
            recovery.keep(&memberships);
        }
        let of = |m: &Membership| {
            let (start, role) = start(link.dialect, recovery.as_deref(), m);
            (Topic::Conversation(m.conversation.clone()), start, role)
        };
        memberships.iter().map(of).collect()
    };
    let topics = if again { late(node, link, topics).await? } else { topics };
    let ids = || memberships.iter().map(|m| &m.conversation);
    let due = told::due(node, link, ids());
    let watch = async {
        if hears_contacts(link) { join_contacts(node, link, ids(), contacts).await } else { Ok(()) }
    };
    let (watched, joined) = tokio::join!(watch, join_with(node, link, topics, pages));
    whole &= is_there(watched)?;
    if !is_there(joined)? {
        // What is held back stays so until all of these are there.
        return Ok(false);
    }
    match link.dialect {
        Dialect::Sechat => told::catch_up(node, link, &due).await?,
        Dialect::Lingochat => tell_missed_receipts(node, link, &due, told::versions(&memberships)).await?,
        _ => {}
    }
    // Not after a fault: it is tried again, or the connection ends.
    due.release();
    Ok(whole)
}

/// What is joined late was to be heard from when the connection was let in: whatever was said since, or since the user
/// came into the conversation, is read. Where that is known to the dialect or the session it stays as it is.
async fn late(
    node: &Arc<Node>,
    link: &Arc<Link>,
    topics: Vec<(Topic, Start, Role)>,
) -> Result<Vec<(Topic, Start, Role)>, Fault> {
    if link.dialect == Dialect::Sechat || link.recovery().as_ref().is_some_and(|session| session.goes_on()) {
        return Ok(topics);
    }
    let mut all = Vec::with_capacity(topics.len());
    for (topic, start, role) in topics {
        let joined = node.hub.is_in(&topic, link.listener.number);
        let (Start::After { seq, queued }, Some(key), false) = (start, LogKey::of_topic(&topic), joined)
        else {
            all.push((topic, start, role));
            continue;
        };
        let range = Range::Since { at: link.opened_at, limit: 1 };
        let page = node.backplane.log.range(&key, range).await?;
        let since = page.entries.first().map_or(page.head, |entry| entry.seq.saturating_sub(1));
        // A session that begins anew has no place of it: it would be told everything since the user came in.
        let seq = if link.recovery().is_some() { seq.max(since) } else { seq.min(since) };
        all.push((topic, Start::After { seq, queued }, role));
    }
    Ok(all)
}

/// Receipts are in no log that a session could go on in. `now`: the versions from before what is heard live.
async fn tell_missed_receipts(
    node: &Arc<Node>,
    link: &Arc<Link>,
    due: &Due<'_>,
    now: Told,
) -> Result<(), Fault> {
    let told = link.recovery().as_ref().filter(|r| r.goes_on()).map(|r| r.told.clone());
    if let Some(told) = told {
        told::catch_up_from(node, link, due, &told).await?;
    }
    if let Some(recovery) = link.recovery().as_mut() {
        // Of what could not be joined it stays what was told before.
        let due = due.names();
        for (id, version) in now {
            if due.contains(id.as_str()) || !recovery.told.contains_key(&id) {
                recovery.told.insert(id, version);
            }
        }
    }
    Ok(())
}

/// From where on, and how, a conversation of the user is heard.
fn start(dialect: Dialect, session: Option<&Recovery>, m: &Membership) -> (Start, Role) {
    let implied = dialect.implied_role().unwrap_or_default();
    let sechat = dialect == Dialect::Sechat;
    let Some(session) = session else {
        let start = match sechat {
            true => Start::After { seq: m.marks.delivered.max(m.joined_seq), queued: true },
            false if is_deaf(dialect, implied) => Start::Now,
            // From when it was let in: it may have been told so before it is in its rooms.
            false => Start::After { seq: m.head.seq, queued: false },
        };
        return (start, implied);
    };
    let place = session.place(m.number).filter(|(_, seq)| *seq >= m.joined_seq);
    // A member only since, or again: everything from there on was missed.
    let (role, seq) = place.unwrap_or((implied, m.joined_seq));
    if is_deaf(dialect, role) {
        return (Start::Now, role);
    }
    (Start::After { seq, queued: sechat && !session.goes_on() }, role)
}

/// The user became a member of a conversation while connected.
///
/// A recipient may be faster than this: receipts of the user's own messages that came before the join are
/// told after it.
pub(crate) async fn invited(
    node: &Arc<Node>,
    link: &Arc<Link>,
    conversation: ConversationId,
    since: u64,
) -> Result<(), Fault> {
    let topic = Topic::Conversation(conversation.clone());
    let contacts = hears_contacts(link);
    let is_in = node.hub.is_in(&topic, link.listener.number);
    // In the room, but what was to be told then broke off.
    let held = is_in && link.listener.holds_receipts(&conversation);
    let Some(role) = link.dialect.implied_role().filter(|_| !is_in || contacts || held) else {
        return Ok(());
    };
    if conversations::joined(node, &conversation, &link.listener.user).await?.is_none() {
        return Ok(());
    }
    if contacts {
        join_contacts(node, link, [&conversation], FxHashMap::default()).await?;
    }
    if is_in && !held {
        return Ok(());
    }
    let Some(due) = told::due_of_invitation(node, link, &conversation) else { return Ok(()) };
    let start = Start::After { seq: since, queued: false };
    join(node, link, vec![(topic, start, role)]).await?;
    if link.dialect == Dialect::Sechat && !due.is_empty() {
        told::since(node, link, &conversation, since).await?;
    }
    due.release();
    // Of others that are away it does not matter here.
    leave_lost(node, link).await?;
    if role != Role::Member
        && node.hub.is_in(&Topic::Conversation(conversation.clone()), link.listener.number)
    {
        rooms::enter(node, link, vec![conversation], false).await?;
    }
    Ok(())
}

/// The user is no longer in a conversation, nor is the connection in its room.
pub(super) async fn removed(node: &Node, link: &Link, conversation: ConversationId) -> Result<(), Fault> {
    rooms::gone(node, link, &conversation).await?;
    if link.is_restorable() {
        restore::save(node, link).await
    } else {
        recovery::save(node, link, false).await
    }
}

/// Leaves conversations the user was removed from between the look at the members and the subscription: the
/// removal was published before this connection was in the room. Whether that is known of all it is in.
async fn leave_lost(node: &Node, link: &Link) -> Result<bool, Fault> {
    if !link.is_in_any_conversation() {
        return Ok(true);
    }
    // Before the look: what is joined meanwhile it does not know.
    let topics = link.topics();
    let now = node.backplane.conversations.found_of_user(&link.listener.user).await?;
    // Of one that is away it is not known, and asked again.
    let mut known = true;
    let mine: FxHashSet<&ConversationId> =
        now.here.iter().map(|m| &m.conversation).chain(&now.away).collect();
    for topic in topics {
        let Topic::Conversation(id) = &topic else { continue };
        known &= !now.away.contains(id);
        // Asked once more: the user may have come into it again meanwhile.
        if !mine.contains(id) && conversations::joined(node, id, &link.listener.user).await?.is_none() {
            leave(node, link, &topic);
            link.remove_channel(&Channel::Conversation(id.clone()));
            rooms::gone(node, link, id).await?;
        }
    }
    Ok(known)
}

/// Joins the presence of everybody the user shares these conversations with: all are asked for at once, so that how many there
/// are does not tell in time; not those whose members are `known`. Not those of a conversation that has many: everybody there
/// would watch everybody.
async fn join_contacts<'a>(
    node: &Arc<Node>,
    link: &Arc<Link>,
    ids: impl IntoIterator<Item = &'a ConversationId>,
    mut known: FxHashMap<ConversationId, Vec<UserId>>,
) -> Result<(), Fault> {
    let (mut others, mut unknown, mut away) = (BTreeSet::new(), Vec::new(), None);
    for id in ids {
        match known.remove(id) {
            Some(members) => others.extend(members),
            None => unknown.push(id),
        }
    }
    for asked in join_all(unknown.into_iter().map(|id| node.backplane.members.outline(id))).await {
        match asked {
            Ok(Some(outline)) => others.extend(outline.conversation.members.into_iter().map(|m| m.user)),
            Ok(None) => {}
            Err(fault) => away = Some(fault),
        }
    }
    others.remove(&link.listener.user);
    let topics = others.into_iter().map(|user| (Topic::Presence(user), Start::Now, Role::Joined)).collect();
    join(node, link, topics).await?;
    away.map_or(Ok(()), Err)
}
