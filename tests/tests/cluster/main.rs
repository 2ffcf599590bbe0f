//! Several nodes on Redis, and what befalls them.

mod balanced_failover;
mod balanced_polling;
mod balanced_support;
mod cluster_limits;
mod cluster_limits_support;
mod conversations_list;
mod degraded_presence;
mod degraded_readiness;
mod degraded_support;
mod degraded_words;
mod gap_repair;
mod import;
mod known_failures;
mod presence_lost;
mod redis_levels;
mod redis_loss;
mod redis_loss_support;
mod revocation;
mod revocation_times;
mod shard_down;
mod shared_state_orders;
mod two_nodes;
mod uninterested;
