//! How a node uses the Redis that all nodes share.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the shared Redis is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Certificates TLS connections trust, in a PEM file; absent: what browsers trust.
    pub ca_file: Option<PathBuf>,
}

impl Default for Redis {
    fn default() -> Self {
        Self { prefix: "gw:".to_owned(), channel_prefix: None, wait_replicas: 1, wait_ms: 500, ca_file: None }
    }
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
}
