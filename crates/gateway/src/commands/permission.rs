//! What the authoriser is asked about conversations, and letting in those of whom it says so.
//!
//! Owns: when a member is asked about, and that a stranger is where membership is by `callback`. Must not know: how it is
//! asked (`crate::authoriser`). Without an authoriser members may and strangers may not, and nothing here takes any time.

use std::sync::Arc;

use parlance_backplane::{Change, Enlistment, MemberSet};
use parlance_model::{ConversationId, ConversationKind, Reject, RejectCode, UserId};

use super::conversations;
use crate::authoriser::{Authoriser, Question};
use crate::config::{Action, Membership};
use crate::node::Node;
use crate::session::Link;

/// Whether a connection may enter a conversation, or subscribe to it; `refusal` is for strangers.
pub(super) async fn to_join(
    node: &Arc<Node>,
    link: &Link,
    id: &ConversationId,
    refusal: fn() -> Reject,
) -> Result<(), Reject> {
    let joined = conversations::joined(node, id, &link.listener.user).await;
    if joined.map_err(|fault| node.unavailable(&fault))?.is_some() {
        return match asked(node, Action::Join) {
            // Boxed: whoever is not asked about would carry room for it.
            Some(authoriser) => Box::pin(inside(node, &authoriser, link, (Action::Join, id))).await,
            None => Ok(()),
        };
    }
    if link.mount.membership != Membership::Callback {
        return Err(refusal());
    }
    Box::pin(async {
        let outline = node.backplane.members.outline(id).await.map_err(|fault| node.unavailable(&fault))?;
        let alone = [link.listener.user.clone()];
        let members = outline.is_none().then_some(&alone[..]);
        may_come(node, link, (Action::Join, id), members, refusal).await?;
        let_in(node, link, id).await?.map(drop).ok_or_else(refusal)
    })
    .await
}

/// Whether somebody who is in a conversation may write to it. Of others nothing is said: appending finds them out.
pub(super) async fn to_send(node: &Node, link: &Link, id: &ConversationId) -> Result<(), Reject> {
    let Some(authoriser) = asked(node, Action::Send) else { return Ok(()) };
    let identity = link.identity();
    let question = Question::new(Action::Send, &link.mount, &identity).inside(id);
    if let Some(known) = authoriser.recall(node, &question) {
        return known;
    }
    let joined = conversations::joined(node, id, &link.listener.user).await;
    match joined.map_err(|fault| node.unavailable(&fault))? {
        Some(_) => authoriser.check(node, &question).await,
        None => Ok(()),
    }
}

/// Whether the first message of a conversation may create it with these members.
pub(super) async fn to_create(
    node: &Node,
    link: &Link,
    id: &ConversationId,
    members: &[UserId],
) -> Result<(), Reject> {
    let by_callback = link.mount.membership == Membership::Callback;
    if !by_callback && asked(node, Action::Send).is_none() {
        return Ok(());
    }
    may_come(node, link, (Action::Send, id), Some(members), super::rooms::stranger).await
}

/// Lets somebody write who is not in the conversation. From where it is heard.
pub(super) async fn to_come_by_sending(
    node: &Arc<Node>,
    link: &Link,
    id: &ConversationId,
) -> Result<Option<u64>, Reject> {
    may_come(node, link, (Action::Send, id), None, super::rooms::stranger).await?;
    let_in(node, link, id).await
}

fn asked(node: &Node, action: Action) -> Option<Arc<Authoriser>> {
    node.authoriser.load_full().filter(|authoriser| authoriser.rules_on(action))
}

async fn inside(
    node: &Node,
    authoriser: &Authoriser,
    link: &Link,
    (action, id): (Action, &ConversationId),
) -> Result<(), Reject> {
    let identity = link.identity();
    authoriser.check(node, &Question::new(action, &link.mount, &identity).inside(id)).await
}

/// Asks about somebody who would come into a conversation.
async fn may_come(
    node: &Node,
    link: &Link,
    (action, id): (Action, &ConversationId),
    members: Option<&[UserId]>,
    refusal: fn() -> Reject,
) -> Result<(), Reject> {
    // Taken away since the start: nobody is let in without a word.
    let Some(authoriser) = node.authoriser.load_full() else { return Err(refusal()) };
    let identity = link.identity();
    let question = Question::new(action, &link.mount, &identity).into(id, members);
    let asked = authoriser.check(node, &question).await;
    // A stranger is told what strangers are told anyway: not whether there is anything to be denied.
    let by_callback = link.mount.membership == Membership::Callback;
    asked.map_err(|reject| if by_callback && reject.code == RejectCode::Denied { refusal() } else { reject })
}

/// Makes a user a member, and a conversation where there is none. From where it is heard; `None`: the user was taken out again
/// at once.
async fn let_in(node: &Arc<Node>, link: &Link, id: &ConversationId) -> Result<Option<u64>, Reject> {
    let user = &link.listener.user;
    let come = || Enlistment { id: id.clone(), add: vec![user.clone()], remove: Vec::new() };
    let unavailable = |fault| node.unavailable(&fault);
    if conversations::enlist(node, come()).await.map_err(unavailable)?.is_none() {
        let change = Change {
            id: id.clone(),
            create: true,
            only_create: true,
            kind: ConversationKind::Group,
            title: None,
            members: MemberSet::Exactly(vec![user.clone()]),
            number: None,
            by: Some(user.clone()),
        };
        match conversations::change(node, change).await.map_err(unavailable)? {
            Ok(changed) if changed.created => {}
            // Somebody was faster.
            Ok(_) => drop(conversations::enlist(node, come()).await.map_err(unavailable)?),
            Err(_) => return Err(Reject::new(RejectCode::Forbidden, "this conversation id is taken")),
        }
    }
    conversations::joined(node, id, user).await.map_err(unavailable)
}
