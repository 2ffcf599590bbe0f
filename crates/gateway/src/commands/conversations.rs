//! Creating and changing conversations, for the server API and for first messages alike.

use std::sync::Arc;

use futures_util::future::join_all;
use parlance_backplane::{Change, ChangeRefused, Changed, Enlisted, Enlistment, Fault, MemberSet};
use parlance_model::{ConversationId, LogKey, Record, UserId};
use rustc_hash::FxHashSet;

use crate::node::Node;

/// Invitations written at once.
const AT_ONCE: usize = 256;

/// Changes a conversation and tells those who came, through their own feeds: their nodes do not hear the
/// conversation yet. Runs to its end also when the caller goes away in the middle (a client that disconnects).
///
/// The two steps are not one: a crash between them leaves members who learn of the conversation when they
/// next connect, or when the change is repeated. So every repetition of a creation tells all members again;
/// whoever knows already notices nothing.
///
/// # Errors
/// The backplane's fault; then repeat the change. The inner error is a refusal: nothing happened.
pub async fn change(node: &Arc<Node>, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
    let task = node.tracker.spawn(change_and_tell(node.clone(), change));
    task.await.map_err(|error| Fault::Unavailable(format!("a change was not finished: {error}")))?
}

async fn change_and_tell(node: Arc<Node>, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
    let (creates, wanted) = (change.create, change.members.clone());
    let changed = match node.backplane.conversations.change(change).await? {
        Ok(changed) => changed,
        Err(refused) => return Ok(Err(refused)),
    };
    let again = creates && !changed.created;
    let mut told: FxHashSet<UserId> = changed.added.iter().cloned().collect();
    if again {
        told.extend(changed.conversation.members.iter().map(|member| member.user.clone()));
        // The members of a large one are left out.
        if let MemberSet::Exactly(all) = wanted {
            told.extend(all);
        }
    }
    invite(&node, &changed.conversation.id, told.into_iter().collect()).await?;
    Ok(Ok(changed))
}

/// Tells users, through their own feeds, that they are in a conversation; those of them who are.
async fn invite(node: &Node, id: &ConversationId, users: Vec<UserId>) -> Result<(), Fault> {
    if users.is_empty() {
        return Ok(());
    }
    let joined = node.backplane.members.joined(id, &users).await?;
    let told: Vec<(UserId, u64)> =
        users.into_iter().zip(joined).filter_map(|(user, since)| Some((user, since?))).collect();
    for some in told.chunks(AT_ONCE) {
        // At once: they share the engine's commits.
        let posts = some.iter().map(async |(user, since)| {
            let record = Record::Invited { conversation: id.clone(), since: *since };
            node.backplane.log.post(&LogKey::User(user.clone()), record, None).await
        });
        for posted in join_all(posts).await {
            posted?;
        }
    }
    Ok(())
}

/// Adds and removes members in bulk; `None`: there is no such conversation. Those of them who are connected are told
/// through their own feeds, the others find it when they connect. Runs to its end also when the caller goes away in
/// the middle.
///
/// # Errors
/// The backplane's fault; then it is repeated, which tells again whoever may not have heard.
pub async fn enlist(node: &Arc<Node>, call: Enlistment) -> Result<Option<Enlisted>, Fault> {
    let (inner, id) = (node.clone(), call.id.clone());
    let work = async move {
        let Some(done) = inner.backplane.members.enlist(call).await? else { return Ok(None) };
        invite(&inner, &id, done.present.clone()).await?;
        Ok(Some(done))
    };
    let task = node.tracker.spawn(work);
    task.await.map_err(|error| Fault::Unavailable(format!("a change was not finished: {error}")))?
}

/// The head when a user joined a conversation; `None` for one who is no member, or where there is no conversation.
///
/// # Errors
/// The backplane's fault.
pub async fn joined(node: &Node, id: &ConversationId, user: &UserId) -> Result<Option<u64>, Fault> {
    let joined = node.backplane.members.joined(id, std::slice::from_ref(user)).await?;
    Ok(joined.into_iter().next().flatten())
}
