//! Where sessions are kept between two connections: in the old connection as long as it lives, and in the
//! backplane.
//!
//! Owns: when what is kept, and who may take it up. Must not know: packets, what an offset means.

use std::sync::Arc;

use parlance_backplane::{Fault, Membership, Place};
use parlance_hub::Notice;
use parlance_model::{ConversationId, Role};
use parlance_wire::{Accent, Auth, Dialect, Offset};

use super::super::ahead::{Ahead, Glance};
use super::super::link::Link;
use super::super::replay::is_deaf;
use super::{ID_CHARS, Owner, Recovery, fresh_id};
use crate::config::Mount;
use crate::node::Node;

fn key(pid: &str) -> String {
    format!("recovery:{pid}")
}

/// Keeps what the connection is inside of and how far it is, when the former changed or `always`; for twice the
/// window, because it is kept again within the window as long as the connection lives.
pub(in crate::session) async fn save(node: &Node, link: &Link, always: bool) -> Result<(), Fault> {
    let (key, kept) = {
        let mut guard = link.recovery();
        let Some(recovery) = guard.as_mut().filter(|r| r.moved || always) else { return Ok(()) };
        recovery.moved = false;
        (key(&recovery.pid), bytes(&recovery.checkpoint())?)
    };
    let saved = node.backplane.shared.save(&key, kept, Some(node.config.load().timings.recovery() * 2)).await;
    if saved.is_err()
        && let Some(recovery) = link.recovery().as_mut()
    {
        recovery.moved = true;
    }
    saved
}

/// Keeps everything: the transport is gone, the client may come back. Until that is done it can be taken over
/// from here.
pub(in crate::session) async fn save_last(node: &Node, link: &Link) -> Result<(), Fault> {
    let Some(mut whole) = link.recovery().clone() else { return Ok(()) };
    whole.whole = true;
    let window = node.config.load().timings.recovery();
    let saved = node.backplane.shared.save(&key(&whole.pid), bytes(&whole)?, Some(window)).await;
    if link.recovery().take().is_some() {
        node.sessions.remove_if(&whole.pid, |_, holder| *holder == Some(link.connection.number));
    }
    saved
}

/// From now on the session cannot be recovered: the client said goodbye, or is not to come back.
pub(in crate::session) fn end(node: &Node, link: &Link) {
    if let Some(recovery) = link.recovery().as_ref() {
        node.sessions.insert(recovery.pid.clone(), None);
    }
}

/// Removes what was kept of a session that ended for good.
pub(in crate::session) async fn forget(node: &Node, link: &Link) -> Result<(), Fault> {
    end(node, link);
    let Some(recovery) = link.recovery().take() else { return Ok(()) };
    let removed = node.backplane.shared.remove(&key(&recovery.pid)).await;
    node.sessions.remove_if(&recovery.pid, |_, holder| holder.is_none());
    removed
}

fn bytes(recovery: &Recovery) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(recovery).map_err(|e| Fault::Corrupt(e.to_string()))
}

/// What a client that was let in is told.
pub(in crate::session) struct Begun {
    /// The public id.
    pub sid: String,
    /// The private id, where sessions can be recovered.
    pub pid: Option<String>,
    /// The session from before goes on.
    pub recovered: bool,
    /// The conversations it is put into, where its dialect says so.
    pub conversations: Vec<ConversationId>,
}

/// What was seen before a client was let in.
pub(in crate::session) struct Seen {
    pub glance: Glance,
    pub looked: Result<Option<Recovery>, Fault>,
}

/// What is kept of the session that the client names, looked at early: its last connection may not have kept all of it
/// yet.
pub(in crate::session) async fn look(
    node: &Node,
    mount: &Mount,
    auth: &Auth,
) -> Result<Option<Recovery>, Fault> {
    match auth.pid.as_deref().filter(|pid| mount.recovery && pid.len() == ID_CHARS) {
        // Not what this node has itself: it is taken over, or kept by then.
        Some(pid) if !node.sessions.contains_key(pid) => load(node, pid).await,
        _ => Ok(None),
    }
}

/// Goes on with the session the client names, or begins one. It is kept before the client hears of it.
pub(in crate::session) async fn begin(
    node: &Arc<Node>,
    link: &Link,
    auth: &Auth,
    seen: Seen,
) -> Result<Begun, Fault> {
    let mut outcome = "unknown";
    let begun = try_begin(node, link, (auth, seen), &mut outcome).await;
    let outcome = match &begun {
        // It is counted when the client is told.
        Ok(begun) if begun.recovered => None,
        Ok(_) => Some(outcome),
        Err(_) => Some("away"),
    };
    if let Some(outcome) = outcome.filter(|_| link.mount.recovery && auth.pid.is_some()) {
        node.metrics.recovery(link.dialect, outcome);
    }
    begun
}

/// The same; `outcome`: why the session is not gone on with, where it is not.
async fn try_begin(
    node: &Arc<Node>,
    link: &Link,
    (auth, seen): (&Auth, Seen),
    outcome: &mut &'static str,
) -> Result<Begun, Fault> {
    let owner = Owner { user: &link.listener.user, mount: &link.mount.name };
    let last = auth.offset.as_deref().map(Offset::parse);
    let named = match (auth.pid.as_deref().filter(|_| link.mount.recovery), last) {
        // Some other string behind an event, or somebody's invention.
        (None, _) | (_, Some(None)) => None,
        (Some(pid), last) => {
            let kept = find(node, &owner, pid, seen.looked?).await?;
            let known = kept.is_some();
            let named = kept.and_then(|kept| Some((kept.clone().at(last.flatten())?, kept)));
            *outcome = match (known, &named) {
                (false, _) => "unknown",
                (true, None) => "behind",
                (true, Some(_)) => "lost",
            };
            named
        }
    };
    let mut places = Vec::new();
    if let Some((session, _)) = &named {
        places = session.standing();
        // From here on it is this connection's: whatever happens, it is kept.
        take(node, link, session.clone());
    }
    // Everything after this reaches the client, also what is said before it is in its rooms.
    let names = seen.glance.names.clone();
    let (found, ahead, saved) = tokio::join!(
        node.backplane.conversations.found_with(&link.listener.user, &names),
        seen.glance.read(node, link, places),
        save(node, link, true),
    );
    let found = found?;
    saved?;
    if link.mount.recovery && auth.pid.is_some() && !found.away.is_empty() {
        // Whether the session can be gone on with is not known, and one that begins anew would lose it.
        return Err(Fault::Unavailable("conversations of a session are away".to_owned()));
    }
    let begun = go_on(node, link, named, (&found.here, last.flatten())).await?;
    link.keep_ahead(Ahead { found: Some(found), ..ahead });
    Ok(begun)
}

/// Goes on with the session that was taken, if what it was in the middle of is there; otherwise begins one.
async fn go_on(
    node: &Arc<Node>,
    link: &Link,
    named: Option<(Recovery, Recovery)>,
    (memberships, last): (&[Membership], Option<Offset>),
) -> Result<Begun, Fault> {
    let inside = link.dialect.implied_role().is_some_and(|role| role != Role::Member);
    let conversations = memberships.iter().filter(|_| inside).map(|m| m.conversation.clone()).collect();
    if !link.mount.recovery {
        return Ok(Begun { sid: fresh_id(), pid: None, recovered: false, conversations });
    }
    if let Some((session, kept)) = named {
        if link.recovery().is_none() {
            return Err(Fault::Unavailable("the session goes on elsewhere".to_owned()));
        }
        let deaf = |role| is_deaf(link.dialect, role);
        // Of what it says itself, too.
        if is_sound(node, link.dialect, &kept, memberships).await? && session.is_within(memberships, deaf) {
            link.listener.set_last(last.unwrap_or(Offset::NONE));
            if let Some(accent) = session.accent.and_then(|index| Accent::ALL.get(usize::from(index))) {
                link.listener.set_accent(*accent);
            }
            return Ok(Begun { sid: session.sid, pid: Some(session.pid), recovered: true, conversations });
        }
        *link.recovery() = None;
        node.sessions.remove_if(&session.pid, |_, holder| *holder == Some(link.connection.number));
    }
    let owner = Owner { user: &link.listener.user, mount: &link.mount.name };
    let session = fresh(link.dialect, Recovery::new(&owner, last), memberships);
    let begun =
        Begun { sid: session.sid.clone(), pid: Some(session.pid.clone()), recovered: false, conversations };
    take(node, link, session);
    save(node, link, true).await?;
    Ok(begun)
}

/// The session is the connection's.
fn take(node: &Node, link: &Link, session: Recovery) {
    node.sessions.insert(session.pid.clone(), Some(link.connection.number));
    *link.recovery() = Some(Box::new(session));
}

/// Whether everything is there that the session was in the middle of. What is not is noted as lost: its places are not
/// used again.
async fn is_sound(
    node: &Node,
    dialect: Dialect,
    session: &Recovery,
    memberships: &[Membership],
) -> Result<bool, Fault> {
    let fences = &node.backplane.fences;
    for (log, seen) in session.beyond(memberships) {
        let fenced = fences.fence(&log, seen).await?;
        tracing::error!(?log, ?seen, ?fenced, "a session was further than the log is");
    }
    if !session.is_within(memberships, |role| is_deaf(dialect, role)) {
        return Ok(false);
    }
    // The user may have been removed from the others. A conversation that is not there at all was not deleted.
    let elsewhere = session.elsewhere(memberships);
    for place in fences.heads(&elsewhere).await {
        if matches!(place?, Place::Nothing { .. } | Place::Lost(_)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A session that begins now: sechat's with what waits for the user, others with what comes.
fn fresh(dialect: Dialect, mut session: Recovery, memberships: &[Membership]) -> Recovery {
    let role = dialect.implied_role().unwrap_or_default();
    for m in memberships {
        let waiting = m.marks.delivered.max(m.joined_seq);
        let seq = if dialect == Dialect::Sechat { waiting } else { m.head.seq };
        session.joined(m.number, &m.conversation, role, seq);
    }
    session
}

/// Finds a session of this owner and takes it from the connection that has it, if one still does.
/// `looked`: what was there a moment ago.
async fn find(
    node: &Node,
    owner: &Owner<'_>,
    pid: &str,
    looked: Option<Recovery>,
) -> Result<Option<Recovery>, Fault> {
    let ended = || node.sessions.get(pid).is_some_and(|holder| holder.is_none());
    if pid.len() != ID_CHARS || ended() {
        return Ok(None);
    }
    if let Some(live) = take_over(node, owner, pid) {
        return Ok(Some(live));
    }
    let kept = match looked {
        Some(whole) if whole.whole => Some(whole),
        // Its connection may have ended just now, and keep the rest of it.
        _ => load(node, pid).await?,
    };
    let kept = kept.filter(|session| session.is_of(owner));
    // Somebody may have been faster meanwhile.
    Ok(take_over(node, owner, pid).or(kept).filter(|_| !ended()))
}

/// The old connection may not have noticed yet that its transport is dead.
fn take_over(node: &Node, owner: &Owner<'_>, pid: &str) -> Option<Recovery> {
    let holder = node.sessions.get(pid).and_then(|holder| *holder)?;
    let link = node.links.get(&holder)?;
    let mut guard = link.recovery();
    let session = guard.take_if(|session| session.pid == pid && session.is_of(owner))?;
    drop(guard);
    node.sessions.remove(pid);
    link.listener.notify(Notice::Close { code: 1000, reason: "the session goes on elsewhere".to_owned() });
    Some(Recovery { whole: true, ..*session })
}

async fn load(node: &Node, pid: &str) -> Result<Option<Recovery>, Fault> {
    let Some(bytes) = node.backplane.shared.load(&key(pid)).await? else { return Ok(None) };
    let read = serde_json::from_slice::<Recovery>(&bytes);
    // Unreadable is as good as absent.
    Ok(read.inspect_err(|error| tracing::warn!(%error, "a kept session is unreadable")).ok())
}
