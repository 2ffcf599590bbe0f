//! Telling the application's backend what happened.
//!
//! Owns: which part of the trail is told by whom and when, and what becomes of what cannot be told. A part has one teller at a
//! time, over all nodes: its events arrive in order. Must not know: how a trail is kept, HTTP ([`crate::outbound`]). Nothing of
//! it runs unless it is configured, and no acknowledgement waits for it.

mod event;
mod pace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use parlance_backplane::Fault;
use parlance_backplane::trail::{Step, Taken, Turn};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use self::event::Event;
use self::pace::{Outcome, Tries};
use crate::config::{Told, Webhooks};
use crate::node::Node;
use crate::outbound::{self, Bounds, Caller};

/// The consumer's name.
pub(crate) const GROUP: &str = "webhooks";
const OPTION: &str = "webhooks.url";
/// Between two looks for what happened.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at how much waits.
const COUNT: Duration = Duration::from_secs(10);
/// How much longer than a call and a wait a part is held.
const LEEWAY: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 64 * 1024;
/// The same each time the same events go out: the first of them.
const DELIVERY: HeaderName = HeaderName::from_static("parlance-delivery");

/// Checks the address without opening anything.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    outbound::checked(OPTION, url).map(drop)
}

/// What a consumer gave up: the first so many.
pub(crate) async fn aside(node: &Node, group: &'static str, most: usize) -> Result<Vec<Event>, Fault> {
    let trail = &node.backplane.trail;
    let mut events = Vec::new();
    for part in 0..trail.parts() {
        let steps = trail.buried(group, part, most - events.len()).await?;
        events.extend(steps.iter().filter_map(|step| event::of_step(step, &Told::ALL)));
        if events.len() >= most {
            break;
        }
    }
    Ok(events)
}

/// Has it taken again. How many there were.
pub(crate) async fn retry(node: &Node, group: &'static str) -> Result<u64, Fault> {
    let mut count = 0;
    for part in 0..node.backplane.trail.parts() {
        count += node.backplane.trail.revive(group, part).await?;
    }
    Ok(count)
}

/// Who tells.
struct Teller {
    node: Arc<Node>,
    options: Webhooks,
    url: Uri,
    caller: Caller,
    /// Calls under way. Who only waits to try again is none: a part that is refused holds up no other.
    turns: Semaphore,
}

#[derive(Serialize)]
struct Call<'a> {
    events: &'a [Event],
}

/// Tells the backend, when one is configured, until the node halts; by other options from a reload on.
pub async fn run(node: Arc<Node>) {
    let halt = node.halt.clone();
    halt.run_until_cancelled(keep(node)).await;
}

async fn keep(node: Arc<Node>) {
    loop {
        let options = node.config.load().webhooks.clone();
        let changed = changed(&node, &options);
        match Teller::new(&node, &options) {
            Ok(Some(teller)) => {
                tokio::select! {
                    () = Arc::new(teller).tell() => {}
                    () = changed => {}
                }
            }
            Ok(None) => changed.await,
            Err(why) => {
                tracing::error!(why, "webhooks");
                changed.await;
            }
        }
    }
}

/// Resolves when a reload brought other options.
async fn changed(node: &Node, options: &Webhooks) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        if node.config.load().webhooks != *options {
            return;
        }
    }
}

impl Teller {
    fn new(node: &Arc<Node>, options: &Webhooks) -> Result<Option<Self>, String> {
        let Some(url) = &options.url else { return Ok(None) };
        let kept = node.backplane.trail.kinds();
        if kept.with(options.kinds()) != kept {
            tracing::warn!("other kinds of webhooks.events take effect at the next start");
        }
        let time = Duration::from_millis(options.timeout_ms);
        let bounds = Bounds { time, at_once: options.max_in_flight, answer: LARGEST_ANSWER };
        let caller = Caller::new(bounds, options.secret.as_deref())?;
        let (node, options) = (node.clone(), options.clone());
        let turns = Semaphore::new(options.max_in_flight);
        Ok(Some(Self { url: outbound::checked(OPTION, url)?, node, options, caller, turns }))
    }

    /// Looks for parts in which something waits: each is told by a task of its own, and there are not more than parts.
    async fn tell(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tellers, mut under_way) = (JoinSet::new(), BTreeSet::new());
        let mut counted: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                Some(ended) = tellers.join_next() => {
                    // One that panicked: its part is taken up again when the hold ends.
                    match ended {
                        Ok(part) => drop(under_way.remove(&part)),
                        Err(error) => {
                            tracing::error!(%error, "webhooks");
                            tellers.abort_all();
                            under_way.clear();
                        }
                    }
                    continue;
                }
            }
            if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                counted = Some(Instant::now());
                self.count().await;
            }
            for part in self.waiting().await {
                if under_way.insert(part) {
                    let teller = self.clone();
                    tellers.spawn(async move {
                        teller.part(part).await;
                        part
                    });
                }
            }
        }
    }

    /// Parts with something, from anywhere on: nodes do not all begin with the same.
    async fn waiting(&self) -> Vec<usize> {
        match self.node.backplane.trail.waiting().await {
            Ok(mut parts) => {
                if !parts.is_empty() {
                    let from = rand::random_range(0..parts.len());
                    parts.rotate_left(from);
                }
                parts
            }
            Err(fault) => {
                tracing::debug!(%fault, "looking for what happened");
                Vec::new()
            }
        }
    }

    async fn count(&self) {
        match self.node.backplane.trail.backlog(GROUP).await {
            Ok(backlog) => self.node.metrics.webhooks.backlog(&backlog, self.node.clock.now()),
            Err(fault) => tracing::debug!(%fault, "counting what waits"),
        }
    }

    fn turn(&self, part: usize, wait: Duration) -> Turn {
        let hold = Duration::from_millis(self.options.timeout_ms) + wait + LEEWAY;
        Turn { group: GROUP, part, hold }
    }

    /// Tells a part until nothing waits there, or another node has it.
    async fn part(&self, part: usize) {
        let (mut tries, mut said) = (Tries::default(), false);
        loop {
            let told = match self.in_turn(part, tries).await {
                Ok(Some(told)) => told,
                Ok(None) => return,
                Err(fault) => {
                    tracing::debug!(%fault, part, "what happened is not to be had; later");
                    return;
                }
            };
            tries = tries.after(told);
            if tries.failed == 0 {
                continue;
            }
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(part, ?told, "the backend did not take events; they are told again later");
            }
            let wait = pace::backoff(&self.options, tries.failed, rand::random());
            // Held for the time of the wait.
            if !matches!(self.node.backplane.trail.take(&self.turn(part, wait), 1).await, Ok(Taken::Steps(_)))
            {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// [`Self::once`], one after the other where more want to.
    async fn in_turn(&self, part: usize, tries: Tries) -> Result<Option<Outcome>, Fault> {
        let closed = |_| Fault::Unavailable("webhooks end".to_owned());
        let _turn = self.turns.acquire().await.map_err(closed)?;
        self.once(part, tries).await
    }

    /// Takes what comes next, tells it and settles it; `None`: there is nothing, or another node has the part.
    async fn once(&self, part: usize, tries: Tries) -> Result<Option<Outcome>, Fault> {
        let (trail, turn) = (&self.node.backplane.trail, self.turn(part, Duration::ZERO));
        let Taken::Steps(steps) = trail.take(&turn, pace::together(&self.options, tries)).await? else {
            return Ok(None);
        };
        let Some(first) = steps.first() else { return Ok(None) };
        if pace::is_hopeless(&self.options, first, tries, self.node.clock.now()) {
            let one = steps.get(..1).unwrap_or_default();
            self.node.metrics.webhooks.dead.inc();
            tracing::error!(id = first.id, "an event is given up and put aside");
            return Ok(trail.bury(&turn, one).await?.then_some(Outcome::Taken));
        }
        let events: Vec<Event> =
            steps.iter().filter_map(|step| event::of_step(step, &self.options.events)).collect();
        let outcome = if events.is_empty() { Outcome::Taken } else { self.call(&steps, &events).await };
        if outcome == Outcome::Taken && !trail.settle(&turn, &steps).await? {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    async fn call(&self, steps: &[Step], events: &[Event]) -> Outcome {
        let metrics = &self.node.metrics.webhooks;
        let mut headers = HeaderMap::new();
        if let Some(id) = steps.first().and_then(|step| HeaderValue::from_str(&step.id).ok()) {
            headers.insert(DELIVERY, id);
        }
        // Strings, numbers and JSON that was read before: there is no way to fail on them.
        let json = Bytes::from(serde_json::to_vec(&Call { events }).unwrap_or_default());
        let began = Instant::now();
        let answer = self.caller.post(&self.url, self.node.clock.now(), json, headers).await;
        metrics.seconds.observe(began.elapsed().as_secs_f64());
        if let Err(why) = &answer {
            tracing::debug!(%why, "the backend did not answer");
        }
        let outcome = pace::outcome(answer.ok().map(|answer| answer.status.as_u16()));
        metrics.called(outcome.as_str());
        if outcome == Outcome::Taken {
            events.iter().for_each(|event| metrics.told(event.told()));
        }
        outcome
    }
}
