//! The contract suite against the Redis engine on a primary that Sentinels name.

use std::sync::{Arc, Weak};

use crate::rig::RedisRig;
use parlance_redis_rig::Sentinels;
use tokio::sync::Mutex;

/// It takes seconds to build: tests that run at the same time share one, each under its prefix.
async fn shared() -> RedisRig {
    static SHARED: Mutex<Weak<Sentinels>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    let servers = match shared.upgrade() {
        Some(servers) => servers,
        None => Arc::new(Sentinels::start().await.unwrap()),
    };
    *shared = Arc::downgrade(&servers);
    RedisRig::on(servers.url(), servers)
}

parlance_backplane::contract_tests!(async { shared().await });
