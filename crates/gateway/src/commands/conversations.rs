//! Creating and changing conversations, for the server API and for first messages alike.

use std::sync::Arc;

use futures_util::future::join_all;
use parlance_backplane::{Change, ChangeRefused, Changed, Fault};
use parlance_model::{LogKey, Record};

use crate::node::Node;

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
    let creates = change.create;
    let changed = match node.backplane.conversations.change(change).await? {
        Ok(changed) => changed,
        Err(refused) => return Ok(Err(refused)),
    };
    let conversation = &changed.conversation;
    let again = creates && !changed.created;
    let told = conversation.members.iter().filter(|m| again || changed.added.contains(&m.user));
    // At once: they share the engine's commits.
    let posts = told.map(|member| {
        let record = Record::Invited { conversation: conversation.id.clone(), since: member.joined_seq };
        let key = LogKey::User(member.user.clone());
        let log = &node.backplane.log;
        async move { log.post(&key, record).await }
    });
    for posted in join_all(posts).await {
        posted?;
    }
    Ok(Ok(changed))
}
