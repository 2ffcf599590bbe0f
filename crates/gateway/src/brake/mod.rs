//! Holding sends into conversations that some node delivers too late: what is acknowledged must not run ahead of what is
//! delivered. Whoever delivers notes how late it is and tells all nodes; whoever sends waits for its turn.
//!
//! Owns: who is told of what, and who waits. Must not know: dialects, how anything is delivered.

mod lag;
mod pace;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::{Behind, Signal};
use parlance_model::{ConversationId, Reject, RejectCode, Topic};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

pub(crate) use lag::Lag;
use pace::Pace;

use crate::node::Node;

/// Being late by less is nobody's business.
const LATE: Duration = Duration::from_millis(300);
/// Whoever would wait longer is refused: it sends again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two words to the other nodes.
const EVERY: Duration = Duration::from_millis(90);
/// Conversations in one word; those that are latest.
const MOST: usize = 256;

/// Where sends into one conversation wait, in the order in which they came.
struct Gate {
    turn: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
}

/// A node's side of it.
pub(crate) struct Brakes {
    begun: Instant,
    /// How many gates there are: mostly none.
    count: AtomicUsize,
    gates: Mutex<FxHashMap<ConversationId, Arc<Gate>>>,
    late: Mutex<FxHashMap<ConversationId, Behind>>,
    told: Mutex<Instant>,
}

impl Brakes {
    pub fn new() -> Self {
        let begun = Instant::now();
        Self {
            begun,
            count: AtomicUsize::new(0),
            gates: Mutex::default(),
            late: Mutex::default(),
            told: Mutex::new(begun),
        }
    }

    /// What [`Lag`] takes for the time.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// An entry was delivered so late, and one takes so long.
    pub fn delivered(&self, conversation: &ConversationId, late: Duration, each: Duration) {
        if late < LATE {
            return;
        }
        let mut all = self.late.lock();
        let known = all.entry(conversation.clone()).or_insert_with(|| Behind {
            conversation: conversation.clone(),
            late,
            each,
        });
        *known = Behind { late: late.max(known.late), each: each.max(known.each), ..known.clone() };
    }

    /// What the other nodes are to be told now, and how late the latest is.
    fn word(&self, now: Instant) -> Option<(Vec<Behind>, Duration)> {
        let mut told = self.told.lock();
        if now.saturating_duration_since(*told) < EVERY {
            return None;
        }
        let mut behind: Vec<Behind> = self.late.lock().drain().map(|(_, behind)| behind).collect();
        let latest = behind.iter().map(|behind| behind.late).max().unwrap_or_default();
        if !behind.is_empty() {
            *told = now;
            behind.sort_unstable_by_key(|behind| std::cmp::Reverse(behind.late));
            behind.truncate(MOST);
        }
        Some((behind, latest))
    }

    /// Some node, perhaps this one, is behind.
    pub fn heard(&self, all: Vec<Behind>) {
        let now = Instant::now();
        let mut gates = self.gates.lock();
        for Behind { conversation, each, .. } in all {
            if let Some(gate) = gates.get(&conversation) {
                gate.pace.lock().heard(now, each);
            } else {
                let gate =
                    Gate { turn: tokio::sync::Mutex::default(), pace: Mutex::new(Pace::new(now, each)) };
                gates.insert(conversation, Arc::new(gate));
            }
        }
        self.count.store(gates.len(), Ordering::Relaxed);
    }

    fn gate(&self, conversation: &ConversationId) -> Option<Arc<Gate>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.gates.lock().get(conversation).cloned()
    }

    /// Takes away what is over and nobody waits at.
    fn tidy(&self, now: Instant) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut gates = self.gates.lock();
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.pace.lock().is_over(now));
        self.count.store(gates.len(), Ordering::Relaxed);
    }
}

impl Gate {
    async fn pass(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let (now, free) = {
                let mut pace = self.pace.lock();
                let now = Instant::now();
                let free = pace.free_at(now);
                if free <= now {
                    pace.went(now);
                    return;
                }
                (now, free)
            };
            // Looked at again: it may be held for longer by then, or others may have become faster.
            tokio::time::sleep_until(free.min(now + EVERY)).await;
        }
    }
}

/// Waits until something may be sent into a conversation.
///
/// # Errors
/// When that takes too long; nothing was done then, and sending again is right.
pub(crate) async fn pass(node: &Node, conversation: &ConversationId) -> Result<(), Reject> {
    let Some(gate) = node.brakes.gate(conversation) else { return Ok(()) };
    if gate.pace.lock().is_over(Instant::now()) {
        return Ok(());
    }
    node.metrics.brake.held.inc();
    let waiting = Waiting::begin(node);
    // Rare: it is to take no room in what every send may become.
    let passed = Box::pin(tokio::time::timeout(PATIENCE, gate.pass())).await;
    drop(waiting);
    passed.map_err(|_| {
        node.metrics.brake.refused.inc();
        Reject::new(RejectCode::Unavailable, "Service temporarily unavailable").retry_after(1_000)
    })
}

/// Counted while it lasts, also when the connection goes away meanwhile.
struct Waiting<'a>(&'a Node);

impl<'a> Waiting<'a> {
    fn begin(node: &'a Node) -> Self {
        node.metrics.brake.waiting.inc();
        Self(node)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.metrics.brake.waiting.dec();
    }
}

/// To be asked now and then: the word for the other nodes, if there is one.
pub(crate) fn word(node: &Node) -> Option<Signal> {
    let now = Instant::now();
    node.brakes.tidy(now);
    let (behind, latest) = node.brakes.word(now)?;
    node.metrics.brake.late.set(latest.as_secs_f64());
    (!behind.is_empty()).then_some(Signal::Behind(behind))
}

/// Tells it.
pub(crate) async fn tell(node: &Node, word: Signal) {
    if let Err(fault) = node.backplane.bus.signal(&Topic::Nodes, word).await {
        // It is told again while it is true.
        tracing::debug!(%fault, "telling the nodes of being late");
    }
}
