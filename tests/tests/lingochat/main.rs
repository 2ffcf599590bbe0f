//! LingoChat against the real binary.

mod auth;
mod core;
mod limits;
mod messages;
mod objects;
mod receipts;
mod recovery;
mod rooms;
mod sanitising;
mod support;
mod sync;
