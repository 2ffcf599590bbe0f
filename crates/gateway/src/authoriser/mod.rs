//! Asking the application's backend whether somebody may connect, enter a conversation or write to it.
//!
//! Owns: when a question is asked at all, how long its answer is good, what holds when there is none. Must not know: what
//! membership is (`commands::permission`), HTTP ([`crate::outbound`]). Nothing of it runs unless it is configured.

mod breaker;
mod cache;
mod desk;
mod question;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderMap;
use parking_lot::Mutex;
use parlance_model::{Identity, Reject, RejectCode, Time};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use self::breaker::{Breaker, Rules};
use self::cache::Slot;
use self::desk::{Desk, Found};
use self::question::Decision;
pub(crate) use self::question::Question;
use crate::config::{self, Action, Mount, OnFailure};
use crate::node::Node;
use crate::outbound::{self, Bounds, Caller, Failure};

const OPTION: &str = "authoriser.url";
const LARGEST_ANSWER: usize = 16 * 1024;
/// Who could not be judged may try again after this.
const AGAIN_MS: u64 = 1_000;

/// Asks, remembers, and gives up for a while.
pub(crate) struct Authoriser {
    options: config::Authoriser,
    url: Uri,
    caller: Caller,
    desk: Desk,
    breaker: Mutex<Breaker>,
    /// Whether the last question went unanswered: only the change is worth a log line.
    away: AtomicBool,
}

/// Checks the address without opening anything.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    outbound::checked(OPTION, url).map(drop)
}

impl Authoriser {
    /// `None` without an address. The same options go on with what is known.
    ///
    /// # Errors
    /// One line naming the option.
    pub(crate) fn renewed(
        options: &config::Authoriser,
        before: Option<Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(url) = &options.url else { return Ok(None) };
        if let Some(before) = before.filter(|before| before.options == *options) {
            return Ok(Some(before));
        }
        let patience = Duration::from_millis(options.timeout_ms);
        let bounds = Bounds { time: patience, at_once: options.max_in_flight, answer: LARGEST_ANSWER };
        let open = Duration::from_millis(options.breaker_open_ms);
        let rules = Rules { failures: options.breaker_failures, open, patience };
        let caller = Caller::new(bounds, options.secret.as_deref());
        Ok(Some(Arc::new(Self {
            url: outbound::checked(OPTION, url)?,
            caller: caller.map_err(|error| format!("{OPTION}: {error}"))?,
            desk: Desk::new(options.cache_entries),
            breaker: Mutex::new(Breaker::new(rules)),
            away: AtomicBool::new(false),
            options: options.clone(),
        })))
    }

    /// Whether it is asked of those who would be let do it without.
    pub(crate) fn rules_on(&self, action: Action) -> bool {
        self.options.actions.contains(&action)
    }

    /// What was decided before, while that holds.
    pub(crate) fn recall(&self, node: &Node, question: &Question<'_>) -> Option<Result<(), Reject>> {
        let (_, slot) = written(question)?;
        let decision = self.desk.recall(&slot, node.clock.now())?;
        node.metrics.authoriser.question(question.action, "cached");
        Some(said(decision))
    }

    /// Asks, unless the answer is known.
    ///
    /// # Errors
    /// `Denied`; without an answer `Unavailable`, unless the operator prefers to let everybody do it. Nobody becomes a member by
    /// callback without an answer.
    pub(crate) async fn check(&self, node: &Node, question: &Question<'_>) -> Result<(), Reject> {
        match self.decide(node, question).await {
            Some(decision) => said(decision),
            None if self.options.on_failure == OnFailure::Allow && !question.needs_a_word() => Ok(()),
            None => {
                let refused = Reject::new(RejectCode::Unavailable, "permission cannot be asked for now");
                Err(refused.retry_after(AGAIN_MS))
            }
        }
    }

    async fn decide(&self, node: &Node, question: &Question<'_>) -> Option<Decision> {
        let metrics = &node.metrics.authoriser;
        let (body, slot) = written(question)?;
        let flight = match self.desk.find(slot, node.clock.now()) {
            Found::Known(decision) => {
                metrics.question(question.action, "cached");
                return Some(decision);
            }
            Found::Asked(flight) => flight,
        };
        let mut first = false;
        let ask = || {
            first = true;
            self.ask(node, question, (body, slot))
        };
        let decided = flight.land(ask).await;
        if !first {
            metrics.question(question.action, "shared");
        }
        decided
    }

    /// Asks, unless it is known that there is nobody to answer.
    async fn ask(
        &self,
        node: &Node,
        question: &Question<'_>,
        (body, slot): (Bytes, Slot),
    ) -> Option<Decision> {
        let metrics = &node.metrics.authoriser;
        if !self.breaker.lock().admits(node.clock.now()) {
            metrics.question(question.action, "breaker");
            return None;
        }
        let begun = Instant::now();
        let answer = self.caller.post(&self.url, node.clock.now(), body, HeaderMap::new()).await;
        if !matches!(answer, Err(Failure::Busy)) {
            metrics.seconds.observe(begun.elapsed().as_secs_f64());
        }
        let (now, ruled) =
            (node.clock.now(), answer.and_then(|a| question::read(&a).map_err(Failure::Broken)));
        self.note(node, ruled.as_ref().err(), now);
        let Ok((decision, ttl)) = ruled else {
            metrics.question(question.action, "failed");
            return None;
        };
        let allowed = decision == Decision::Allowed;
        metrics.question(question.action, if allowed { "allowed" } else { "denied" });
        if !(allowed && question.lets_in()) {
            let until = now + self.good_for(&decision, ttl);
            self.desk.keep(slot, decision.clone(), (now, until));
        }
        Some(decision)
    }

    fn good_for(&self, decision: &Decision, ttl: Option<u64>) -> Duration {
        let most = match decision {
            Decision::Allowed => self.options.cache_ms,
            Decision::Denied(_) => self.options.negative_ms,
        };
        Duration::from_millis(ttl.unwrap_or(most).min(most))
    }

    /// Tells the breaker, the gauge and the log how a question went.
    fn note(&self, node: &Node, failure: Option<&Failure>, now: Time) {
        let open = &node.metrics.authoriser.open;
        match failure {
            // That this node has too much to ask says nothing about the backend.
            Some(Failure::Busy) => {}
            Some(_) if self.breaker.lock().failed(now) => {
                open.set(1);
                tracing::warn!("the authoriser is not asked for a while");
            }
            Some(_) => {}
            None if self.breaker.lock().answered() => open.set(0),
            None => {}
        }
        let was_away = self.away.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_away => tracing::warn!(%error, "the authoriser does not answer"),
            None if was_away => tracing::info!("the authoriser answers again"),
            _ => {}
        }
    }
}

/// A question as it is sent, and the name it goes by. The same question has the same answer.
fn written(question: &Question<'_>) -> Option<(Bytes, Slot)> {
    // Strings and JSON: there is nothing in it that could not be written.
    let body = serde_json::to_vec(question).ok()?;
    let slot = Sha256::digest(&body).into();
    Some((body.into(), slot))
}

fn said(decision: Decision) -> Result<(), Reject> {
    match decision {
        Decision::Allowed => Ok(()),
        Decision::Denied(reason) => {
            let reason = reason.map_or_else(|| "not allowed".to_owned(), |reason| reason.to_string());
            Err(Reject::new(RejectCode::Denied, reason))
        }
    }
}

/// Whether a user may connect.
///
/// # Errors
/// As [`Authoriser::check`].
pub(crate) async fn connect(node: &Node, mount: &Mount, identity: &Identity) -> Result<(), Reject> {
    let asked = node.authoriser.load_full().filter(|authoriser| authoriser.rules_on(Action::Connect));
    let Some(authoriser) = asked else { return Ok(()) };
    // Boxed: whoever is not asked about would carry room for it.
    Box::pin(authoriser.check(node, &Question::new(Action::Connect, mount, identity))).await
}
