//! Keys fetched from a JWK set address: cached, refreshed, and kept for a while when a fetch fails.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::Request;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use parlance_model::Time;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::keys::{self, VerifyKey};
use crate::config::Auth;
use crate::outbound::{self, Outbound};

/// Between two fetches at least this, whatever key ids tokens name.
const PAUSE: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const OPTION: &str = "auth.jwks_url";
const LARGEST_SET: usize = 1024 * 1024;

pub(super) struct Jwks {
    url: hyper::Uri,
    client: Outbound,
    /// A set older than this is fetched again.
    refresh: Duration,
    /// The keys of one that is older than this are good no more.
    keep: Duration,
    set: ArcSwap<Set>,
    fetching: Mutex<Attempts>,
}

/// What was fetched last, and when.
#[derive(Default)]
struct Set {
    keys: Vec<VerifyKey>,
    fetched: Option<Time>,
}

#[derive(Default)]
struct Attempts {
    last: Option<Time>,
    last_good: Option<Time>,
}

impl Jwks {
    /// `None` without an address. What `before` fetched from the same one is good until it can be fetched again.
    pub(super) fn new(auth: &Auth, before: Option<&Self>) -> Result<Option<Self>, String> {
        let Some(url) = &auth.jwks_url else { return Ok(None) };
        let url = outbound::checked(OPTION, url)?;
        let set = before.filter(|before| before.url == url).map(|before| before.set.load_full());
        Ok(Some(Self {
            client: Outbound::new().map_err(|error| format!("{OPTION}: {error}"))?,
            refresh: Duration::from_millis(auth.jwks_refresh_ms),
            keep: Duration::from_millis(auth.jwks_keep_ms),
            set: ArcSwap::new(set.unwrap_or_default()),
            fetching: Mutex::default(),
            url,
        }))
    }

    /// Whether there is no set whose keys are good.
    pub(super) fn is_away(&self, now: Time) -> bool {
        !self.set.load().is_good(now, self.keep)
    }

    /// The key a token names; for a token that names none, the only one of its algorithm.
    pub(super) fn find(&self, header: &Header, now: Time) -> Option<VerifyKey> {
        let set = self.set.load();
        if !set.is_good(now, self.keep) {
            return None;
        }
        let mut fitting = set.keys.iter().filter(|key| key.allows(header.alg));
        match header.kid.as_deref() {
            Some(kid) => fitting.find(|key| key.kid() == Some(kid)).cloned(),
            None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
        }
    }

    /// Whether a key is in the set, and good.
    pub(super) fn trusts(&self, id: u64, now: Time) -> bool {
        let set = self.set.load();
        set.is_good(now, self.keep) && set.keys.iter().any(|key| key.id == id)
    }

    /// The keys that are not withdrawn, good or not; `None` before the first set is there.
    pub(super) fn ids(&self) -> Option<Vec<u64>> {
        let set = self.set.load();
        set.fetched.map(|_| set.keys.iter().map(|key| key.id).collect())
    }

    /// Fetches a set that is too old, or was never asked for. One caller does, the others go on with the old keys.
    /// True when the keys changed hands: what was verified with the old ones must be verified again.
    pub(super) async fn refresh_if_stale(&self, now: Time, first: bool) -> bool {
        let Ok(attempts) = self.fetching.try_lock() else { return false };
        let stale = attempts.last_good.map_or(first, |at| elapsed(at, now, self.refresh));
        stale && self.due(&attempts, now) && self.fetch(attempts, now).await
    }

    /// Fetches because a token names a key not known yet. Callers wait for a fetch that is under way.
    pub(super) async fn refresh_for_unknown(&self, header: &Header, now: Time) -> bool {
        let attempts = self.fetching.lock().await;
        // Another caller may have fetched it meanwhile.
        self.find(header, now).is_none() && self.due(&attempts, now) && self.fetch(attempts, now).await
    }

    fn due(&self, attempts: &Attempts, now: Time) -> bool {
        attempts.last.is_none_or(|at| elapsed(at, now, PAUSE.min(self.refresh)))
    }

    async fn fetch(&self, mut attempts: MutexGuard<'_, Attempts>, now: Time) -> bool {
        // Noted first: a caller that gives up halfway must not make the next one try at once.
        attempts.last = Some(now);
        match tokio::time::timeout(FETCH_TIMEOUT, self.load()).await.unwrap_or(Err("timeout".to_owned())) {
            Ok(keys) => {
                attempts.last_good = Some(now);
                tracing::info!(keys = keys.len(), "fetched the key set");
                self.set.store(Arc::new(Set { keys, fetched: Some(now) }));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "cannot fetch the key set; keeping the keys there are");
                false
            }
        }
    }

    async fn load(&self) -> Result<Vec<VerifyKey>, String> {
        let request = Request::get(self.url.clone()).body(Full::default());
        let answer = self.client.send(request.map_err(|error| error.to_string())?).await?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status()));
        }
        parse(&outbound::body(answer, LARGEST_SET).await?)
    }
}

impl Set {
    fn is_good(&self, now: Time, keep: Duration) -> bool {
        // A clock set back makes nothing too old.
        self.fetched.is_some_and(|at| now < at || now.since(at) < keep)
    }
}

/// Whether `span` has passed; a clock set back counts as passed, else nothing would be fetched for long.
fn elapsed(at: Time, now: Time, span: Duration) -> bool {
    now < at || now.since(at) >= span
}

/// Keys are read one by one: a set may hold kinds not known here beside those that are needed.
fn parse(body: &[u8]) -> Result<Vec<VerifyKey>, String> {
    let set: Value = serde_json::from_slice(body).map_err(|_| "not JSON".to_owned())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("no `keys` in it")?;
    let keys: Vec<VerifyKey> = keys
        .iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok())
        .filter_map(|key| keys::from_jwk(&key))
        .collect();
    if keys.is_empty() { Err("no usable key in it".to_owned()) } else { Ok(keys) }
}

/// Checks the address without opening anything.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    outbound::checked(OPTION, text).map(drop)
}
