//! Keys fetched from a JWK set address: cached, refreshed, and kept when a fetch fails.

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
use super::outbound::{self, Outbound};

/// A set older than this is fetched again.
const FRESH: Duration = Duration::from_secs(300);
/// Between two fetches at least this, whatever key ids tokens name.
const PAUSE: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const OPTION: &str = "auth.jwks_url";
const LARGEST_SET: usize = 1024 * 1024;

pub(super) struct Jwks {
    url: hyper::Uri,
    client: Outbound,
    keys: ArcSwap<Vec<VerifyKey>>,
    fetching: Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    last: Option<Time>,
    last_good: Option<Time>,
}

impl Jwks {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        Ok(Self {
            url: outbound::checked(OPTION, url)?,
            client: Outbound::new().map_err(|error| format!("{OPTION}: {error}"))?,
            keys: ArcSwap::default(),
            fetching: Mutex::default(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// The key a token names; for a token that names none, the only one of its algorithm.
    pub(super) fn find(&self, header: &Header) -> Option<VerifyKey> {
        let keys = self.keys.load();
        let mut fitting = keys.iter().filter(|key| key.allows(header.alg));
        match header.kid.as_deref() {
            Some(kid) => fitting.find(|key| key.kid() == Some(kid)).cloned(),
            None => fitting.next().filter(|_| fitting.next().is_none()).cloned(),
        }
    }

    /// Fetches a set that is too old. One caller does, the others go on with the old keys. True when the
    /// keys changed hands: what was verified with the old ones must be verified again.
    pub(super) async fn refresh_if_stale(&self, now: Time) -> bool {
        let Ok(attempts) = self.fetching.try_lock() else { return false };
        let stale = attempts.last_good.is_some_and(|at| elapsed(at, now, FRESH));
        stale && attempts.due(now) && self.fetch(attempts, now).await
    }

    /// Fetches because a token names a key not known yet. Callers wait for a fetch that is under way.
    pub(super) async fn refresh_for_unknown(&self, header: &Header, now: Time) -> bool {
        let attempts = self.fetching.lock().await;
        // Another caller may have fetched it meanwhile.
        self.find(header).is_none() && attempts.due(now) && self.fetch(attempts, now).await
    }

    async fn fetch(&self, mut attempts: MutexGuard<'_, Attempts>, now: Time) -> bool {
        // Noted first: a caller that gives up halfway must not make the next one try at once.
        attempts.last = Some(now);
        match tokio::time::timeout(FETCH_TIMEOUT, self.load()).await.unwrap_or(Err("timeout".to_owned())) {
            Ok(keys) => {
                attempts.last_good = Some(now);
                tracing::info!(keys = keys.len(), "fetched the key set");
                self.keys.store(Arc::new(keys));
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

impl Attempts {
    fn due(&self, now: Time) -> bool {
        self.last.is_none_or(|at| elapsed(at, now, PAUSE))
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
