//! A node's life: build, listen, reload, stop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use parlance_backplane::{Backplane, Fault};
use parlance_hub::Hub;
use parlance_model::{NodeId, Topic};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::authoriser::Authoriser;
use crate::brake::Brakes;
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::{self, Forward};
use crate::health::{self, Health};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::orders::{self, Orders};
use crate::trace::{self, Tracing};
use crate::{background, drain, feed, http, proofs, webhooks};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not make sense.
    #[error("{0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The backplane is not there.
    #[error("{0}")]
    Backplane(#[from] Fault),
    /// The backplane's inbox belongs to another node.
    #[error("the backplane handle is in use by another node")]
    Inbox,
}

/// A running node.
pub struct Running {
    node: Arc<Node>,
    public: SocketAddr,
    internal: SocketAddr,
}

/// Between two attempts at what a start did not get.
const AGAIN: Duration = Duration::from_millis(500);

/// Opens the listeners. Other nodes know this one before any client does: its next request may go there.
async fn open(
    node: &Arc<Node>,
    listen: SocketAddr,
    internal: SocketAddr,
) -> Result<(SocketAddr, SocketAddr), StartError> {
    let doors = http::router::Public::new(node);
    // Ready is who can be connected to.
    node.health.owed.fetch_add(1, Ordering::Relaxed);
    let internal = http::listen_internal(&doors, internal).map_err(|e| StartError::Listen(internal, e))?;
    let joined = forward::join(node, internal).await;
    later(node, joined, |node| async move { forward::first(&node).await })?;
    node.tracker.spawn(forward::keep(node.clone()));
    let public = http::listen_public(&doors, listen).map_err(|e| StartError::Listen(listen, e))?;
    node.health.owed.fetch_sub(1, Ordering::Relaxed);
    Ok((public, internal))
}

/// What a start did not get from a part of the engine that is away is tried again and again: until then the node is
/// not ready.
fn later<F>(
    node: &Arc<Node>,
    done: Result<(), Fault>,
    again: impl Fn(Arc<Node>) -> F + Send + Sync + 'static,
) -> Result<(), Fault>
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    match done {
        Err(Fault::Unavailable(why)) => {
            tracing::warn!(why, "a part of the engine is away: this node starts, and is not ready");
            node.health.owed.fetch_add(1, Ordering::Relaxed);
            let (owing, halt) = (node.clone(), node.halt.clone());
            node.tracker.spawn(async move {
                let tries = async {
                    loop {
                        tokio::time::sleep(AGAIN).await;
                        match again(owing.clone()).await {
                            Ok(()) => break,
                            Err(fault) => tracing::debug!(%fault, "starting"),
                        }
                    }
                    owing.health.owed.fetch_sub(1, Ordering::Relaxed);
                };
                halt.run_until_cancelled(tries).await
            });
            Ok(())
        }
        done => done,
    }
}

/// Builds a node and starts what it does beside its sessions: everything but its listeners.
///
/// # Errors
/// See [`StartError`].
pub async fn begin(
    config: Config,
    backplane: Backplane,
    id: NodeId,
    clock: Clock,
) -> Result<Arc<Node>, StartError> {
    config.validate().map_err(|e| StartError::Config(e.to_string()))?;
    let auth = Authenticator::new(&config.auth, clock.clone()).map_err(StartError::Config)?;
    let auth = auth.keeping(&config.authoriser.claims);
    let authoriser = Authoriser::renewed(&config.authoriser, None).map_err(StartError::Config)?;
    let inbox = backplane.bus.inbox().ok_or(StartError::Inbox)?;
    let (handle, requests) = feed::channel();
    let idle = Duration::from_millis(config.limits.head_ms / 2);
    let (now, journal) = (clock.now(), Journal::new(config.log.journal));
    let metrics = Metrics::new(backplane.stats.clone()).of(&config.mounts);
    let tracing = Tracing::start(&id);
    let node = Arc::new(Node {
        id,
        config: ArcSwap::from_pointee(config),
        backplane,
        hub: Hub::new(),
        feed: handle,
        links: DashMap::default(),
        sessions: DashMap::default(),
        metrics,
        journal,
        forward: Forward::new(idle),
        auth: ArcSwap::from_pointee(auth),
        authoriser: ArcSwapOption::from(authoriser),
        tracker: TaskTracker::new(),
        leaving: CancellationToken::new(),
        shutdown: CancellationToken::new(),
        halt: CancellationToken::new(),
        orders: Orders::default(),
        brakes: Brakes::new(),
        maintenance: ArcSwapOption::empty(),
        started_at: now,
        feed_pulse: AtomicU64::new(now.millis()),
        connections: AtomicU64::new(0),
        generation: AtomicU64::new(0),
        health: Health::default(),
        backfill: OnceLock::new(),
        tracing,
        leases: Notify::new(),
        clock,
    });
    node.tracker.spawn(feed::run(node.clone(), inbox, requests));
    let begun = begin_orders(node.clone()).await;
    later(&node, begun, begin_orders)?;
    node.tracker.spawn(background::sweep(node.clone()));
    node.tracker.spawn(background::refresh(node.clone()));
    node.tracker.spawn(proofs::watch_keys(node.clone()));
    node.tracker.spawn(proofs::watch_sessions(node.clone()));
    node.tracker.spawn(drain::balance(node.clone()));
    node.tracker.spawn(webhooks::run(node.clone()));
    node.tracker.spawn(health::keep(node.clone()));
    node.tracker.spawn(health::listen(node.clone()));
    Ok(node)
}

/// Hears the nodes, and carries out what is ordered from now on.
async fn begin_orders(node: Arc<Node>) -> Result<(), Fault> {
    node.feed.open(vec![Topic::Nodes]).await?;
    let orders = orders::begin(&node).await?;
    node.tracker.spawn(orders::watch(node.clone(), orders));
    Ok(())
}

impl Running {
    /// Starts a node: its feed first, its listeners last.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: Config,
        backplane: Backplane,
        id: NodeId,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (listen, internal_listen) = (config.listen, config.internal_listen);
        let node = begin(config, backplane, id, clock).await?;
        let (public, internal) = open(&node, listen, internal_listen).await?;
        let ack_level = node.backplane.ack_level.as_str();
        tracing::info!(node = %node.id, %public, %internal, ack_level, "listening");
        Ok(Self { node, public, internal })
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// How many authenticated connections there are.
    pub fn connections(&self) -> usize {
        self.node.links.len()
    }

    /// Gives up what is kept only to be quicker for those who were here: room in tables, verified tokens. These lie between
    /// what their connections held, and would hold fast the pages around them.
    pub fn forget(&self) {
        self.node.auth.load().forget_verified();
        self.node.hub.shrink();
        self.node.links.shrink_to_fit();
        self.node.sessions.shrink_to_fit();
    }

    /// Where clients connect.
    pub const fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Where operators and the application's backend connect.
    pub const fn internal_addr(&self) -> SocketAddr {
        self.internal
    }

    /// Takes over keys, limits and timings of a new configuration; addresses, mounts and engine stay.
    ///
    /// # Errors
    /// What is wrong with it; nothing changed then.
    pub fn reload(&self, mut config: Config) -> Result<(), StartError> {
        // Live connections keep the mount they came in by.
        let mounts = self.node.config.load().mounts.clone();
        if config.mounts != mounts {
            tracing::warn!("changes of mounts take effect at the next start");
            config.mounts = mounts;
        }
        config.validate().map_err(|e| StartError::Config(e.to_string()))?;
        let auth = self.node.auth.load().renewed(&config.auth).map_err(StartError::Config)?;
        let before = self.node.authoriser.load_full();
        let authoriser =
            Authoriser::renewed(&config.authoriser, before.clone()).map_err(StartError::Config)?;
        self.node.auth.store(Arc::new(auth.keeping(&config.authoriser.claims)));
        if authoriser.as_ref().map(Arc::as_ptr) != before.as_ref().map(Arc::as_ptr) {
            self.node.metrics.authoriser.open.set(0);
            self.node.authoriser.store(authoriser);
        }
        self.node.config.store(Arc::new(config));
        tracing::info!("configuration reloaded");
        Ok(())
    }

    /// Stops: not ready at once, no new connections after a while, every client is told to come back elsewhere, then the
    /// background tasks end. Returns whether every connection ended in time; who did not is cut off.
    pub async fn stop(self) -> bool {
        let node = &self.node;
        let in_time = drain::leave(node).await;
        node.halt.cancel();
        node.tracker.close();
        // What is left after a moment (a client in the middle of its closing handshake) is cut off with the process.
        let ended = tokio::time::timeout(Duration::from_secs(3), node.tracker.wait()).await.is_ok();
        trace::flush(node).await;
        in_time && ended
    }
}
