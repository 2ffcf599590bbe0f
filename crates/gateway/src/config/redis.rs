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
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((login, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = login.split_once(':').map_or("", |(user, _)| user);
    format!("{scheme}://{user}:{mask}@{place}")
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
        ] {
            assert_eq!(without_password(url, "***"), shown);
        }
    }
}
