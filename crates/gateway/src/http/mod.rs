//! HTTP: the two listeners, the WebSocket handshake, health, metrics and the server API.
//!
//! Owns: everything before the first frame of a connection. Must not know: dialects' events.

pub mod api;
pub(crate) mod connection;
mod cors;
pub(crate) mod credentials;
mod encoding;
pub(crate) mod engine;
mod first;
mod head;
mod health;
pub(crate) mod history;
mod listener;
pub mod openapi;
pub mod patience;
pub(crate) mod permit;
mod poll;
mod proxies;
mod proxy_protocol;
pub(crate) mod reply;
pub(crate) mod router;
pub mod socket;
mod upgrade;

pub use connection::Origin;
pub use permit::{Permit, Permits};

use std::io;
use std::net::SocketAddr;

use listener::Gate;
use router::Public;

/// Opens the public listener: client traffic. Returns the address it is bound to.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn listen_public(public: &Public, address: SocketAddr) -> io::Result<SocketAddr> {
    let gate = Gate::new(&public.node, "public", router::public(public), public.permits.clone());
    gate.shortcut(public).open(address)
}

/// Opens the internal listener: health, metrics, server API, other nodes. Returns the address it is bound to.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn listen_internal(public: &Public, address: SocketAddr) -> io::Result<SocketAddr> {
    Gate::new(&public.node, "internal", router::internal(public), Permits::default()).open(address)
}
