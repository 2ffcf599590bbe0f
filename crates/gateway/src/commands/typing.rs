//! Typing: told to the other members, or to the named recipients of a conversation that does not exist yet.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Rule, Signal, TypingChanged, TypingOutcome};
use parlance_model::{Answer, Author, Reject, RejectCode, Topic, TypingChange};

use crate::config::Membership;
use crate::node::Node;
use crate::session::Link;

/// Starts and heartbeats of one user per second; a client that follows its protocol needs one per 3 s and
/// conversation.
const PER_SECOND: u32 = 20;

async fn allowed(node: &Node, link: &Link) -> Result<bool, Reject> {
    if !node.config.load().limits.rates {
        return Ok(true);
    }
    let rule = Rule { name: "typing".into(), limit: PER_SECOND, window: Duration::from_secs(1) };
    let taken = node.backplane.limits.take(&link.listener.user, &rule).await;
    taken.map(|verdict| verdict.allowed).map_err(|f| node.unavailable(&f))
}

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, typing: TypingChange) -> Result<Answer, Reject> {
    let config = node.config.load();
    if typing.to.len() > config.limits.recipients {
        let message = format!("more than {} recipients", config.limits.recipients);
        return Err(Reject::new(RejectCode::InvalidField, message).field("toUserIds"));
    }
    if typing.on && !allowed(node, link).await? {
        // A passing event too many: nobody misses it.
        return Ok(Answer::Done);
    }
    let author = Author::from(&*link.identity());
    let backplane = &node.backplane;
    let set = backplane.typing.set(&typing.conversation, &author, typing.on, &typing.to).await;
    if set.map_err(|f| node.unavailable(&f))? != TypingOutcome::Ignored {
        return Ok(Answer::Done);
    }
    let existing = backplane.members.outline(&typing.conversation).await.map_err(|f| node.unavailable(&f))?;
    if existing.is_some() || link.mount.membership != Membership::Open || typing.to.is_empty() {
        return Err(Reject::new(RejectCode::Forbidden, "not a member of this conversation"));
    }
    let now = node.clock.now();
    for user in &typing.to {
        let change = TypingChanged {
            conversation: typing.conversation.clone(),
            author: author.clone(),
            on: typing.on,
            to: vec![user.clone()],
            until: now + config.timings.typing_ttl(),
            at: now,
        };
        let topic = Topic::User(user.clone());
        backplane.bus.signal(&topic, Signal::Typing(change)).await.map_err(|f| node.unavailable(&f))?;
    }
    Ok(Answer::Done)
}
