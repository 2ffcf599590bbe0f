//! How a node uses the Redis that all nodes share.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// How the shared Redis is used.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// What every key begins with.
    pub prefix: String,
    /// What every channel begins with; absent: as the keys.
    pub channel_prefix: Option<String>,
    /// Replicas that must have what is acknowledged (`redis-wait`).
    pub wait_replicas: u32,
    /// How long they may take, in milliseconds.
    pub wait_ms: u64,
    /// ACL user; absent: as the address says.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The same from a file.
    pub password_file: Option<PathBuf>,
    /// ACL user at the Sentinels.
    pub sentinel_username: Option<String>,
    /// Its password.
    pub sentinel_password: Option<String>,
    /// The same from a file.
    pub sentinel_password_file: Option<PathBuf>,
    /// Certificates TLS connections trust, in a PEM file; absent: what browsers trust.
    pub ca_file: Option<PathBuf>,
    /// The node's own certificate, in a PEM file.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in a PEM file.
    pub key_file: Option<PathBuf>,
    /// The name servers' certificates must be for; absent: the host they are reached at.
    pub server_name: Option<String>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            prefix: "gw:".to_owned(),
            channel_prefix: None,
            wait_replicas: 1,
            wait_ms: 500,
            username: None,
            password: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
        }
    }
}

/// Never shows a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.prefix)
            .field("channel_prefix", &self.channel_prefix)
            .field("username", &self.username)
            .field("sentinel_username", &self.sentinel_username)
            .field("cert_file", &self.cert_file)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Checks what the section says about the address; `tls`: it is spoken to this one, or to that of the outbox.
    ///
    /// # Errors
    /// One line naming the option.
    pub(super) fn fits(&self, url: Option<&str>, tls: bool) -> Result<(), ConfigError> {
        let refuse = |line: String| Err(ConfigError(line));
        let named = |text: &Option<String>| text.is_some();
        for (option, is_set) in [
            ("username", named(&self.username)),
            ("password", named(&self.password)),
            ("sentinel_username", named(&self.sentinel_username)),
            ("sentinel_password", named(&self.sentinel_password)),
            ("server_name", named(&self.server_name)),
            ("cert_file", self.cert_file.is_some()),
        ] {
            let is_odd = match option {
                _ if !is_set => false,
                "username" | "password" => url.is_none(),
                "server_name" | "cert_file" => !tls,
                _ => !url.is_some_and(|url| url.contains("-sentinel://")),
            };
            if is_odd {
                return refuse(format!("redis.{option}: is of no use with this redis_url"));
            }
        }
        if (self.username.is_some() || self.password.is_some()) && url.is_some_and(has_login) {
            return refuse(
                "redis.password: redis_url has a login already; only one of them may be".to_owned(),
            );
        }
        if self.sentinel_password.is_some() && url.is_some_and(|url| url.contains("sentinel_password=")) {
            return refuse("redis.sentinel_password: redis_url has one already; only one may be".to_owned());
        }
        for (option, user, password) in [
            ("username", &self.username, &self.password),
            ("sentinel_username", &self.sentinel_username, &self.sentinel_password),
        ] {
            if user.is_some() && password.is_none() {
                return refuse(format!("redis.{option}: there is no password for it"));
            }
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return refuse(
                "redis.cert_file: redis.key_file belongs to it, and neither goes alone".to_owned(),
            );
        }
        Ok(())
    }
}

impl Config {
    /// Whether TLS is spoken to a Redis: to that of the nodes, or to that of the outbox.
    pub fn speaks_tls_to_redis(&self) -> bool {
        let all = [&self.redis_url, &self.outbox.redis_url];
        all.into_iter().flatten().any(|url| url.starts_with("rediss"))
    }
}

fn has_login(url: &str) -> bool {
    url.split('?').next().is_some_and(|address| address.contains('@'))
}

/// The forms an address may have.
pub const SCHEMES: [&str; 6] = [
    "redis://",
    "rediss://",
    "redis-sentinel://",
    "rediss-sentinel://",
    "redis-cluster://",
    "rediss-cluster://",
];

/// An address without its password. Such an address may name several hosts, which no URL parser reads.
pub fn without_password(url: &str, mask: &str) -> String {
    // The login for Sentinels comes last.
    let (url, query) = match url.split_once("sentinel_password=") {
        Some((url, rest)) => {
            let others = rest.find('&').and_then(|end| rest.get(end..)).unwrap_or_default();
            (url, format!("sentinel_password={mask}{others}"))
        }
        None => (url, String::new()),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return format!("{url}{query}") };
    let Some((login, place)) = rest.rsplit_once('@') else { return format!("{url}{query}") };
    let user = login.split_once(':').map_or("", |(user, _)| user);
    format!("{scheme}://{user}:{mask}@{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown_whatever_the_form() {
        for (url, shown) in [
            ("redis://h:1", "redis://h:1"),
            ("redis://u:hush@h", "redis://u:***@h"),
            ("redis://hush@h", "redis://:***@h"),
            ("redis-sentinel://:hu@sh@a:1,b:2/main", "redis-sentinel://:***@a:1,b:2/main"),
            ("redis-sentinel://a/m?sentinel_password=hu@sh", "redis-sentinel://a/m?sentinel_password=***"),
            (
                "redis-sentinel://u:hush@a/m?sentinel_password=hush&sentinel_user=s",
                "redis-sentinel://u:***@a/m?sentinel_password=***&sentinel_user=s",
            ),
        ] {
            assert_eq!(without_password(url, "***"), shown);
        }
    }

    #[test]
    fn what_is_for_tls_is_of_use_for_the_stream_alone_too() {
        let papers = Redis {
            cert_file: Some("a.pem".into()),
            key_file: Some("a.key".into()),
            server_name: Some("redis.internal".to_owned()),
            ..Redis::default()
        };
        let mut config = Config { redis: papers, ..Config::default() };
        let fits = |config: &Config| config.redis.fits(None, config.speaks_tls_to_redis());
        assert!(fits(&config).unwrap_err().0.contains("of no use"));
        config.outbox.redis_url = Some("redis://h".to_owned());
        assert!(fits(&config).is_err());
        config.outbox.redis_url = Some("rediss-sentinel://h/main".to_owned());
        assert!(fits(&config).is_ok());
    }
}
