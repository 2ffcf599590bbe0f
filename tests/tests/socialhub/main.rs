//! SocialHub against the real binary: WebSocket, polling and the HTTP calls beside them.

mod api;
mod channels;
mod connect;
mod errors;
mod history;
mod messages;
mod poll;
mod poll_nodes;
mod poll_support;
mod presence;
mod restore;
mod support;
