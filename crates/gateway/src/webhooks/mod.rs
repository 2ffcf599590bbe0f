//! Telling the application's backend what happened.
//!
//! Owns: what goes out and what an answer means. Must not know: how a trail is kept and consumed ([`trail::consume`]: in order, a
//! part by one node at a time), HTTP ([`crate::outbound`]). Nothing of it runs unless it is configured, and no acknowledgement
//! waits for it.

mod event;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use parlance_backplane::Fault;
use parlance_backplane::trail::{self, Backlog, Consumer, Outcome, Plan, Rules, Step};
use serde::Serialize;
use tokio::time::Instant;

pub(crate) use self::event::Event;
use crate::config::{Told, Webhooks};
use crate::node::Node;
use crate::outbound::{self, Bounds, Caller};

/// The consumer's name.
pub(crate) const GROUP: &str = "webhooks";
const OPTION: &str = "webhooks.url";
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
    /// Parts of which it was said that the backend does not take their events.
    said: Mutex<BTreeSet<usize>>,
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
                    () = teller.tell() => {}
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
        let url = outbound::checked(OPTION, url)?;
        Ok(Some(Self { url, node, options, caller, said: Mutex::default() }))
    }

    async fn tell(self) {
        let (trail, clock, options) =
            (self.node.backplane.trail.clone(), self.node.clock.for_engine(), &self.options);
        let rules = Rules {
            batch: options.batch,
            first_wait: Duration::from_millis(options.backoff_ms),
            longest_wait: Duration::from_millis(options.backoff_max_ms),
            attempts: options.attempts,
            give_up: Some(Duration::from_secs(options.give_up_hours.saturating_mul(3_600))),
        };
        let patience = Duration::from_millis(options.timeout_ms);
        let plan = Plan { group: GROUP, patience, at_once: options.max_in_flight, rules, clock };
        trail::consume(trail, Arc::new(self), plan).await;
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
        let outcome = meaning(answer.ok().map(|answer| answer.status.as_u16()));
        metrics.called(outcome.as_str());
        if outcome == Outcome::Taken {
            events.iter().for_each(|event| metrics.told(event.told()));
        }
        outcome
    }
}

#[async_trait]
impl Consumer for Teller {
    async fn hand_over(&self, part: usize, steps: &[Step]) -> Outcome {
        let events: Vec<Event> =
            steps.iter().filter_map(|step| event::of_step(step, &self.options.events)).collect();
        let outcome = if events.is_empty() { Outcome::Taken } else { self.call(steps, &events).await };
        if outcome == Outcome::Taken {
            self.said.lock().remove(&part);
        } else if self.said.lock().insert(part) {
            tracing::warn!(part, ?outcome, "the backend did not take events; they are told again later");
        }
        outcome
    }

    fn given_up(&self, step: &Step) {
        self.node.metrics.webhooks.dead.inc();
        tracing::error!(id = step.id, "an event is given up and put aside");
    }

    fn waits(&self, backlog: &Backlog) {
        self.node.metrics.webhooks.backlog(backlog, self.node.clock.now());
        self.node.metrics.engine.dropped(backlog);
    }
}

/// What a backend's answer means, by its status; `None`: there was no answer.
const fn meaning(status: Option<u16>) -> Outcome {
    match status {
        Some(200..=299) => Outcome::Taken,
        // A time-out, too early, too many: it is asked to come again.
        Some(408 | 425 | 429) | None => Outcome::Away,
        Some(400..=499) => Outcome::Refused,
        Some(_) => Outcome::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        for (status, expected) in [
            (Some(200), Outcome::Taken),
            (Some(204), Outcome::Taken),
            (Some(302), Outcome::Away),
            (Some(400), Outcome::Refused),
            (Some(404), Outcome::Refused),
            (Some(429), Outcome::Away),
            (Some(500), Outcome::Away),
            (Some(503), Outcome::Away),
            (None, Outcome::Away),
        ] {
            assert_eq!(meaning(status), expected, "{status:?}");
        }
    }
}
