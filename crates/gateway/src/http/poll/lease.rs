//! Presence of those who only poll: each poll is a sign of life, as a frame is on a WebSocket.
//!
//! Must not know: what is polled.

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Fault, Touch};
use parlance_model::{ConnectionId, NodeId, UserId};
use xxhash_rust::xxh3::xxh3_64;

use crate::node::Node;

/// Under this name the limit of connections does not count it.
const MOUNT: &str = "poll";
/// Time for the next poll to come.
const NEXT: Duration = Duration::from_secs(5);

/// All polls of a user are one connection, whichever node they come to.
fn connection(user: &UserId) -> Option<ConnectionId> {
    // 53 bits: an engine may count in floating point.
    let number = xxh3_64(user.as_str().as_bytes()) >> 11;
    NodeId::parse(MOUNT).ok().map(|node| ConnectionId { node, number })
}

/// Keeps the user online for as long as the poll may wait, and until the next one has come.
///
/// Nothing is refused for it: who cannot be seen online is told the events all the same.
pub(super) async fn hold(node: &Arc<Node>, user: &UserId, wait: Duration) {
    let Some(connection) = connection(user) else { return };
    let life = node.config.load().timings.presence_ttl().max(wait + NEXT);
    let now = node.clock.now();
    let touch = Touch {
        user: user.clone(),
        connection,
        mount: MOUNT.into(),
        status: None,
        deadline: now + life,
        heard: now,
        max: 0,
    };
    if let Err(fault) = keep(node, touch).await {
        tracing::debug!(%fault, "keeping a poller online");
    }
}

/// Beside a WebSocket nothing is taken: its user may have set a status that being online would outdo.
async fn keep(node: &Node, touch: Touch) -> Result<(), Fault> {
    let presence = &node.backplane.presence;
    let now = presence.status(std::slice::from_ref(&touch.user)).await?;
    match now.first().map_or(0, |now| now.devices) {
        0 => presence.touch(touch).await.map(drop),
        // It may be this lease; another's is left alone.
        1 => presence.refresh(&[touch]).await.map(drop),
        _ => Ok(()),
    }
}

/// The user's connections were closed, polls among them.
pub(super) async fn end(node: &Node, user: &UserId) {
    let Some(connection) = connection(user) else { return };
    if let Err(fault) = node.backplane.presence.close(user, &connection).await {
        tracing::debug!(%fault, "ending a poller's presence");
    }
}
