//! Small shared values with a lifetime.

use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::{Fault, Over, Shared};

use crate::engine::{Args, Node, millis};
use crate::link::Reply;

#[async_trait]
impl Shared for Node {
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault> {
        let args = self.timed().and(life(ttl)).bytes(value);
        self.call("gw1_save", &[self.keys.shared(key)], args).await.map(drop)
    }

    async fn keep(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        over: Over,
    ) -> Result<bool, Fault> {
        let args = self.timed().and(life(ttl)).bytes(value);
        let args = match over {
            Over::Anything => args.and("anything"),
            Over::This(None) => args.and("nothing"),
            Over::This(Some(standing)) => args.and("this").bytes(standing),
        };
        Ok(self.call("gw1_keep", &[self.keys.shared(key)], args).await?.number()? == 1)
    }

    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        kept(self.call("gw1_load", &[self.keys.shared(key)], self.timed()).await?)
    }

    async fn load_or_save(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let args = self.timed().and(life(ttl)).bytes(value);
        kept(self.call("gw1_load_or_save", &[self.keys.shared(key)], args).await?)
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.call("gw1_remove", &[self.keys.shared(key)], Args::none()).await.map(drop)
    }
}

fn kept(answer: Reply) -> Result<Option<Vec<u8>>, Fault> {
    match answer {
        Reply::Bytes(value) => Ok(Some(value.to_vec())),
        _ => Ok(None),
    }
}

/// 0 says for ever; a lifetime shorter than a millisecond is one.
fn life(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| millis(ttl).max(1))
}
