//! Session tokens: whether one is good is asked of a verifier over HTTP (RFC 7662).
//!
//! Owns: asking, how often, and what is remembered of the answers. Must not know: JWTs, which mount asks.
//! Tokens are remembered by their hash only.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use parking_lot::Mutex;
use parlance_model::{Identity, Proof, Time};
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::AuthError;
use super::cache::{Slot, slot};
use super::claims::{Claims, Rules, time};
use crate::clock::Clock;
use crate::config::Auth;
use crate::outbound::{self, Outbound};

const OPTION: &str = "auth.session_url";
/// Tokens remembered, good and bad.
const MOST: usize = 10_000;
/// Questions under way at once; more wait, within the time each has.
const AT_ONCE: usize = 64;
/// How long a refusal is remembered: a client in a loop asks the verifier no more often than this.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 64 * 1024;
const LONGEST_CLAIM: usize = 2048;
const MOST_AUDIENCES: usize = 16;

/// Asks the verifier, at most once at a time for one token.
pub(super) struct Verifier {
    url: Uri,
    secret: Option<HeaderValue>,
    client: Outbound,
    rules: Rules,
    patience: Duration,
    good_for: Duration,
    longest: Duration,
    questions: Semaphore,
    known: Mutex<Known>,
    /// Whether the last question went unanswered: only the change is worth a log line.
    away: AtomicBool,
    clock: Clock,
}

/// What came of a question, when, and until when that holds.
struct Verdict {
    claims: Result<Claims, AuthError>,
    at: Time,
    until: Time,
}

/// A question: whoever comes first asks it, everyone else waits for the same verdict. When the one who asks
/// goes away, one of those who wait asks again.
type Question = Arc<OnceCell<Verdict>>;

#[derive(Default)]
struct Known {
    by_slot: HashMap<Slot, Question>,
    /// Oldest first; exactly the keys of `by_slot`.
    order: VecDeque<Slot>,
}

/// Whether a token is one for the verifier: a JWT has three parts.
pub(super) fn is_session(token: &str) -> bool {
    token.split('.').count() != 3
}

/// Checks the address and the secret without opening anything.
pub(crate) fn check(auth: &Auth) -> Result<(), String> {
    if let Some(url) = &auth.session_url {
        outbound::checked(OPTION, url)?;
    }
    secret(auth).map(drop)
}

fn secret(auth: &Auth) -> Result<Option<HeaderValue>, String> {
    let Some(secret) = &auth.session_secret else { return Ok(None) };
    let mut value = HeaderValue::try_from(format!("Bearer {secret}"))
        .map_err(|_| "auth.session_secret: holds what no header may".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Verifier {
    pub(super) fn new(url: &str, auth: &Auth, clock: Clock) -> Result<Self, String> {
        Ok(Self {
            url: outbound::checked(OPTION, url)?,
            secret: secret(auth)?,
            client: Outbound::new().map_err(|error| format!("{OPTION}: {error}"))?,
            rules: Rules {
                issuer: auth.issuer.clone(),
                audience: auth.audience.clone(),
                may_be_absent: true,
                kept: Arc::default(),
            },
            patience: Duration::from_millis(auth.session_timeout_ms),
            good_for: Duration::from_millis(auth.session_cache_ms),
            longest: Duration::from_millis(auth.session_max_age_ms),
            questions: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
            away: AtomicBool::new(false),
            clock,
        })
    }

    /// The same, keeping these claims.
    pub(super) fn keeping(&mut self, claims: Arc<[String]>) {
        self.rules.kept = claims;
    }

    /// Whom a session token names. The claims are asked for once, whichever of them name the user.
    pub(super) async fn verify(&self, token: &str, subjects: &[String]) -> Result<Arc<Identity>, AuthError> {
        let question =
            self.known.lock().question(slot(token, &[]), |verdict| self.clock.now() < verdict.until);
        self.identity(token, subjects, &question).await
    }

    /// The same, and a verdict from before `asked_since` does not count.
    pub(super) async fn verify_since(
        &self,
        token: &str,
        subjects: &[String],
        asked_since: Time,
    ) -> Result<Arc<Identity>, AuthError> {
        let question = self.known.lock().question(slot(token, &[]), |verdict| verdict.at >= asked_since);
        self.identity(token, subjects, &question).await
    }

    /// Forgets the verdicts on tokens whose claims fit.
    pub(super) fn forget(&self, fits: &dyn Fn(&Claims) -> bool) {
        self.known.lock().forget(|verdict| verdict.claims.as_ref().is_ok_and(fits));
    }

    async fn identity(
        &self,
        token: &str,
        subjects: &[String],
        question: &Question,
    ) -> Result<Arc<Identity>, AuthError> {
        let verdict = question.get_or_init(|| self.judge(token)).await;
        let claims = verdict.claims.as_ref().map_err(|error| *error)?;
        let mut identity = self.rules.identity(token, claims, subjects, self.clock.now())?;
        identity.expires_at = identity.expires_at.min(verdict.at + self.longest);
        identity.proof = Proof::Session(token.into());
        Ok(Arc::new(identity))
    }

    async fn judge(&self, token: &str) -> Verdict {
        let asked = timeout(self.patience, self.ask(token)).await;
        let answer = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        self.note(answer.as_ref().err());
        let at = self.clock.now();
        let (claims, until) = match answer {
            Ok(Some(claims)) => {
                let claims = self.kept(claims, at);
                // At the session's end it may have been prolonged: worth another question, but not every time.
                let end = claims.get("exp").and_then(time).unwrap_or_default();
                (Ok(claims), (at + self.good_for).min(end).max(at + self.good_for.min(REFUSED_FOR)))
            }
            Ok(None) => (Err(AuthError::Invalid("session")), at + REFUSED_FOR),
            // Shared by those who waited for it, and by nobody after them.
            Err(_) => (Err(AuthError::Unavailable), at),
        };
        Verdict { claims, at, until }
    }

    /// The claims as they are remembered: with an end, and without what is large. A large one stays present,
    /// so that no later claim takes its place.
    fn kept(&self, mut claims: Claims, at: Time) -> Claims {
        if claims.get("exp").is_none_or(Value::is_null) {
            claims.insert("exp".to_owned(), ((at + self.longest).millis() / 1000).into());
        }
        for (name, value) in claims.iter_mut().filter(|(name, _)| !self.rules.keeps(name)) {
            let large = match value {
                Value::String(text) => text.len() > LONGEST_CLAIM,
                Value::Array(list) => name != "aud" || list.len() > MOST_AUDIENCES,
                Value::Object(_) => true,
                _ => false,
            };
            if large {
                *value = Value::Bool(false);
            }
        }
        claims
    }

    /// The claims of a session that is active; `None` for any other.
    async fn ask(&self, token: &str) -> Result<Option<Claims>, String> {
        let _permit = self.questions.acquire().await.map_err(|error| error.to_string())?;
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let mut request = Request::post(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, secret.clone());
        }
        let request = request.body(Full::new(Bytes::from(form))).map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(format!("status {other}")),
        }
        let body = outbound::body(answer, LARGEST_ANSWER).await?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| "not a JSON object".to_owned())?;
        Ok((claims.get("active") == Some(&Value::Bool(true))).then_some(claims))
    }

    fn note(&self, failure: Option<&String>) {
        let was_away = self.away.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_away => {
                tracing::warn!(%error, "the session verifier does not answer; session tokens are refused");
            }
            None if was_away => tracing::info!("the session verifier answers again"),
            _ => {}
        }
    }
}

impl Known {
    /// The question about a token: the one asked before while its verdict holds or is still to come.
    fn question(&mut self, slot: Slot, holds: impl Fn(&Verdict) -> bool) -> Question {
        if let Some(there) = self.by_slot.get_mut(&slot) {
            if there.get().is_some_and(|verdict| !holds(verdict)) {
                *there = Question::default();
            }
            return there.clone();
        }
        while self.by_slot.len() >= MOST {
            let Some(oldest) = self.order.pop_front() else { break };
            self.by_slot.remove(&oldest);
        }
        let question = Question::default();
        self.by_slot.insert(slot, question.clone());
        self.order.push_back(slot);
        question
    }

    /// A verdict that is still to come stays: whoever waits for it is checked for revocations afterwards.
    fn forget(&mut self, fits: impl Fn(&Verdict) -> bool) {
        let before = self.by_slot.len();
        self.by_slot.retain(|_, question| !question.get().is_some_and(&fits));
        if self.by_slot.len() < before {
            let Self { by_slot, order } = self;
            order.retain(|slot| by_slot.contains_key(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut known = Known::default();
        let slots: Vec<Slot> = (0..=MOST).map(|n| slot(&n.to_string(), &[])).collect();
        let first = known.question(slots[0], |_| true);
        assert!(Arc::ptr_eq(&first, &known.question(slots[0], |_| true)));
        for slot in &slots[1..] {
            known.question(*slot, |_| true);
        }
        assert_eq!((known.by_slot.len(), known.order.len()), (MOST, MOST));
        assert!(!known.by_slot.contains_key(&slots[0]) && known.by_slot.contains_key(&slots[1]));
    }
}
