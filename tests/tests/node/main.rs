//! One node: what all dialects share.

mod crash;
mod cross_dialect;
mod maintenance;
mod membership;
mod remote;
mod slow_socketio;
mod snippets;
mod stock_client;
mod token_sources;
