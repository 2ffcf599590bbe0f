//! Which nodes there are, as this node last saw it, and telling the others that it is there.
//!
//! Owns: this node's beat; the copy that requests are forwarded by. Must not know: requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_backplane::{Fault, LiveNode, NodeState};
use parlance_model::{NodeId, Time};
use rand::seq::IteratorRandom;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::generation;
use crate::node::Node;

/// From one beat to the next.
const BEAT: Duration = Duration::from_secs(2);
/// A node that has not beaten for so long is not live.
const LIFE: Duration = Duration::from_secs(6);
/// A node that is not listed any more is still tried for so long: after an outage of the backplane nobody is listed
/// until the next beat, and where nobody listens an attempt costs nothing.
const GRACE: Duration = Duration::from_secs(4);
/// Between two looks that requests ask for: unknown ids can be made up.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a request waits for such a look.
const WAIT: Duration = Duration::from_secs(1);

/// The copy.
pub struct Roster {
    known: watch::Sender<Known>,
    /// Looks asked for so far.
    asked: AtomicU64,
    wanted: Notify,
}

#[derive(Default)]
struct Known {
    nodes: FxHashMap<NodeId, (Arc<NodeState>, Time)>,
    /// How many of the looks asked for are done.
    answered: u64,
}

impl Default for Roster {
    fn default() -> Self {
        Self { known: watch::Sender::new(Known::default()), asked: AtomicU64::new(0), wanted: Notify::new() }
    }
}

impl Roster {
    /// A node; one not heard of yet is looked for.
    pub async fn find(&self, id: &NodeId) -> Option<Arc<NodeState>> {
        if let Some(found) = self.known(id) {
            return Some(found);
        }
        let ticket = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut looks = self.known.subscribe();
        self.wanted.notify_one();
        let looked = looks.wait_for(|known| known.answered >= ticket);
        // Without a look in time it is not known, as after one.
        let _ = tokio::time::timeout(WAIT, looked).await;
        self.known(id)
    }

    /// Any node but these that is not stopping, of the newest generation that has room.
    pub fn another(&self, than: &[NodeId]) -> Option<NodeId> {
        let known = self.known.borrow();
        let fit = || known.nodes.iter().filter(|(id, (state, _))| !than.contains(id) && !state.draining);
        let newest = fit().filter(|(_, (state, _))| state.room).map(|(_, (state, _))| state.generation).max();
        let preferred = |state: &NodeState| newest.is_none_or(|newest| state.generation == newest);
        let fit = fit().filter(|(_, (state, _))| preferred(state));
        fit.map(|(id, _)| id.clone()).choose(&mut rand::rng())
    }

    /// Whether a node of a newer generation has room. A node without one has no place among them.
    pub fn has_newer(&self, generation: u64) -> bool {
        let known = self.known.borrow();
        generation > 0
            && known
                .nodes
                .values()
                .any(|(state, _)| state.generation > generation && state.room && !state.draining)
    }

    /// All that are known.
    pub fn all(&self) -> Vec<Arc<NodeState>> {
        self.known.borrow().nodes.values().map(|(state, _)| state.clone()).collect()
    }

    /// Until a node is there no more.
    pub async fn gone(&self, id: &NodeId) {
        // The sender lives as long as the roster.
        let _ = self.known.subscribe().wait_for(|known| !known.nodes.contains_key(id)).await;
    }

    fn known(&self, id: &NodeId) -> Option<Arc<NodeState>> {
        self.known.borrow().nodes.get(id).map(|(state, _)| state.clone())
    }

    /// Takes over what a look found. Only comings and goings, and the end of somebody's waiting, wake anybody.
    fn update(&self, found: Result<Vec<LiveNode>, Fault>, answered: u64, now: Time) {
        self.known.send_if_modified(|known| {
            let before = (known.answered, known.nodes.len());
            let mut came = false;
            match found {
                Ok(live) => {
                    for LiveNode { state, .. } in live {
                        came |= known.nodes.insert(state.id.clone(), (Arc::new(state), now)).is_none();
                    }
                    known.nodes.retain(|_, (_, listed)| now.since(*listed) < GRACE);
                }
                Err(fault) => {
                    tracing::warn!(%fault, "looking for the nodes");
                    // Nobody can beat now: nobody is known to be gone.
                    known.nodes.values_mut().for_each(|(_, listed)| *listed = now);
                }
            }
            known.answered = known.answered.max(answered);
            came || before != (known.answered, known.nodes.len())
        });
    }
}

/// Says that this node is there, for the first time, and looks who else is.
///
/// # Errors
/// When the backplane does not take it.
pub async fn join(node: &Node, internal: SocketAddr) -> Result<(), Fault> {
    let address = address(node, internal);
    // A node joins once.
    let _ = node.forward.address.set(address);
    first(node).await
}

/// The first beat and look.
///
/// # Errors
/// As [`join`].
pub async fn first(node: &Node) -> Result<(), Fault> {
    generation::learn(node).await?;
    node.backplane.nodes.beat(state(node), LIFE).await?;
    look(node).await;
    Ok(())
}

/// Goes on saying so until the node halts, then leaves.
pub async fn keep(node: Arc<Node>) {
    let mut every = tokio::time::interval(BEAT);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut draining, mut beats) = (false, 0_u32);
    loop {
        tokio::select! {
            () = node.halt.cancelled() => break,
            () = node.leaving.cancelled(), if !draining => {
                draining = true;
                beat(&node).await;
                look(&node).await;
            }
            _ = every.tick() => {
                beats = beats.wrapping_add(1);
                if beats.is_multiple_of(generation::BEATS)
                    && let Err(fault) = generation::learn(&node).await
                {
                    tracing::warn!(%fault, "keeping the generation");
                }
                beat(&node).await;
                look(&node).await;
            }
            () = node.forward.roster.wanted.notified() => {
                look(&node).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    if let Err(fault) = node.backplane.nodes.leave(&node.id).await {
        tracing::warn!(%fault, "leaving");
    }
}

async fn beat(node: &Node) {
    if let Err(fault) = node.backplane.nodes.beat(state(node), LIFE).await {
        tracing::warn!(%fault, "telling the other nodes that this one is there");
    }
}

async fn look(node: &Node) {
    let roster = &node.forward.roster;
    // What is asked for from here on may have begun after the look.
    let asked = roster.asked.load(Ordering::Relaxed);
    let found = node.backplane.nodes.live().await;
    if let Ok(live) = &found {
        node.journal.saw(&node.id, live, node.clock.now());
    }
    roster.update(found, asked, node.clock.now());
}

/// Where other nodes reach this one's internal listener.
fn address(node: &Node, internal: SocketAddr) -> String {
    if let Some(address) = &node.config.load().advertise {
        return address.clone();
    }
    let ip = internal.ip();
    if node.backplane.ack_level.engine() == "redis" && (ip.is_unspecified() || ip.is_loopback()) {
        tracing::warn!(
            %internal,
            "nodes on other hosts cannot reach this one: have the internal listener at an address of its own \
             (--internal-listen), or say which it is (--advertise)"
        );
    }
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("127.0.0.1:{}", internal.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("[::1]:{}", internal.port()),
        _ => internal.to_string(),
    }
}

/// Whether it can take many more: it can do its work, and is not full.
fn has_room(node: &Node) -> bool {
    let most = node.config.load().limits.connections;
    let full = most > 0 && node.links.len() >= most / 10 * 9;
    !full && node.ready().is_ok()
}

/// What this node says about itself.
pub fn state(node: &Node) -> NodeState {
    NodeState {
        id: node.id.clone(),
        address: node.forward.address.get().cloned().unwrap_or_default(),
        pass: node.forward.pass.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: node.started_at,
        connections: node.links.len() as u64,
        lag_ms: node.feed_lag_ms(),
        draining: node.leaving.is_cancelled(),
        generation: node.generation.load(Ordering::Relaxed),
        room: has_room(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_backplane::Pass;

    fn id(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn live(names: &[&str]) -> Result<Vec<LiveNode>, Fault> {
        let state = |name: &&str| NodeState {
            id: id(name),
            address: String::new(),
            pass: Pass::default(),
            version: String::new(),
            started_at: Time(0),
            connections: 0,
            lag_ms: 0,
            draining: false,
            generation: 0,
            room: true,
        };
        Ok(names.iter().map(|name| LiveNode { state: state(name), seen: Time(0) }).collect())
    }

    #[tokio::test]
    async fn a_node_is_kept_over_an_outage_and_its_end_is_told() {
        let roster = Roster::default();
        roster.update(live(&["a", "b"]), 0, Time(1_000));
        assert!(roster.find(&id("a")).await.is_some());
        roster.update(Err(Fault::Unavailable("away".into())), 0, Time(100_000));
        roster.update(live(&["b"]), 0, Time(102_000));
        assert!(roster.known(&id("a")).is_some(), "it may not have beaten yet");
        roster.update(live(&["b"]), 0, Time(104_000));
        assert!(roster.known(&id("a")).is_none(), "long not listed");
        roster.update(live(&[]), 0, Time(107_000));
        assert!(roster.known(&id("b")).is_some(), "a moment ago it was");
        let b = id("b");
        let gone = roster.gone(&b);
        roster.update(live(&["c"]), 0, Time(111_000));
        gone.await;
    }

    #[tokio::test]
    async fn an_unknown_node_is_looked_for_once() {
        let roster = Arc::new(Roster::default());
        let looking = async {
            roster.wanted.notified().await;
            // A look that had begun before says nothing.
            roster.update(live(&[]), 0, Time(0));
            roster.update(live(&["new"]), roster.asked.load(Ordering::Relaxed), Time(0));
        };
        let new = id("new");
        let (found, ()) = tokio::join!(roster.find(&new), looking);
        assert!(found.is_some());
        let looking = async { roster.update(live(&[]), roster.asked.load(Ordering::Relaxed), Time(0)) };
        let other = id("other");
        let (found, ()) = tokio::join!(roster.find(&other), looking);
        assert!(found.is_none());
    }
}
