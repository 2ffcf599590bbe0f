//! The contract suite against the Redis engine, on a server of each test's own.

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

const INBOX: usize = 2000;
const RETENTION: u64 = 200;

struct RedisRig {
    server: support::Server,
    clock: Arc<AtomicU64>,
    // Kept: an engine that is dropped has no connection any more.
    nodes: Mutex<Vec<Redis>>,
}

impl RedisRig {
    async fn start() -> Self {
        let clock = Arc::new(AtomicU64::new(1_755_633_600_000));
        Self { server: support::Server::start().await, clock, nodes: Mutex::default() }
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

parlance_backplane::contract_tests!(RedisRig::start());
