//! Letting a connection in: the presence lease is taken before the client is told that it is connected.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parlance_backplane::{Fault, Touched};
use parlance_hub::{Announce, Listener, Notice, Outbox, Voice};
use parlance_model::{Identity, Reject, RejectCode, Role, Topic};

use super::link::Link;
use super::{conn, run};
use crate::config::Mount;
use crate::node::Node;

/// What a connection's uses have in common: where output waits, and when input came last.
#[derive(Clone)]
pub(super) struct Port {
    pub outbox: Arc<Outbox>,
    /// Milliseconds of the last received byte.
    pub heart: Arc<AtomicU64>,
}

/// A connection that may come in. Dropping it unused gives the lease back.
pub struct Admission {
    pub(super) node: Arc<Node>,
    pub(super) mount: Arc<Mount>,
    /// Where it comes from.
    pub remote: IpAddr,
    port: Port,
    link: Option<Arc<Link>>,
    used: bool,
}

impl Admission {
    /// Uses the admission: from here the session gives the lease back.
    pub(super) fn take(mut self) -> (Arc<Node>, Arc<Mount>, Port, Option<Arc<Link>>) {
        self.used = true;
        (self.node.clone(), self.mount.clone(), self.port.clone(), self.link.take())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        if let Some(link) = self.link.take() {
            let node = self.node.clone();
            self.node.tracker.spawn(async move { close(&node, &link).await });
        }
    }
}

/// Asks whether a connection may come in. Without an identity (a dialect that authenticates by its first
/// frame) nothing is taken yet.
///
/// # Errors
/// `TooManyConnections` when the user has as many as the mount allows, `Unavailable` when the node stops or
/// the backplane is away.
pub async fn admit(
    node: &Arc<Node>,
    mount: Arc<Mount>,
    identity: Option<Identity>,
    remote: IpAddr,
) -> Result<Admission, Reject> {
    if node.shutdown.is_cancelled() {
        return Err(Reject::new(RejectCode::Unavailable, "this node is stopping").retry_after(1_000));
    }
    let port = Port { outbox: run::outbox(node), heart: Arc::new(AtomicU64::new(node.clock.now().millis())) };
    let link = match identity {
        Some(identity) => Some(open(node, &mount, identity, &port).await?),
        None => None,
    };
    Ok(Admission { node: node.clone(), mount, remote, port, link, used: false })
}

/// Takes the lease of an authenticated connection.
pub(super) async fn open(
    node: &Arc<Node>,
    mount: &Arc<Mount>,
    identity: Identity,
    port: &Port,
) -> Result<Arc<Link>, Reject> {
    let config = node.config.load();
    let connection = node.next_connection();
    let voice = Voice {
        accent: mount.spoken().default_accent(mount.carried()),
        style: conn::style(mount),
        announce: Announce { hold_ms: mount.background_ms, throttle_ms: mount.presence_throttle_ms },
    };
    let user = identity.user.clone();
    let listener = Arc::new(Listener::new(connection.number, user, voice, port.outbox.clone()));
    let heart = port.heart.clone();
    let link = Arc::new(Link::new(listener, connection, mount.clone(), Arc::new(identity), heart));
    let mut listening = Listening { node, link: link.clone(), kept: false };
    listening.begin().await.map_err(|f| node.unavailable(&f))?;
    let lease = link.lease(config.timings.presence_ttl());
    match node.backplane.presence.touch(lease).await {
        Ok(Touched::Ok) => {
            listening.kept = true;
            node.links.insert(link.connection.number, link.clone());
            if node.orders.revoked_meanwhile(&link.identity()) {
                link.listener.notify(Notice::Revoked);
            }
            if node.shutdown.is_cancelled() {
                // Let in after the others were told to go.
                let reason = "this server is restarting; reconnect".to_owned();
                link.listener.notify(Notice::Close { code: 1012, reason });
            }
            Ok(link)
        }
        Ok(Touched::TooMany) => {
            Err(Reject::new(RejectCode::TooManyConnections, "maximum connections per user reached"))
        }
        Err(fault) => Err(node.unavailable(&fault)),
    }
}

/// The connection hears its user's own feed before anybody knows that it is connected: what is posted or
/// signalled from then on (a notification, a disconnect) reaches it. Dropped without being kept, it leaves.
struct Listening<'a> {
    node: &'a Node,
    link: Arc<Link>,
    kept: bool,
}

impl Listening<'_> {
    async fn begin(&self) -> Result<(), Fault> {
        let topic = Topic::User(self.link.listener.user.clone());
        self.node.hub.enter(&topic, &self.link.listener, Role::Joined);
        self.link.entered(topic.clone());
        self.node.feed.open(vec![topic.clone()]).await?;
        self.link.came_at(self.node.hub.last(&topic));
        Ok(())
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if !self.kept {
            leave_all(self.node, &self.link);
        }
    }
}

fn leave_all(node: &Node, link: &Link) {
    for topic in link.topics() {
        node.hub.leave(&topic, link.connection.number);
    }
}

/// Gives everything back.
pub(super) async fn close(node: &Arc<Node>, link: &Arc<Link>) {
    node.links.remove(&link.connection.number);
    leave_all(node, link);
    if let Err(fault) = node.backplane.presence.close(&link.listener.user, &link.connection).await {
        // The lease runs out by itself.
        tracing::warn!(%fault, "giving a presence lease back");
    }
}
