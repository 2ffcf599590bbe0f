//! Rate windows: exact sliding ones, by the time of Redis.

use async_trait::async_trait;
use parlance_backplane::{Fault, Limits, Rule, Verdict};
use parlance_model::{Time, UserId};

use crate::engine::{Args, Node, millis};
use crate::link::at;

#[async_trait]
impl Limits for Node {
    async fn take(&self, user: &UserId, rule: &Rule) -> Result<Verdict, Fault> {
        let key = self.keys.window(user, &rule.name);
        let args = self.timed().and(rule.limit).and(millis(rule.window).max(1));
        let answer = self.list("gw1_take", &[key], args).await?;
        Ok(Verdict {
            allowed: at(&answer, 0).number()? == 1,
            remaining: u32::try_from(at(&answer, 1).number()?).unwrap_or(u32::MAX),
            reset: Time(at(&answer, 2).number()?),
            stamp: at(&answer, 3).number()?,
        })
    }

    async fn give_back(&self, user: &UserId, rule: &Rule, stamp: u64) -> Result<(), Fault> {
        let key = self.keys.window(user, &rule.name);
        self.call("gw1_give_back", &[key], Args::none().and(stamp)).await.map(drop)
    }

    async fn happened(&self, user: &UserId, rule: &Rule, stamp: u64, at: Time) -> Result<(), Fault> {
        let key = self.keys.window(user, &rule.name);
        let args = self.timed().and(millis(rule.window).max(1)).and(stamp).and(at.millis());
        self.call("gw1_happened", &[key], args).await.map(drop)
    }
}
