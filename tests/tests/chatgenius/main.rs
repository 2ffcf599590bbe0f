//! ChatGenius against the real binary.

mod channels;
mod connect;
mod errors;
mod messages;
mod packets;
mod reactions;
mod support;
