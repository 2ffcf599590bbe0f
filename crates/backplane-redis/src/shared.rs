//! Small shared values with a lifetime.
//!
//! A value is kept as "ends at, value". Where the time is told (tests), that is when its lifetime ends; otherwise the key's
//! own lifetime says so, and 0 stands there. What depends on what is there (`keep`) is a function; all else is one plain
//! command, which costs Redis a fraction of a function. Must not know: what the values mean.

use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::{Fault, Over, Shared};

use crate::engine::{Node, millis};
use crate::link::Reply;

impl Node {
    /// The words of a `SET`, but for what follows them.
    fn set_words(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> SetWords {
        let ends = match ttl {
            Some(ttl) if self.options.tell_time => (self.options.clock)().millis() + life(Some(ttl)),
            _ => 0,
        };
        let mut spelled = ends.to_string().into_bytes();
        spelled.push(b' ');
        spelled.extend_from_slice(value);
        SetWords {
            key: self.keys.shared(key),
            value: spelled,
            life: ttl.map(|ttl| life(Some(ttl)).to_string()),
        }
    }

    async fn set(&self, set: &SetWords, how: &[&[u8]]) -> Result<Reply, Fault> {
        let mut words: Vec<&[u8]> = vec![set.key.as_bytes(), &set.value];
        words.extend_from_slice(how);
        if let Some(life) = &set.life {
            words.extend([b"PX".as_slice(), life.as_bytes()]);
        }
        self.plain("SET", &words).await
    }

    /// What stands there now.
    fn standing(&self, answer: Reply) -> Option<Vec<u8>> {
        let Reply::Bytes(kept) = answer else { return None };
        let space = kept.iter().position(|byte| *byte == b' ')?;
        let ends: u64 = std::str::from_utf8(kept.get(..space)?).ok()?.parse().ok()?;
        let over = self.options.tell_time && ends != 0 && ends <= (self.options.clock)().millis();
        if over { None } else { kept.get(space + 1..).map(<[u8]>::to_vec) }
    }
}

struct SetWords {
    key: String,
    value: Vec<u8>,
    life: Option<String>,
}

#[async_trait]
impl Shared for Node {
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault> {
        self.set(&self.set_words(key, &value, ttl), &[]).await.map(drop)
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
        Ok(self.standing(self.plain("GET", &[self.keys.shared(key).as_bytes()]).await?))
    }

    async fn load_or_save(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let set = self.set_words(key, &value, ttl);
        let found = self.set(&set, &[b"NX", b"GET"]).await?;
        let there = !matches!(found, Reply::Nil);
        let standing = self.standing(found);
        if there && standing.is_none() {
            // Only where the time is told: it ended, and lies there still.
            self.set(&set, &[]).await?;
        }
        Ok(standing)
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        self.plain("DEL", &[self.keys.shared(key).as_bytes()]).await.map(drop)
    }
}

/// 0 says for ever; a lifetime shorter than a millisecond is one.
fn life(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| millis(ttl).max(1))
}
