//! SocialHub against the real binary: WebSocket, polling and the HTTP calls beside them.

mod api;
mod channels;
mod connect;
mod errors;
mod history;
mod messages;
mod overload;
mod poll;
mod poll_cursors;
mod poll_docs;
mod poll_kills;
mod poll_limits;
mod poll_nodes;
mod poll_receipts;
mod poll_shard;
mod poll_storms;
mod poll_support;
mod poll_tongues;
mod presence;
mod restore;
mod support;
