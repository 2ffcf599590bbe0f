//! Presence said by the client, and keepalives.

use std::sync::Arc;

use parlance_model::{Answer, PresenceChange, Reject};

use crate::node::Node;
use crate::session::Link;

pub(super) async fn run(
    node: &Arc<Node>,
    link: &Arc<Link>,
    change: PresenceChange,
) -> Result<Answer, Reject> {
    link.set_status(change.status);
    touch(node, link).await?;
    Ok(Answer::Done)
}

/// A keepalive refreshes the lease at once, also when it had run out. It is answered whatever becomes of that: the
/// connection is alive, and the lease is carried again when the engine is back.
pub(super) async fn ping(node: &Arc<Node>, link: &Arc<Link>) -> Result<Answer, Reject> {
    if node.health.keeps()
        && let Err(reject) = touch(node, link).await
    {
        tracing::debug!(?reject, "a keepalive without a lease");
    }
    Ok(Answer::Pong { at: node.clock.now() })
}

async fn touch(node: &Node, link: &Link) -> Result<(), Reject> {
    let mut lease = link.lease(node.config.load().timings.presence_ttl());
    // This connection was let in already: the limit is not asked again.
    lease.max = 0;
    node.backplane.presence.touch(lease).await.map_err(|f| node.unavailable(&f))?;
    Ok(())
}
