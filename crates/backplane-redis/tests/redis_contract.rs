//! The contract suite against the Redis engine, on servers of the tests' own.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::Backplane;
use parlance_backplane::contract::Rig;
use parlance_backplane_redis::{Options, Redis};
use parlance_model::Time;
use support::Server;

const INBOX: usize = 2000;
const RETENTION: u64 = 200;

struct RedisRig {
    server: Arc<Server>,
    prefix: String,
    clock: Arc<AtomicU64>,
    // Kept: an engine that is dropped has no connection any more.
    nodes: Mutex<Vec<Redis>>,
}

impl RedisRig {
    fn on(server: Arc<Server>) -> Self {
        static RIGS: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("gw{}:", RIGS.fetch_add(1, Ordering::SeqCst));
        Self { server, prefix, clock: Arc::new(AtomicU64::new(1_755_633_600_000)), nodes: Mutex::default() }
    }
}

#[async_trait]
impl Rig for RedisRig {
    async fn nodes(&self, count: usize) -> Vec<Backplane> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let time = self.clock.clone();
            let options = Options {
                retention_entries: RETENTION,
                inbox: INBOX,
                prefix: self.prefix.clone(),
                tell_time: true,
                ..self.server.options(Arc::new(move || Time(time.load(Ordering::SeqCst))))
            };
            let redis = Redis::connect(options).await.unwrap();
            nodes.push(redis.backplane());
            self.nodes.lock().push(redis);
        }
        nodes
    }

    async fn advance(&self, by: Duration) {
        self.clock.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    async fn now(&self) -> Time {
        Time(self.clock.load(Ordering::SeqCst))
    }

    fn inbox_capacity(&self) -> usize {
        INBOX
    }

    fn retention_entries(&self) -> u64 {
        RETENTION
    }
}

mod standalone {
    use std::sync::Arc;

    use super::{RedisRig, Server};

    parlance_backplane::contract_tests!(async { RedisRig::on(Arc::new(Server::start().await)) });
}

/// The same, where every call that touches more than one slot is refused.
mod one_slot_at_a_time {
    use std::sync::{Arc, Weak};

    use tokio::sync::Mutex;

    use super::{RedisRig, Server};

    /// A cluster takes seconds before it answers: tests that run at the same time share one, each under its prefix.
    async fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start_cluster().await);
        *shared = Arc::downgrade(&server);
        server
    }

    parlance_backplane::contract_tests!(async { RedisRig::on(shared().await) });
}
