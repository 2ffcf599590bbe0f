//! Small shared values with a lifetime.

use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::{Fault, Shared};

use crate::engine::{Args, Node, millis};
use crate::link::Reply;

#[async_trait]
impl Shared for Node {
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault> {
        // 0 says for ever; a lifetime shorter than a millisecond is one.
        let life = ttl.map_or(0, |ttl| millis(ttl).max(1));
        self.call("gw1_save", &[self.keys.shared(key)], self.timed().and(life).bytes(value)).await.map(drop)
    }

    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self.call("gw1_load", &[self.keys.shared(key)], self.timed()).await? {
            Reply::Bytes(value) => Ok(Some(value.to_vec())),
            _ => Ok(None),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.call("gw1_remove", &[self.keys.shared(key)], Args::none()).await.map(drop)
    }
}
