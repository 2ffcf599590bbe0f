//! One node: what all dialects share.

mod archive;
mod authoriser;
mod backend;
mod conversations_list;
mod crash;
mod cross_dialect;
mod hostile;
mod import;
mod maintenance;
mod membership;
mod memory;
mod metrics;
mod openapi;
mod outbox;
mod probe;
mod proxies;
mod remote;
mod secret_files;
mod slow_socketio;
mod snippets;
mod stock_client;
mod token_keys;
mod token_life;
mod token_sources;
mod webhooks;
