//! One node: everything its sessions, listeners and background tasks share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use parlance_backplane::{Backplane, Fault};
use parlance_hub::{Hub, Notice};
use parlance_model::{ConnectionId, MaintenanceNotice, NodeId, Reject, RejectCode, Time, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::authoriser::Authoriser;
use crate::backfill::Backfill;
use crate::brake::Brakes;
use crate::clock::Clock;
use crate::config::Config;
use crate::feed::FeedHandle;
use crate::forward::Forward;
use crate::health::Health;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::session::Link;
use crate::trace::Tracing;

/// Where the maintenance switch lies in [`parlance_backplane::Shared`].
pub const MAINTENANCE_KEY: &str = "maintenance";

/// A feed that has not come round for so long no longer delivers.
const FEED_STALL_MS: u64 = 5_000;

/// One node's shared state.
pub struct Node {
    /// This node.
    pub id: NodeId,
    /// Configuration; replaced by a reload.
    pub config: ArcSwap<Config>,
    /// The time of day.
    pub clock: Clock,
    /// What nodes share.
    pub backplane: Backplane,
    /// Local listeners.
    pub hub: Hub,
    /// Opens topics.
    pub feed: FeedHandle,
    /// Authenticated connections by number.
    pub links: DashMap<u64, Arc<Link>, rustc_hash::FxBuildHasher>,
    /// The connections that use recoverable Socket.IO sessions, by private id; `None`: it ended for good a moment ago.
    pub(crate) sessions: DashMap<String, Option<u64>, rustc_hash::FxBuildHasher>,
    /// Counters.
    pub metrics: Metrics,
    /// What it did lately, for whoever asks afterwards.
    pub(crate) journal: Journal,
    /// The way to other nodes.
    pub(crate) forward: Forward,
    /// Verifies tokens; replaced by a reload.
    pub auth: ArcSwap<Authenticator>,
    /// Asks the application's backend, when configured; replaced by a reload.
    pub(crate) authoriser: ArcSwapOption<Authoriser>,
    /// Owns every task.
    pub tracker: TaskTracker,
    /// Cancelled when the node begins to stop: it is not ready any more.
    pub leaving: CancellationToken,
    /// Cancelled a while later: no new connections.
    pub shutdown: CancellationToken,
    /// Cancelled when sessions are gone: background tasks end.
    pub halt: CancellationToken,
    /// What every node carries out.
    pub(crate) orders: Orders,
    /// Who waits because some node delivers late.
    pub(crate) brakes: Brakes,
    /// The maintenance switch, when on.
    pub maintenance: ArcSwapOption<MaintenanceNotice>,
    /// When the node started.
    pub started_at: Time,
    /// Milliseconds at which the feed last came round.
    pub(crate) feed_pulse: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Since when there are nodes of this one's generation; 0: it has none.
    pub(crate) generation: AtomicU64,
    /// What is known of the engine.
    pub(crate) health: Health,
    /// Who brings history into the archive, where there is one.
    pub backfill: OnceLock<Arc<dyn Backfill>>,
    /// Which messages are traced.
    pub(crate) tracing: Tracing,
    /// Leases are to be carried at once.
    pub(crate) leases: Notify,
}

/// The maintenance switch as it is stored and set over the server API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintenanceSwitch {
    /// On or off.
    pub enabled: bool,
    /// For people.
    #[serde(default)]
    pub message: Option<String>,
    /// Seconds until a retry makes sense.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

impl Node {
    /// A number for a new connection.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId { node: self.id.clone(), number: self.connections.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// What has passed since an entry came into its log, by this node's clock and what is known of the other's.
    pub(crate) fn since(&self, at: Time) -> Duration {
        self.backplane.stats.since(at, self.clock.now())
    }

    /// Milliseconds since the feed last came round; it does so every 100 ms when there is nothing to do.
    pub fn feed_lag_ms(&self) -> u64 {
        self.clock.now().millis().saturating_sub(self.feed_pulse.load(Ordering::Relaxed))
    }

    /// Whether the feed comes round.
    pub(crate) fn delivers(&self) -> bool {
        self.feed_lag_ms() <= FEED_STALL_MS
    }

    /// Whether this node can do its work.
    ///
    /// # Errors
    /// What keeps it from delivering, for `/readyz`.
    pub fn ready(&self) -> Result<(), String> {
        if self.leaving.is_cancelled() {
            return Err("stopping".to_owned());
        }
        if !self.delivers() {
            return Err("the feed has stopped".to_owned());
        }
        if !self.health.begun() {
            return Err("a part of the engine that a start needs is away".to_owned());
        }
        if !self.health.keeps() {
            return Err("the engine cannot keep messages".to_owned());
        }
        if !self.health.hears() {
            return Err("publications do not arrive".to_owned());
        }
        Ok(())
    }

    /// Whether new connections are for nodes of a newer generation: whoever came here now would have to go once more before
    /// long.
    pub(crate) fn is_superseded(&self) -> bool {
        self.forward.roster.has_newer(self.generation.load(Ordering::Relaxed))
    }

    /// Whether it takes new connections.
    ///
    /// # Errors
    /// The refusal: the client is to try again, and comes to another node.
    pub(crate) fn takes(&self) -> Result<(), Reject> {
        let why = match (self.shutdown.is_cancelled(), self.is_superseded()) {
            (false, false) => return Ok(()),
            (true, _) => "this node is stopping",
            (false, true) => "this node is being replaced",
        };
        Err(Reject::new(RejectCode::Unavailable, why).retry_after(1_000))
    }

    /// Has the leases carried to the backplane at once: after an outage, before they are taken for ended.
    pub(crate) fn carry_leases(&self) {
        self.leases.notify_one();
    }

    /// The refusal for a backplane that cannot do it now. Logs the fault.
    pub fn unavailable(&self, fault: &Fault) -> Reject {
        tracing::warn!(%fault, "backplane");
        self.away()
    }

    /// The refusal while the backplane is known to be away.
    pub(crate) fn away(&self) -> Reject {
        self.metrics.engine.errors.inc();
        Reject::new(RejectCode::Unavailable, "Service temporarily unavailable").retry_after(1_000)
    }

    /// Nobody hears a conversation any more; the connections are told.
    pub(crate) fn evict_all(&self, topic: &Topic) {
        let Topic::Conversation(id) = topic else { return };
        for listener in self.hub.listeners(topic) {
            self.hub.leave(topic, listener.number);
            listener.notify(Notice::Removed(id.clone()));
        }
    }

    /// Reads the maintenance switch again.
    pub(crate) async fn load_maintenance(&self) -> Result<Option<Arc<MaintenanceNotice>>, Fault> {
        let stored = self.backplane.shared.load(MAINTENANCE_KEY).await?;
        let switch = stored.and_then(|bytes| serde_json::from_slice::<MaintenanceSwitch>(&bytes).ok());
        let notice = switch.filter(|s| s.enabled).map(|s| {
            Arc::new(MaintenanceNotice {
                enabled: true,
                message: s.message.unwrap_or_else(|| "Maintenance in progress".to_owned()).into(),
                retry_after: s.retry_after.unwrap_or(60),
                at: self.clock.now(),
            })
        });
        self.maintenance.store(notice.clone());
        Ok(notice)
    }

    /// The refusal while maintenance is on.
    pub(crate) fn maintenance_refusal(&self) -> Option<Reject> {
        let notice = self.maintenance.load_full()?;
        Some(
            Reject::new(RejectCode::Maintenance, notice.message.to_string())
                .retry_after(notice.retry_after * 1000),
        )
    }
}
