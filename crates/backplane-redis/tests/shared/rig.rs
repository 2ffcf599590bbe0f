//! The contract suite's way to nodes on some Redis: each rig under a prefix of its own.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::Backplane;
use parlance_backplane::contract::Rig;
use parlance_backplane::trail::Kinds;
use parlance_backplane_redis::{Options, Redis};
use parlance_model::Time;

const INBOX: usize = 2000;
const RETENTION: u64 = 200;

/// Nodes on one Redis.
pub struct RedisRig {
    url: String,
    prefix: String,
    clock: Arc<AtomicU64>,
    // Kept: an engine that is dropped has no connection any more.
    nodes: Mutex<Vec<Redis>>,
    _servers: Arc<dyn Any + Send + Sync>,
}

impl RedisRig {
    /// On the Redis at `url`, whose servers live as long as the rig.
    pub fn on(url: String, servers: Arc<dyn Any + Send + Sync>) -> Self {
        static RIGS: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("gw{}:", RIGS.fetch_add(1, Ordering::SeqCst));
        let clock = Arc::new(AtomicU64::new(1_755_633_600_000));
        Self { url, prefix, clock, nodes: Mutex::default(), _servers: servers }
    }
}

impl RedisRig {
    async fn start(
        &self,
        count: usize,
        prefix: &str,
        trail: Kinds,
        groups: &[&'static str],
    ) -> Vec<Backplane> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let time = self.clock.clone();
            let options = Options {
                retention_entries: RETENTION,
                inbox: INBOX,
                prefix: prefix.to_owned(),
                trail,
                trail_groups: groups.to_vec(),
                tell_time: true,
                ..Options::new(&self.url, Arc::new(move || Time(time.load(Ordering::SeqCst))))
            };
            let redis = Redis::connect(options).await.unwrap();
            nodes.push(redis.backplane());
            self.nodes.lock().push(redis);
        }
        nodes
    }
}

#[async_trait]
impl Rig for RedisRig {
    async fn nodes(&self, count: usize) -> Vec<Backplane> {
        self.start(count, &self.prefix, Kinds::default(), &[]).await
    }

    async fn keeping_for(&self, count: usize, groups: &[&'static str]) -> Vec<Backplane> {
        self.start(count, &format!("{}keeping:", self.prefix), Kinds::ALL, groups).await
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
