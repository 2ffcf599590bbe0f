//! The Redis engine as the contract suite takes it: nodes with options of a test's own, on a server of its own.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::contract::Rig;
use parlance_backplane::{Backplane, Clock};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::Time;

const INBOX: usize = 2000;
const RETENTION: u64 = 200;

/// Nodes that go by the rig's clock.
pub struct ContractRig {
    options: Options,
    clock: Arc<AtomicU64>,
    // Kept: an engine that is dropped has no connection any more.
    nodes: Mutex<Vec<Redis>>,
    /// The servers; gone with the rig.
    _servers: Box<dyn Any + Send + Sync>,
}

impl ContractRig {
    /// Nodes with these options, apart from what the suite asks for.
    pub fn on(servers: impl Any + Send + Sync, options: Options) -> Self {
        let clock = Arc::new(AtomicU64::new(1_755_633_600_000));
        let time = clock.clone();
        let options = Options {
            retention_entries: RETENTION,
            inbox: INBOX,
            tell_time: true,
            clock: Arc::new(move || Time(time.load(Ordering::SeqCst))),
            ..options
        };
        Self { options, clock, nodes: Mutex::default(), _servers: Box::new(servers) }
    }
}

/// A clock for options that get the rig's.
#[allow(dead_code, reason = "not every test makes options itself")]
pub fn no_clock() -> Clock {
    Arc::new(|| Time(0))
}

#[async_trait]
impl Rig for ContractRig {
    async fn nodes(&self, count: usize) -> Vec<Backplane> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let redis = Redis::connect(self.options.clone()).await.unwrap();
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
