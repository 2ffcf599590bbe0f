//! Limits, all on by default.

use serde::{Deserialize, Serialize};

/// Limits on input, output and connections. Sizes in bytes, times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Request head: bytes.
    pub head_bytes: usize,
    /// Request head: number of headers.
    pub head_count: usize,
    /// Request head: time to arrive.
    pub head_ms: u64,
    /// Body of an HTTP call.
    pub http_body_bytes: usize,
    /// Body of an import of members; it is read as a stream.
    pub import_bytes: usize,
    /// A raw socket without identity is closed after this.
    pub unauthenticated_ms: u64,
    /// A started WebSocket message must be complete within this.
    pub message_ms: u64,
    /// Message body after JSON decoding.
    pub body_bytes: usize,
    /// Nesting of JSON.
    pub json_depth: usize,
    /// Recipients a client may name in one message.
    pub recipients: usize,
    /// Bytes waiting for one slow connection.
    pub outbox_bytes: usize,
    /// Frames waiting for one slow connection.
    pub outbox_frames: usize,
    /// A connection that takes nothing for so long is closed.
    pub write_stall_ms: u64,
    /// Explicit subscriptions of one connection.
    pub subscriptions: usize,
    /// Frames per second of one connection.
    pub frames_per_second: u32,
    /// Connections of one address; 0 = unlimited. Behind a balancer all come from its address.
    pub connections_per_ip: usize,
    /// Connections of this node; 0 = unlimited.
    pub connections: usize,
    /// `false` switches every rate limit off (load tests only).
    pub rates: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            head_count: 64,
            head_ms: 5_000,
            http_body_bytes: 1_000_000,
            import_bytes: 64 * 1024 * 1024,
            unauthenticated_ms: 10_000,
            message_ms: 10_000,
            body_bytes: 64 * 1024,
            json_depth: 32,
            recipients: 256,
            outbox_bytes: 1024 * 1024,
            outbox_frames: 1024,
            write_stall_ms: 10_000,
            subscriptions: 128,
            frames_per_second: 200,
            connections_per_ip: 20_000,
            connections: 100_000,
            rates: true,
        }
    }
}
