//! Whether the engine keeps things and publications arrive, as readiness tells it, and what follows when not.
//!
//! Owns: asking the engine again and again. Must not know: what an engine is made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parlance_backplane::Fault;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::config::Degraded;
use crate::drain::{Farewell, send_away};
use crate::node::Node;

/// How often the engine is asked to keep something. With the two patiences that follow, a node knows within 5 s.
const PROBE: Duration = Duration::from_secs(1);
/// The first answer may take so long before other parts of the engine are asked.
const PROMPT: Duration = Duration::from_secs(1);
/// A part of a cluster may be away: the node delivers as long as one of so many keeps something.
const PARTS: usize = 8;
/// What is kept is gone after this.
const KEPT: Duration = Duration::from_secs(60);
/// How often it is asked whether publications arrive.
const LISTEN: Duration = Duration::from_millis(500);
/// Clients are sent away after so long, if that is configured.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found last.
pub struct Health {
    keeps: AtomicBool,
    hears: AtomicBool,
    /// What the start did not get from the engine yet.
    pub(crate) owed: AtomicUsize,
}

impl Default for Health {
    fn default() -> Self {
        Self { keeps: AtomicBool::new(true), hears: AtomicBool::new(true), owed: AtomicUsize::new(0) }
    }
}

impl Health {
    /// Whether the engine could keep something when it was asked last.
    pub fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    /// Whether the start got everything it needs.
    pub fn begun(&self) -> bool {
        self.owed.load(Ordering::Relaxed) == 0
    }

    /// Whether publications arrive.
    pub fn hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }
}

/// Writes small values again and again until the node halts.
pub async fn keep(node: Arc<Node>) {
    let mut every = interval(PROBE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        let kept = keeps(&node).await;
        let before = node.health.keeps.swap(kept.is_ok(), Ordering::Relaxed);
        match kept {
            Err(fault) if before => {
                tracing::error!(%fault, "the engine keeps nothing: this node is not ready")
            }
            Err(fault) => tracing::debug!(%fault, "the engine keeps nothing"),
            Ok(()) if !before => {
                tracing::info!("the engine keeps things again");
                node.carry_leases();
                node.orders.look();
            }
            Ok(()) => {}
        }
    }
}

async fn keeps(node: &Node) -> Result<(), Fault> {
    let save = async |part: usize| {
        let key = format!("health:{}:{part}", node.id);
        node.backplane.shared.save(&key, Vec::new(), Some(KEPT)).await
    };
    if let Ok(Ok(())) = timeout(PROMPT, save(0)).await {
        return Ok(());
    }
    let mut others: FuturesUnordered<_> = (1..PARTS).map(save).collect();
    let mut failed = Fault::Unavailable("no answer".to_owned());
    while let Some(kept) = others.next().await {
        match kept {
            Ok(()) => return Ok(()),
            Err(fault) => failed = fault,
        }
    }
    Err(failed)
}

/// The node cannot deliver.
const DEAF: Farewell = Farewell { code: 1013, reason: "temporarily unavailable: reconnect" };

/// Asks until the node halts whether publications arrive, and sends clients away from a node that cannot deliver,
/// if that is configured.
pub async fn listen(node: Arc<Node>) {
    let mut every = interval(LISTEN);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deaf = false;
    let mut away: Option<Instant> = None;
    let mut sent = false;
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        // Twice in a row: a connection that is replaced at once is no outage.
        let was_deaf = std::mem::replace(&mut deaf, !node.backplane.bus.hears());
        node.health.hears.store(!(deaf && was_deaf), Ordering::Relaxed);
        if node.health.keeps() && node.health.hears() {
            (away, sent) = (None, false);
            continue;
        }
        let since = *away.get_or_insert_with(Instant::now);
        let wanted = node.config.load().degraded == Degraded::Close;
        if wanted && !sent && since.elapsed() >= PATIENCE && !node.shutdown.is_cancelled() {
            sent = true;
            tracing::warn!("this node cannot deliver: its clients are sent away");
            send_away(&node, PATIENCE, DEAF).await;
        }
    }
}
