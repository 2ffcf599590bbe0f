//! Configuration: one struct per section, each option one documented field with its default.
//!
//! Owns: what can be configured and whether it makes sense. Must not know: where values come from on the
//! command line (that is the binary).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use parlance_backplane::trail::Kinds;
use serde::{Deserialize, Serialize};

mod archive;
mod authoriser;
mod drain;
mod files;
mod keeping;
mod known;
mod limits;
mod load;
mod mounts;
mod networks;
mod options;
mod outbox;
mod redis;
mod reference;
#[cfg(test)]
mod tests;
mod timings;
mod validate;
mod webhooks;

pub use archive::Archive;
pub use authoriser::{Action, Authoriser, OnFailure};
pub use drain::Drain;
pub use keeping::ArchiveRule;
pub use limits::Limits;
pub use load::{ConfigError, Overrides, SHORTCUTS, Shortcut, unknown_variables};
pub(crate) use mounts::default_subjects;
pub use mounts::{Membership, Mount, OnExpiry, PresenceScope, Rate, default_mounts};
pub use networks::{Network, ProxyHeader};
pub use outbox::Outbox;
pub use redis::Redis;
pub use reference::{default_toml, markdown};
pub use timings::Timings;
pub use webhooks::{Told, Webhooks};

/// Everything that can be configured. TOML keys are the field names.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Public listener: client traffic only.
    pub listen: SocketAddr,
    /// Internal listener: health, metrics, server API. Never behind the public balancer.
    pub internal_listen: SocketAddr,
    /// Address other nodes reach the internal listener at; absent: `internal_listen`.
    pub advertise: Option<String>,
    /// Redis that all nodes share; absent: the embedded engine, for one node.
    pub redis_url: Option<String>,
    /// The same from a file.
    pub redis_url_file: Option<PathBuf>,
    /// Folder of the embedded engine's file.
    pub data_dir: PathBuf,
    /// What an acknowledgement means: `memory` or `file`; with Redis `redis`, `redis-wait` or `redis-fsync`.
    pub ack_level: String,
    /// What becomes of connections while the engine is away: `stay` or `close`.
    pub degraded: Degraded,
    /// Verification of user tokens.
    pub auth: Auth,
    /// Asking the application's backend.
    pub authoriser: Authoriser,
    /// Telling the application's backend.
    pub webhooks: Webhooks,
    /// Keeping what happened in PostgreSQL.
    pub archive: Archive,
    /// Publishing what an application wrote down.
    pub outbox: Outbox,
    /// Keys of the server API; several during rotation. None: the server API refuses every call.
    pub api_keys: Vec<String>,
    /// The same from a file.
    pub api_keys_file: Option<PathBuf>,
    /// How often the files of secrets are looked at, in milliseconds; 0 = only at SIGHUP.
    pub secrets_check_ms: u64,
    /// Origins allowed to connect from browsers (`https://app.example`); `*` allows all. Empty: requests
    /// that carry an Origin header are refused unless it names the host they are sent to.
    pub origins: Vec<String>,
    /// Balancers whose word is taken for where a client comes from.
    pub trusted_proxies: Vec<Network>,
    /// The header they say it in.
    pub proxy_header: ProxyHeader,
    /// They say it ahead of everything, in the PROXY protocol, instead.
    pub proxy_protocol: bool,
    /// Limits.
    pub limits: Limits,
    /// Time spans.
    pub timings: Timings,
    /// How clients are sent elsewhere.
    pub drain: Drain,
    /// How much history is kept.
    pub retention: Retention,
    /// Logging.
    pub log: Log,
    /// How the shared Redis is used.
    pub redis: Redis,
    /// Where clients connect, and which dialect is spoken there.
    pub mounts: Vec<Mount>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8082)),
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 8083)),
            advertise: None,
            redis_url: None,
            redis_url_file: None,
            data_dir: PathBuf::from("data"),
            ack_level: "file".to_owned(),
            degraded: Degraded::default(),
            auth: Auth::default(),
            authoriser: Authoriser::default(),
            webhooks: Webhooks::default(),
            archive: Archive::default(),
            outbox: Outbox::default(),
            api_keys: Vec::new(),
            api_keys_file: None,
            secrets_check_ms: 10_000,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            proxy_protocol: false,
            limits: Limits::default(),
            timings: Timings::default(),
            drain: Drain::default(),
            retention: Retention::default(),
            log: Log::default(),
            redis: Redis::default(),
            mounts: default_mounts(),
        }
    }
}

impl Config {
    /// The same without its secrets: what may be printed.
    #[must_use]
    pub fn masked(&self) -> Self {
        const MASK: &str = "***";
        let mut shown = self.clone();
        let (auth, redis) = (&mut shown.auth, &mut shown.redis);
        let (authoriser, webhooks) = (&mut shown.authoriser, &mut shown.webhooks);
        let secrets = shown.api_keys.iter_mut().chain(&mut auth.secrets).chain(&mut auth.session_secret);
        let secrets = secrets
            .chain(&mut redis.password)
            .chain(&mut redis.sentinel_password)
            .chain(&mut authoriser.secret)
            .chain(&mut webhooks.secret);
        for secret in secrets {
            MASK.clone_into(secret);
        }
        let outbox = &mut shown.outbox;
        for url in [&mut shown.redis_url, &mut outbox.redis_url].into_iter().flatten() {
            *url = redis::without_password(url, MASK);
        }
        for url in [&mut shown.archive.url, &mut outbox.url].into_iter().flatten() {
            *url = archive::without_password(url, MASK);
        }
        let addresses = [&mut auth.jwks_url, &mut auth.session_url, &mut authoriser.url, &mut webhooks.url];
        for address in addresses.into_iter().flatten() {
            if let Ok(mut url) = url::Url::parse(address)
                && url.password().is_some()
                && url.set_password(Some(MASK)).is_ok()
            {
                *address = url.into();
            }
        }
        shown
    }

    /// What has to be written down of what happens, for whoever consumes it.
    pub fn kinds(&self) -> Kinds {
        self.webhooks.kinds().with(self.archive.kinds())
    }

    /// Who consumes it.
    pub fn consumers(&self) -> Vec<&'static str> {
        let all = [(self.webhooks.kinds(), crate::webhooks::GROUP), (self.archive.kinds(), Archive::GROUP)];
        all.into_iter().filter(|(kinds, _)| !kinds.is_empty()).map(|(_, group)| group).collect()
    }

    /// As the configuration file that would say it, secrets masked.
    pub fn effective_toml(&self) -> String {
        toml::to_string(&self.masked()).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }
}

/// Never shows a secret: a configuration ends up in log lines and test failures.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.effective_toml())
    }
}

/// What becomes of connections while the engine is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Degraded {
    /// They stay; what needs the engine is refused for the time being.
    #[default]
    Stay,
    /// After 5 s they are closed with 1013.
    Close,
}

/// Verification of user tokens.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// HS256/384/512 secrets, at least 32 bytes each; several during rotation.
    pub secrets: Vec<String>,
    /// The same from a file.
    pub secrets_file: Option<PathBuf>,
    /// Public key files.
    pub keys: Vec<KeyFile>,
    /// Address of a JWK set.
    pub jwks_url: Option<String>,
    /// How often the set is fetched.
    pub jwks_refresh_ms: u64,
    /// How long its keys are good while it cannot be fetched.
    pub jwks_keep_ms: u64,
    /// Issuer a token must name, when set.
    pub issuer: Option<String>,
    /// Audience a token must name, when set.
    pub audience: Option<String>,
    /// Where tokens that are no JWT are verified (RFC 7662); absent: they are refused.
    pub session_url: Option<String>,
    /// Presented to the verifier as a bearer token, when set.
    pub session_secret: Option<String>,
    /// The same from a file.
    pub session_secret_file: Option<PathBuf>,
    /// How long a question to the verifier may take.
    pub session_timeout_ms: u64,
    /// How long an answer of the verifier is good.
    pub session_cache_ms: u64,
    /// How long a connection lives on one answer of the verifier.
    pub session_max_age_ms: u64,
    /// How often the verifier is asked again about the session of a live connection; 0 = never.
    pub session_recheck_ms: u64,
    /// How long a revocation is kept; at least as long as any token lives.
    pub revocation_hours: u64,
    /// Accept secrets shorter than 32 bytes; only `parlance dev` does.
    #[serde(skip)]
    pub allow_short_secrets: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            secrets_file: None,
            keys: Vec::new(),
            jwks_url: None,
            jwks_refresh_ms: 5 * 60 * 1_000,
            jwks_keep_ms: 24 * 60 * 60 * 1_000,
            issuer: None,
            audience: None,
            session_url: None,
            session_secret: None,
            session_secret_file: None,
            session_timeout_ms: 2_000,
            session_cache_ms: 30_000,
            session_max_age_ms: 24 * 60 * 60 * 1_000,
            session_recheck_ms: 5 * 60 * 1_000,
            revocation_hours: 30 * 24,
            allow_short_secrets: false,
        }
    }
}

impl Auth {
    /// How long a revocation is kept.
    pub const fn revocations_kept(&self) -> Duration {
        Duration::from_secs(self.revocation_hours.saturating_mul(3_600))
    }
}

/// Never shows a secret.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("secrets", &self.secrets.len())
            .field("keys", &self.keys)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// A PEM public key with the one algorithm it may verify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Path of the PEM file.
    pub path: PathBuf,
    /// `RS256`, `RS384`, `RS512`, `ES256`, `ES384` or `EdDSA`.
    pub algorithm: String,
    /// Key id (`kid`) of tokens signed with it, when they carry one.
    #[serde(default)]
    pub kid: Option<String>,
}

/// How much history is kept per conversation, user feed and application channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Newest entries kept.
    pub entries: u64,
    /// Days an entry is kept.
    pub days: u64,
    /// Hours a client's message id is remembered for deduplication; at least 24.
    pub dedupe_hours: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries: 1000, days: 7, dedupe_hours: 48 }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Level or filter directives (`info`, `parlance_gateway=debug`).
    pub level: String,
    /// `auto` (human on a terminal, JSON elsewhere), `human` or `json`.
    pub format: String,
    /// Messages that the node remembers for `parlance explain`; 0 = none.
    pub journal: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "auto".to_owned(), journal: 20_000 }
    }
}
