//! Famly against the real binary.

mod chats;
mod connect;
mod errors;
mod limits;
mod messages;
mod presence;
mod receipts;
mod reconnect;
mod rooms;
mod support;
mod typing;
