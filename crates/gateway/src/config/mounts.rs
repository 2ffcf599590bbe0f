//! The mount table: where clients connect, which dialect is spoken there, and by which policy.

use serde::{Deserialize, Serialize};

/// Who may write to a conversation that does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// The first message creates it with the sender and the named recipients.
    Open,
    /// Only the server API creates conversations.
    Managed,
}

/// Who hears of a user's presence (sechat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceScope {
    /// Every other connection of the dialect, as documented.
    Everyone,
    /// Those who share a conversation with the user.
    Contacts,
}

/// At most `limit` per `window_ms`, per user over all nodes; 0 = unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many.
    pub limit: u32,
    /// In which sliding window.
    pub window_ms: u64,
}

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Names the mount in metrics and limits.
    pub name: String,
    /// The path, exactly.
    pub path: String,
    /// Only for this `Host` header (without port), when set.
    #[serde(default)]
    pub host: Option<String>,
    /// `sechat` or `socialhub`.
    pub dialect: String,
    /// `open` or `managed`.
    pub membership: Membership,
    /// Claims that may name the user, in order; the first present one wins.
    #[serde(default = "default_subjects")]
    pub subjects: Vec<String>,
    /// Server pings (WebSocket ping frames on raw mounts).
    #[serde(default = "default_ping_interval")]
    pub ping_interval_ms: u64,
    /// A connection silent for `ping_interval_ms + ping_timeout_ms` is closed.
    #[serde(default = "default_ping_timeout")]
    pub ping_timeout_ms: u64,
    /// Largest WebSocket message; larger ones close with 1009.
    #[serde(default = "default_frame")]
    pub max_frame_bytes: usize,
    /// Connections of one user on this mount over all nodes; 0 = unlimited.
    #[serde(default)]
    pub connections_per_user: u32,
    /// Messages per user.
    pub messages: Rate,
    /// Who hears presence (sechat).
    #[serde(default = "default_scope")]
    pub presence_scope: PresenceScope,
    /// How long an offline is held back, so that a quick return is not announced (sechat: 5 s).
    #[serde(default)]
    pub background_ms: u64,
    /// Let sessions in without a token: whatever the client says it is, it is. Loud warning at start.
    #[serde(default)]
    pub allow_unauthenticated_sessions: bool,
}

/// The shipped order of the claims that may name a user.
pub(crate) fn default_subjects() -> Vec<String> {
    ["sub", "user_id", "userId", "openId"].map(str::to_owned).to_vec()
}

const fn default_ping_interval() -> u64 {
    25_000
}

const fn default_ping_timeout() -> u64 {
    20_000
}

const fn default_frame() -> usize {
    256 * 1024
}

const fn default_scope() -> PresenceScope {
    PresenceScope::Everyone
}

/// The mounts of a fresh installation.
pub fn default_mounts() -> Vec<Mount> {
    let base = Mount {
        name: String::new(),
        path: String::new(),
        host: None,
        dialect: String::new(),
        membership: Membership::Managed,
        subjects: default_subjects(),
        ping_interval_ms: default_ping_interval(),
        ping_timeout_ms: default_ping_timeout(),
        max_frame_bytes: default_frame(),
        connections_per_user: 0,
        messages: Rate { limit: 20, window_ms: 1000 },
        presence_scope: PresenceScope::Everyone,
        background_ms: 0,
        allow_unauthenticated_sessions: false,
    };
    let named = |name: &str, path: &str| Mount {
        name: name.to_owned(),
        path: path.to_owned(),
        dialect: name.to_owned(),
        ..base.clone()
    };
    vec![
        Mount { membership: Membership::Open, background_ms: 5_000, ..named("sechat", "/sechat") },
        Mount {
            connections_per_user: 10,
            messages: Rate { limit: 100, window_ms: 1000 },
            subjects: ["user_id", "sub", "userId", "openId"].map(str::to_owned).to_vec(),
            ..named("socialhub", "/ws")
        },
    ]
}
