//! The mount table: where clients connect, which dialect is spoken there, and by which policy.

use parlance_wire::{Dialect, Framing};
use serde::{Deserialize, Serialize};

/// Who comes into conversations beside those the server API puts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// The first message creates it with the sender and the named recipients.
    Open,
    /// Only the server API creates conversations.
    Managed,
    /// Whoever is no member is one when the application's backend says so.
    Callback,
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

/// What a client hears of its token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// Nothing before; then the connection is closed.
    Close,
    /// It is told some time ahead, so that it can present a new one; without one the connection is closed as well.
    Warn,
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
    /// `sechat`, `lingochat`, `famly`, `chatgenius` or `socialhub`.
    pub dialect: String,
    /// `raw` (JSON frames) or `socketio`.
    #[serde(default = "default_framing")]
    pub framing: String,
    /// The Socket.IO namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// `open`, `managed` or `callback`.
    pub membership: Membership,
    /// Claims that may name the user, in order; the first present one wins.
    #[serde(default = "default_subjects")]
    pub subjects: Vec<String>,
    /// Server pings (WebSocket ping frames on raw mounts). Mounts of one path share it, as the next four.
    #[serde(default = "default_ping_interval")]
    pub ping_interval_ms: u64,
    /// A connection silent for `ping_interval_ms + ping_timeout_ms` is closed.
    #[serde(default = "default_ping_timeout")]
    pub ping_timeout_ms: u64,
    /// Largest WebSocket message (larger ones close with 1009) and polling body (413); Engine.IO's `maxPayload`.
    #[serde(default = "default_frame")]
    pub max_frame_bytes: usize,
    /// A Socket.IO client must have joined a namespace within this.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout_ms: u64,
    /// The change from polling to WebSocket must be done within this.
    #[serde(default = "default_upgrade_timeout")]
    pub upgrade_timeout_ms: u64,
    /// Whether Socket.IO clients can recover their session after a short cut.
    #[serde(default = "default_true")]
    pub recovery: bool,
    /// Whether markup is removed from message texts, inward and outward.
    #[serde(default)]
    pub sanitize: bool,
    /// Whether a message comes back to the very connection that sent it (famly).
    #[serde(default = "default_true")]
    pub echo_to_sender: bool,
    /// Connections of one user on this mount over all nodes; 0 = unlimited.
    #[serde(default)]
    pub connections_per_user: u32,
    /// Messages per user.
    pub messages: Rate,
    /// Polls per user (socialhub).
    #[serde(default = "default_polls")]
    pub polls: Rate,
    /// Who hears presence (sechat).
    #[serde(default = "default_scope")]
    pub presence_scope: PresenceScope,
    /// How long an offline is held back, so that a quick return is not announced (sechat: 5 s).
    #[serde(default)]
    pub background_ms: u64,
    /// At most one word of a user's presence in this time; the last state is told at its end (famly: 2 s).
    #[serde(default)]
    pub presence_throttle_ms: u64,
    /// What a client hears of its token's end, which ends the connection either way.
    #[serde(default = "default_on_expiry")]
    pub on_expiry: OnExpiry,
    /// How long ahead `warn` tells it.
    #[serde(default = "default_expiry_warning")]
    pub expiry_warning_ms: u64,
    /// Let sessions in without a token: whatever the client says it is, it is. Loud warning at start.
    #[serde(default)]
    pub allow_unauthenticated_sessions: bool,
}

/// The shipped order of the claims that may name a user.
pub(crate) fn default_subjects() -> Vec<String> {
    ["sub", "user_id", "userId", "openId"].map(str::to_owned).to_vec()
}

fn default_framing() -> String {
    Framing::Raw.as_str().to_owned()
}

fn default_namespace() -> String {
    "/".to_owned()
}

const fn default_connect_timeout() -> u64 {
    45_000
}

const fn default_upgrade_timeout() -> u64 {
    10_000
}

const fn default_true() -> bool {
    true
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

const fn default_polls() -> Rate {
    Rate { limit: 30, window_ms: 60_000 }
}

const fn default_scope() -> PresenceScope {
    PresenceScope::Everyone
}

const fn default_on_expiry() -> OnExpiry {
    OnExpiry::Close
}

const fn default_expiry_warning() -> u64 {
    60_000
}

impl Mount {
    /// The vocabulary spoken here; validation has made sure that it is one.
    pub fn spoken(&self) -> Dialect {
        Dialect::parse(&self.dialect).unwrap_or(Dialect::Sechat)
    }

    /// Whether one transport can serve both: what a client is told before it names a namespace is the same.
    pub fn shares_transport(&self, other: &Self) -> bool {
        let told = |m: &Self| {
            let waits = (m.connect_timeout_ms, m.upgrade_timeout_ms);
            (m.carried(), m.ping_interval_ms, m.ping_timeout_ms, m.max_frame_bytes, waits)
        };
        told(self) == told(other)
    }

    /// What carries it; validation has made sure that it is one.
    pub fn carried(&self) -> Framing {
        Framing::parse(&self.framing).unwrap_or(Framing::Raw)
    }
}

/// The mounts of a fresh installation.
pub fn default_mounts() -> Vec<Mount> {
    let sechat = Mount {
        membership: Membership::Open,
        background_ms: 5_000,
        ..shipped("sechat", "/sechat", Dialect::Sechat)
    };
    let famly = Mount {
        ping_timeout_ms: 60_000,
        messages: Rate { limit: 10, window_ms: 10_000 },
        presence_scope: PresenceScope::Contacts,
        presence_throttle_ms: 2_000,
        ..socketio("famly", "/socket.io/", Dialect::Famly)
    };
    let chatgenius = Mount {
        ping_timeout_ms: 60_000,
        connect_timeout_ms: 10_000,
        ..socketio("chatgenius", "/api/socket.io/", Dialect::Chatgenius)
    };
    vec![
        sechat.clone(),
        Mount {
            name: "sechat-io".to_owned(),
            membership: sechat.membership,
            background_ms: sechat.background_ms,
            ..socketio("sechat", "/sechat/socket.io/", Dialect::Sechat)
        },
        Mount {
            ping_interval_ms: 3_000,
            ping_timeout_ms: 2_000,
            messages: Rate { limit: 10, window_ms: 1_000 },
            subjects: ["userId", "openId", "sub"].map(str::to_owned).to_vec(),
            sanitize: true,
            ..socketio("lingochat", "/lingochat/socket.io/", Dialect::Lingochat)
        },
        famly.clone(),
        chatgenius.clone(),
        Mount {
            name: "chatgenius-ns".to_owned(),
            path: famly.path,
            namespace: "/api/socket.io".to_owned(),
            connect_timeout_ms: famly.connect_timeout_ms,
            ..chatgenius
        },
        Mount {
            connections_per_user: 10,
            messages: Rate { limit: 100, window_ms: 1000 },
            subjects: ["user_id", "sub", "userId", "openId"].map(str::to_owned).to_vec(),
            ..shipped("socialhub", "/ws", Dialect::Socialhub)
        },
    ]
}

fn shipped(name: &str, path: &str, dialect: Dialect) -> Mount {
    Mount {
        name: name.to_owned(),
        path: path.to_owned(),
        host: None,
        dialect: dialect.as_str().to_owned(),
        framing: default_framing(),
        namespace: default_namespace(),
        membership: Membership::Managed,
        subjects: default_subjects(),
        ping_interval_ms: default_ping_interval(),
        ping_timeout_ms: default_ping_timeout(),
        max_frame_bytes: default_frame(),
        connect_timeout_ms: default_connect_timeout(),
        upgrade_timeout_ms: default_upgrade_timeout(),
        recovery: true,
        sanitize: false,
        echo_to_sender: true,
        connections_per_user: 0,
        messages: Rate { limit: 20, window_ms: 1000 },
        polls: default_polls(),
        presence_scope: PresenceScope::Everyone,
        background_ms: 0,
        presence_throttle_ms: 0,
        on_expiry: default_on_expiry(),
        expiry_warning_ms: default_expiry_warning(),
        allow_unauthenticated_sessions: false,
    }
}

/// Engine.IO's usual payload limit, and the framing.
fn socketio(name: &str, path: &str, dialect: Dialect) -> Mount {
    Mount {
        framing: Framing::Socketio.as_str().to_owned(),
        max_frame_bytes: 1_000_000,
        ..shipped(name, path, dialect)
    }
}
