//! The contract suite against the Redis engine on a cluster of three primaries with a replica each.

use std::sync::{Arc, Weak};

use crate::rig::RedisRig;
use parlance_redis_rig::Cluster;
use tokio::sync::Mutex;

/// It takes seconds to build: tests that run at the same time share one, each under its prefix.
async fn shared() -> RedisRig {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    let servers = match shared.upgrade() {
        Some(servers) => servers,
        None => Arc::new(Cluster::start().await.unwrap()),
    };
    *shared = Arc::downgrade(&servers);
    RedisRig::on(servers.url(), servers)
}

parlance_backplane::contract_tests!(async { shared().await });
