//! Letting a connection in: the presence lease is taken before the client is told that it is connected.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parlance_backplane::{Fault, Touched};
use parlance_hub::{Announce, Listener, Notice, Outbox, Voice};
use parlance_model::{Identity, Reject, RejectCode, Role, Topic};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::run::Boxed;
use super::{conn, run};
use crate::authoriser;
use crate::config::Mount;
use crate::drain::RESTARTING;
use crate::node::Node;
use crate::proofs;
use crate::trace::Parent;

/// What a connection's uses have in common: where output waits, and when input came last.
#[derive(Clone)]
pub(super) struct Port {
    pub outbox: Arc<Outbox>,
    /// Milliseconds of the last received byte.
    pub heart: Arc<AtomicU64>,
    /// The trace its handshake was part of.
    pub parent: Parent,
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
    /// Where the session's task belongs.
    pub fn tracker(&self) -> &TaskTracker {
        &self.node.tracker
    }

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
/// `Denied` when the authoriser says so, `TooManyConnections` when the user has as many as the mount allows, `Unavailable` when the node stops or
/// the backplane is away.
pub async fn admit(
    node: &Arc<Node>,
    mount: Arc<Mount>,
    identity: Option<Arc<Identity>>,
    remote: IpAddr,
    parent: Parent,
) -> Result<Admission, Reject> {
    let heart = Arc::new(AtomicU64::new(node.clock.now().millis()));
    let port = Port { outbox: run::outbox(node), heart, parent };
    let link = match identity {
        Some(identity) => Some(open(node, &mount, identity, &port).await?),
        None => None,
    };
    Ok(Admission { node: node.clone(), mount, remote, port, link, used: false })
}

/// Takes the lease of an authenticated connection that may connect.
pub(super) async fn open(
    node: &Arc<Node>,
    mount: &Arc<Mount>,
    identity: Arc<Identity>,
    port: &Port,
) -> Result<Arc<Link>, Reject> {
    authoriser::connect(node, mount, &identity).await?;
    Arrival::knock(node, mount, identity, port).await?.enter().await
}

/// A connection that hears its user's own feed, and that nobody knows of yet. Dropped before it entered, it leaves.
///
/// It hears before anybody knows that it is connected: what is posted or signalled from then on (a notification, a
/// disconnect) reaches it.
pub(super) struct Arrival {
    node: Arc<Node>,
    link: Arc<Link>,
    /// Finding out where the feed stands.
    opening: Option<Boxed<Result<(), Fault>>>,
    kept: bool,
}

impl Arrival {
    /// Has the connection hear its user's feed.
    pub(super) async fn knock(
        node: &Arc<Node>,
        mount: &Arc<Mount>,
        identity: Arc<Identity>,
        port: &Port,
    ) -> Result<Self, Reject> {
        let connection = node.next_connection();
        let voice = Voice {
            accent: mount.spoken().default_accent(mount.carried()),
            style: conn::style(mount),
            announce: Announce { hold_ms: mount.background_ms, throttle_ms: mount.presence_throttle_ms },
        };
        let user = identity.user.clone();
        let listener = Arc::new(Listener::new(connection.number, user, voice, port.outbox.clone()));
        let link = Arc::new(Link::new(listener, connection, mount.clone(), identity, port));
        let mut arrival = Self { node: node.clone(), link, opening: None, kept: false };
        arrival.listen().await.map_err(|fault| node.unavailable(&fault))?;
        Ok(arrival)
    }

    async fn listen(&mut self) -> Result<(), Fault> {
        let topic = Topic::User(self.link.listener.user.clone());
        self.node.hub.enter(&topic, &self.link.listener, Role::Joined);
        self.link.entered(topic.clone());
        let (telling, heard) = oneshot::channel();
        let (node, link) = (self.node.clone(), self.link.clone());
        let mut opening: Boxed<Result<(), Fault>> = Box::pin(async move {
            node.feed.open_telling(topic.clone(), telling).await?;
            link.came_at(node.hub.last(&topic));
            Ok(())
        });
        if self.link.dialect.implied_role().is_none() {
            // Read from where the feed stood when the connection came: nobody may know of it before that is known.
            return opening.await;
        }
        tokio::select! {
            biased;
            opened = &mut opening => opened?,
            Ok(()) = heard => self.opening = Some(opening),
        }
        Ok(())
    }

    /// The connection, not let in yet.
    pub(super) const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Takes the lease.
    pub(super) async fn enter(mut self) -> Result<Arc<Link>, Reject> {
        let (node, link) = (self.node.clone(), self.link.clone());
        let lease = link.lease(node.config.load().timings.presence_ttl());
        let opening = self.opening.take();
        let opened = async {
            match opening {
                Some(opening) => opening.await,
                None => Ok(()),
            }
        };
        let (opened, touched) = tokio::join!(opened, node.backplane.presence.touch(lease));
        match touched {
            Ok(Touched::Ok) => {}
            Ok(Touched::TooMany) => {
                let why = "maximum connections per user reached";
                return Err(Reject::new(RejectCode::TooManyConnections, why));
            }
            Err(fault) => return Err(node.unavailable(&fault)),
        }
        self.kept = true;
        if let Err(fault) = opened {
            close(&node, &link).await;
            return Err(node.unavailable(&fault));
        }
        node.links.insert(link.connection.number, link.clone());
        if !proofs::stand(&node, &link.identity()) {
            link.listener.notify(Notice::Revoked);
        }
        if node.shutdown.is_cancelled() {
            link.send_away();
            // Let in after the others were told to go.
            link.listener.notify(RESTARTING.notice());
        }
        Ok(link)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.kept {
            leave_all(&self.node, &self.link);
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
    node.journal.ended(link, node.clock.now());
    node.links.remove(&link.connection.number);
    leave_all(node, link);
    let (presence, ttl) = (&node.backplane.presence, node.config.load().timings.presence_ttl());
    let given = match link.is_sent_away() {
        // Its user has not left: nobody is to be told so.
        true => presence.linger(&link.lease(ttl)).await,
        false => presence.close(&link.listener.user, &link.connection).await,
    };
    if let Err(fault) = given {
        // The lease runs out by itself.
        tracing::warn!(%fault, "giving a presence lease back");
    }
}
