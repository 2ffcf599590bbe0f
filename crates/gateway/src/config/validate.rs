//! Whether a configuration makes sense: one check per section, one line per error.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use parlance_model::is_house_id;
use parlance_wire::{Dialect, Framing};

use super::redis::SCHEMES;
use super::{
    Auth, Config, ConfigError, Drain, Limits, Log, Membership, Mount, OnExpiry, Redis, Retention, Timings,
};
use crate::auth;

/// Paths the gateway answers itself.
const OWN_PATHS: &[&str] = &["/livez", "/api/v1/", "/v1/"];

/// A sender would have given up.
const LONGEST_WAIT_MS: u64 = 5_000;

pub(super) type Checked = Result<(), ConfigError>;

pub(super) fn refuse(line: impl Into<String>) -> Checked {
    Err(ConfigError(line.into()))
}

impl Config {
    /// Checks every section and what they say about each other.
    ///
    /// # Errors
    /// The first thing that does not make sense, naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.ack_level_known()?;
        self.auth.validate()?;
        if !self.auth.has_keys() && !self.mounts.iter().all(|mount| mount.allow_unauthenticated_sessions) {
            return refuse(
                "auth: nothing to verify tokens with; set auth.secrets (--jwt-secret), auth.keys, auth.jwks_url or auth.session_url",
            );
        }
        if self.api_keys.iter().any(|key| key.is_empty() || key.contains(char::is_whitespace)) {
            return refuse("api_keys: a key must not be empty or contain white space");
        }
        for origin in &self.origins {
            check_origin(origin)?;
        }
        if let Some(advertise) = &self.advertise
            && !advertise.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
            })
        {
            return refuse("advertise: expected host:port");
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return refuse("proxy_protocol: trusted_proxies must name whose word counts");
        }
        self.authoriser.validate()?;
        self.webhooks.validate()?;
        self.archive.validate()?;
        self.outbox.validate(self.redis_url.as_deref())?;
        self.limits.validate()?;
        self.timings.validate()?;
        self.drain.validate()?;
        self.retention.validate()?;
        self.log.validate()?;
        self.redis.validate()?;
        self.redis.fits(self.redis_url.as_deref(), self.speaks_tls_to_redis())?;
        self.check_mounts()
    }

    fn ack_level_known(&self) -> Checked {
        if let Some(url) = &self.redis_url
            && !SCHEMES.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        {
            return refuse(
                "redis_url: expected redis://[user:password@]host[:port], redis-sentinel://host,…/name or                  redis-cluster://host,…; rediss… for TLS",
            );
        }
        match (self.ack_level.as_str(), &self.redis_url) {
            ("memory" | "file", None) | ("redis" | "redis-wait" | "redis-fsync", Some(_)) => Ok(()),
            ("archived", _) if self.archive.url.is_some() => Ok(()),
            ("archived", _) => refuse("ack_level: archived needs a PostgreSQL; set archive.url"),
            ("memory" | "file", Some(_)) => refuse(format!(
                "ack_level: {} is of the embedded engine, and redis_url is set",
                self.ack_level
            )),
            ("redis" | "redis-wait" | "redis-fsync", None) => {
                refuse(format!("ack_level: {} needs Redis; set redis_url (--redis-url)", self.ack_level))
            }
            (other, _) => refuse(format!(
                "ack_level: expected memory, file, redis, redis-wait, redis-fsync or archived, got {other}"
            )),
        }
    }

    fn check_mounts(&self) -> Checked {
        if self.mounts.is_empty() {
            return refuse("mounts: there must be at least one");
        }
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for mount in &self.mounts {
            mount.validate()?;
            if mount.membership == Membership::Callback && self.authoriser.url.is_none() {
                return refuse(format!("mounts ({}): membership callback needs authoriser.url", mount.name));
            }
            if !names.insert(&mount.name) {
                return refuse(format!("mounts: two are named {}", mount.name));
            }
            if !places.insert((&mount.host, &mount.path, &mount.namespace)) {
                return refuse(format!("mounts: two are at {} of the same host", mount.path));
            }
            let beside = |m: &&Mount| (&m.host, &m.path) == (&mount.host, &mount.path);
            if self.mounts.iter().find(beside).is_some_and(|first| !mount.shares_transport(first)) {
                return refuse(format!(
                    "mounts ({}): mounts of one path must agree in framing, pings, time-outs and max_frame_bytes",
                    mount.name
                ));
            }
            if mount.max_frame_bytes < self.limits.body_bytes {
                return refuse(format!(
                    "mounts ({}): max_frame_bytes must not be below limits.body_bytes",
                    mount.name
                ));
            }
            if mount.ping_interval_ms >= self.timings.presence_ttl_ms {
                return refuse(format!(
                    "mounts ({}): ping_interval_ms must be below timings.presence_ttl_ms, else quiet clients flicker",
                    mount.name
                ));
            }
        }
        Ok(())
    }
}

/// `*`, or scheme and host with nothing behind, exactly as browsers send it.
fn check_origin(origin: &str) -> Checked {
    if origin == "*" || url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin)
    {
        Ok(())
    } else {
        refuse(format!("origins: expected `*` or an origin like https://app.example, got {origin}"))
    }
}

impl Auth {
    fn has_keys(&self) -> bool {
        let addresses = self.jwks_url.is_some() || self.session_url.is_some();
        !self.secrets.is_empty() || !self.keys.is_empty() || addresses
    }

    /// Checks what can be checked without reading key files.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.allow_short_secrets && self.secrets.iter().any(|secret| secret.len() < auth::SHORTEST_SECRET)
        {
            return refuse(format!(
                "auth.secrets (--jwt-secret): a secret must have at least {} bytes",
                auth::SHORTEST_SECRET
            ));
        }
        for key in &self.keys {
            let hmac = AlgorithmFamily::Hmac;
            let known = key.algorithm.parse::<Algorithm>();
            if !known.is_ok_and(|algorithm| !hmac.algorithms().contains(&algorithm)) {
                return refuse(format!("auth.keys: {} is no public key algorithm", key.algorithm));
            }
        }
        not_zero(
            "auth",
            &[
                ("session_timeout_ms", self.session_timeout_ms),
                ("session_max_age_ms", self.session_max_age_ms),
                ("jwks_refresh_ms", self.jwks_refresh_ms),
                ("revocation_hours", self.revocation_hours),
            ],
        )?;
        if self.jwks_keep_ms < self.jwks_refresh_ms {
            return refuse("auth.jwks_keep_ms: must not be below auth.jwks_refresh_ms");
        }
        if self.session_secret.is_some() && self.session_url.is_none() {
            return refuse("auth.session_secret: is of no use without auth.session_url");
        }
        auth::check_sessions(self).map_err(ConfigError)?;
        self.jwks_url.as_deref().map_or(Ok(()), auth::check_jwks_url).map_err(ConfigError)
    }
}

pub(super) fn not_zero(section: &str, values: &[(&str, u64)]) -> Checked {
    match values.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => refuse(format!("{section}.{name}: must not be 0")),
        None => Ok(()),
    }
}

impl Limits {
    /// Checks the section.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        not_zero(
            "limits",
            &[
                ("head_bytes", self.head_bytes as u64),
                ("head_count", self.head_count as u64),
                ("head_ms", self.head_ms),
                ("http_body_bytes", self.http_body_bytes as u64),
                ("import_bytes", self.import_bytes as u64),
                ("unauthenticated_ms", self.unauthenticated_ms),
                ("message_ms", self.message_ms),
                ("body_bytes", self.body_bytes as u64),
                ("json_depth", self.json_depth as u64),
                ("recipients", self.recipients as u64),
                ("outbox_bytes", self.outbox_bytes as u64),
                ("outbox_frames", self.outbox_frames as u64),
                ("write_stall_ms", self.write_stall_ms),
                ("subscriptions", self.subscriptions as u64),
                ("frames_per_second", u64::from(self.frames_per_second)),
            ],
        )?;
        if self.json_depth > 128 {
            return refuse("limits.json_depth: must not be above 128");
        }
        if self.http_body_bytes < self.body_bytes {
            return refuse("limits.http_body_bytes: must not be below limits.body_bytes");
        }
        Ok(())
    }
}

impl Timings {
    /// Checks the section.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        not_zero(
            "timings",
            &[
                ("presence_ttl_ms", self.presence_ttl_ms),
                ("presence_refresh_ms", self.presence_refresh_ms),
                ("typing_ttl_ms", self.typing_ttl_ms),
                ("sweep_ms", self.sweep_ms),
                ("head_check_ms", self.head_check_ms),
            ],
        )?;
        if self.presence_refresh_ms >= self.presence_ttl_ms {
            return refuse("timings.presence_refresh_ms: must be below timings.presence_ttl_ms");
        }
        Ok(())
    }
}

impl Drain {
    /// Checks the section.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        not_zero("drain", &[("deadline_ms", self.deadline_ms)])
    }
}

impl Retention {
    /// Checks the section.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        not_zero("retention", &[("entries", self.entries), ("days", self.days)])?;
        if self.dedupe_hours < 24 {
            return refuse("retention.dedupe_hours: must be at least 24");
        }
        Ok(())
    }
}

impl Redis {
    /// Checks the section.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // Braces say which part of a key decides where it lies; the rest are wildcards of access rules.
        let odd = |text: &str| {
            text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic() || "{}*?[]\\".contains(c))
        };
        for (name, prefix) in
            [("prefix", Some(&self.prefix)), ("channel_prefix", self.channel_prefix.as_ref())]
        {
            if prefix.is_some_and(|prefix| odd(prefix)) {
                return refuse(format!("redis.{name}: expected visible ASCII without {{}}*?[]\\"));
            }
        }
        not_zero("redis", &[("wait_replicas", u64::from(self.wait_replicas)), ("wait_ms", self.wait_ms)])?;
        if self.wait_ms > LONGEST_WAIT_MS {
            return refuse(format!("redis.wait_ms: must not be above {LONGEST_WAIT_MS}"));
        }
        Ok(())
    }
}

impl Log {
    /// Checks the section; the grammar of filter directives is checked where they are applied.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
        // A misspelt level is a valid directive: it would name a module and silence everything else.
        let odd =
            self.level.split(',').map(str::trim).find(|part| {
                !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
            });
        if let Some(odd) = odd {
            return refuse(format!("log.level: unknown level `{odd}`"));
        }
        if self.journal > 10_000_000 {
            return refuse("log.journal: must be at most 10000000");
        }
        match self.format.as_str() {
            "auto" | "human" | "json" => Ok(()),
            other => refuse(format!("log.format: expected auto, human or json, got {other}")),
        }
    }
}

impl Mount {
    /// Checks one mount by itself.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        if !is_house_id(name) {
            return refuse("mounts.name: expected 1 to 128 characters of A-Z a-z 0-9 _ : . @ -");
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '{' | '}');
        if !self.path.starts_with('/') || self.path.contains(odd) {
            return refuse(format!("mounts ({name}): path must start with `/` and be a plain path"));
        }
        if OWN_PATHS.iter().any(|own| self.path.starts_with(own)) {
            return refuse(format!("mounts ({name}): {} is a path of the gateway itself", self.path));
        }
        if self.host.as_ref().is_some_and(|host| host.is_empty() || host.contains(['/', ':'])) {
            return refuse(format!("mounts ({name}): host is a name without port"));
        }
        let Some(dialect) = Dialect::parse(&self.dialect) else {
            return refuse(format!("mounts ({name}): unknown dialect {}", self.dialect));
        };
        let Some(framing) = Framing::parse(&self.framing) else {
            return refuse(format!("mounts ({name}): framing is raw or socketio, not {}", self.framing));
        };
        if !dialect.speaks(framing) {
            return refuse(format!("mounts ({name}): {} is not spoken over {}", self.dialect, self.framing));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
        if !self.namespace.starts_with('/') || !self.namespace.chars().all(plain) {
            return refuse(format!("mounts ({name}): namespace must start with `/` and be a plain path"));
        }
        if framing == Framing::Raw && self.namespace != "/" {
            return refuse(format!("mounts ({name}): only Socket.IO has namespaces"));
        }
        if self.connect_timeout_ms == 0 || self.upgrade_timeout_ms == 0 {
            return refuse(format!(
                "mounts ({name}): connect_timeout_ms and upgrade_timeout_ms must not be 0"
            ));
        }
        self.check_expiry(dialect)?;
        if self.subjects.is_empty() {
            return refuse(format!("mounts ({name}): subjects must name at least one claim"));
        }
        if self.ping_interval_ms == 0 || self.ping_timeout_ms == 0 {
            return refuse(format!("mounts ({name}): ping_interval_ms and ping_timeout_ms must not be 0"));
        }
        if self.messages.limit > 0 && self.messages.window_ms == 0 {
            return refuse(format!("mounts ({name}): messages.window_ms must not be 0"));
        }
        if self.polls.limit > 0 && self.polls.window_ms == 0 {
            return refuse(format!("mounts ({name}): polls.window_ms must not be 0"));
        }
        Ok(())
    }

    fn check_expiry(&self, dialect: Dialect) -> Checked {
        let name = &self.name;
        match self.on_expiry {
            OnExpiry::Close => Ok(()),
            OnExpiry::Warn if dialect == Dialect::Famly => {
                refuse(format!("mounts ({name}): on_expiry: famly has no word for a warning"))
            }
            OnExpiry::Warn if self.expiry_warning_ms == 0 => {
                refuse(format!("mounts ({name}): expiry_warning_ms must not be 0"))
            }
            OnExpiry::Warn => Ok(()),
        }
    }
}
