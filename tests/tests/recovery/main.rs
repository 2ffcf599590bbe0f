//! Socket.IO connection state recovery.

mod drops;
mod membership;
mod restart;
mod stream;
mod support;
mod takeover;
