//! Connections to PostgreSQL, for whatever keeps or finds something there.
//!
//! Owns: addresses, connecting, TLS, the steps of a schema, what an error means. Must not know: which tables there are.
#![warn(missing_docs)]

mod address;
mod migrations;
mod refused;
mod session;
mod tls;

pub use address::check as check_address;
pub use migrations::{Migration, Schema};
pub use refused::Refused;
pub use session::Session;
