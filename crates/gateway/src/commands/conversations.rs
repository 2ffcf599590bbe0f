//! Creating and changing conversations, for the server API and for first messages alike.

use parlance_backplane::{Change, ChangeRefused, Changed, Fault};
use parlance_model::{LogKey, Record};

use crate::node::Node;

/// Changes a conversation and tells those who came, through their own feeds: their nodes do not hear the
/// conversation yet.
///
/// The two steps are not one: a crash between them leaves members who learn of the conversation when they
/// next connect, or when the change is repeated. So every repetition of a creation tells all members again;
/// whoever knows already notices nothing.
///
/// # Errors
/// The backplane's fault; then repeat the change. The inner error is a refusal: nothing happened.
pub async fn change(node: &Node, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
    let first_message = change.only_create;
    let changed = match node.backplane.conversations.change(change).await? {
        Ok(changed) => changed,
        Err(refused) => return Ok(Err(refused)),
    };
    let conversation = &changed.conversation;
    let again = first_message && !changed.created;
    let told = conversation.members.iter().filter(|m| again || changed.added.contains(&m.user));
    for member in told {
        let record = Record::Invited { conversation: conversation.id.clone(), since: member.joined_seq };
        node.backplane.log.post(&LogKey::User(member.user.clone()), record).await?;
    }
    Ok(Ok(changed))
}
