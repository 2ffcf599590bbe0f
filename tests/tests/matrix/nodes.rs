//! The nodes a cast is spread over: one by itself, or several on one Redis.
//!
//! Owns: starting them, and who connects where. Must not know: what is played on them.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options};

/// The address of a Redis that all tests share, where one is given.
const SHARED: &str = "PARLANCE_TEST_REDIS_URL";

/// Nodes that act as one gateway.
pub struct Nodes {
    gateways: Vec<Gateway>,
    /// Outlives them.
    _redis: Option<Server>,
}

impl Nodes {
    /// Starts so many with that configuration. One alone runs on whatever the tests run on; several share a Redis.
    pub async fn start(count: usize, config: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let set = |options: Options| options.config(config).env("PARLANCE_LIMITS_RATES", "false");
        if count == 1 {
            let options = set(Options::brief());
            return Ok(Self { gateways: vec![Gateway::start(options).await?], _redis: None });
        }
        let options = set(Options::default());
        let (options, redis) = match std::env::var(SHARED) {
            Ok(url) => {
                let prefix = format!("m{}-{}:", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
                let options = options.env("PARLANCE_REDIS_PREFIX", &prefix);
                (options.env("PARLANCE_REDIS_URL", &url), None)
            }
            Err(_) => {
                let redis = Server::standalone().await?;
                (options.env("PARLANCE_REDIS_URL", &redis.url()), Some(redis))
            }
        };
        let mut gateways = Vec::new();
        for _ in 0..count {
            gateways.push(Gateway::start(options.clone()).await?);
        }
        Ok(Self { gateways, _redis: redis })
    }

    /// The one that backends speak to.
    pub fn first(&self) -> &Gateway {
        &self.gateways[0]
    }

    /// The one that the so-manieth device connects to: they take turns.
    pub fn of(&self, device: usize) -> &Gateway {
        &self.gateways[device % self.gateways.len()]
    }

    /// All of them.
    pub fn all(&self) -> &[Gateway] {
        &self.gateways
    }

    /// The first, to do things to it.
    pub fn first_mut(&mut self) -> Result<&mut Gateway> {
        self.gateways.first_mut().context("no node")
    }
}
