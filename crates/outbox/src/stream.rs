//! A stream of Redis.
//!
//! Entries that are published are deleted, so that what waits is what is there, and it is read from the beginning like the table:
//! no consumer group. The lead is a key that ends by itself unless it is renewed.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::Fault;
use parlance_backplane_redis::{Reply, Script, Scripts};
use tokio::time::Instant;

use crate::source::{Aside, Away, Backlog, Event, Refusal, Source};
use crate::{Address, Logins};

/// How long the lead is kept without being renewed.
const LEASE: Duration = Duration::from_secs(10);
/// By so much earlier nobody counts on it any more.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read at once, in bytes, but for one event.
const BUDGET: usize = 8 << 20;
/// About so many that were refused are kept; the oldest go.
const KEPT: &str = "100000";
/// So many are put back at once.
const BACK: &str = "100";

/// Words behind each other, as a script takes them.
type Words<'a> = Vec<&'a [u8]>;

/// What is run there.
struct All {
    lead: Script,
    may: Script,
    leave: Script,
    read: Script,
    settle: Script,
    backlog: Script,
    retry: Script,
    aside: Script,
}

/// The stream.
pub struct Stream {
    name: String,
    address: Address,
    logins: Logins,
    /// The largest body that is read.
    largest: usize,
    /// Which of those that want to lead this is.
    me: String,
    scripts: All,
    redis: Option<Scripts>,
    /// Until when nobody else can lead.
    leads: Mutex<Option<Instant>>,
}

impl Stream {
    /// The one of a name; bodies of more than `largest` bytes are not read.
    pub fn new(name: &str, address: Address, logins: Logins, largest: usize) -> Self {
        let scripts = All {
            lead: Script::new(include_str!("scripts/lead.lua")),
            may: Script::new(include_str!("scripts/may.lua")),
            leave: Script::new(include_str!("scripts/leave.lua")),
            read: Script::new(include_str!("scripts/read.lua")),
            settle: Script::new(include_str!("scripts/settle.lua")),
            backlog: Script::new(include_str!("scripts/backlog.lua")),
            retry: Script::new(include_str!("scripts/retry.lua")),
            aside: Script::new(include_str!("scripts/aside.lua")),
        };
        Self {
            name: name.to_owned(),
            address,
            logins,
            largest,
            me: uuid::Uuid::new_v4().simple().to_string(),
            scripts,
            redis: None,
            leads: Mutex::default(),
        }
    }

    fn lease(&self) -> Vec<String> {
        vec![format!("{{{}}}:lead", self.name)]
    }

    /// The stream, and where what was refused lies: of one slot, also in a Cluster.
    fn streams(&self) -> Vec<String> {
        vec![self.name.clone(), format!("{{{}}}:refused", self.name)]
    }

    async fn run(&self, script: &Script, keys: &[String], words: Words<'_>) -> Result<Reply, Away> {
        let redis = self.redis.as_ref().ok_or_else(|| Away("there is no connection".to_owned()))?;
        Ok(redis.run(script, keys, &words).await?)
    }

    /// Whether it has the lead now; `take`: also when nobody had it.
    async fn ask(&self, take: bool) -> Result<bool, Away> {
        let (began, life) = (Instant::now(), LEASE.as_millis().to_string());
        let take: &[u8] = if take { b"take" } else { b"keep" };
        let words = vec![self.me.as_bytes(), life.as_bytes(), take];
        let has = self.run(&self.scripts.lead, &self.lease(), words).await?.number()? == 1;
        *self.leads.lock() = has.then(|| began + LEASE);
        Ok(has)
    }

    /// The same, and whether it could do what leading is for.
    async fn take(&self) -> Result<bool, Away> {
        let led = self.leads.lock().is_some();
        if !led {
            // Whoever may not take away what is published would publish it again and again.
            self.run(&self.scripts.may, &self.streams(), Vec::new()).await?;
        }
        self.ask(true).await
    }

    /// How many wait, how many lie aside, and for how many milliseconds the first has waited.
    async fn counted(&self) -> Result<[u64; 3], Away> {
        let told = self.run(&self.scripts.backlog, &self.streams(), Vec::new()).await?.list()?;
        let number = |at: usize| told.get(at).unwrap_or(&Reply::Nil).number();
        Ok([number(0)?, number(1)?, number(2)?])
    }

    fn event(&self, reply: Reply) -> Result<Event, Fault> {
        let mut parts = reply.list()?.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil);
        let id = next().text()?.to_owned();
        let words = [next(), next(), next()].map(|word| lossy(&word));
        let body = match next() {
            Reply::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        };
        let [key, call, target] = words;
        let key = if key.is_empty() { format!("{}:{id}", self.name) } else { key };
        let at = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
        Ok(Event { id, key, call, target: Some(target).filter(|target| !target.is_empty()), body, at })
    }
}

/// Text, whatever it is.
fn lossy(reply: &Reply) -> String {
    match reply {
        Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

#[async_trait]
impl Source for Stream {
    fn name(&self) -> &'static str {
        "stream"
    }

    /// What breaks is made again by itself.
    async fn connect(&mut self) -> Result<(), Away> {
        if self.redis.is_none() {
            let address = (self.address)().unwrap_or_default();
            self.redis = Some(Scripts::connect(&address, &(self.logins)(), PATIENCE).await?);
        }
        Ok(())
    }

    async fn lead(&mut self) -> Result<bool, Away> {
        self.connect().await?;
        let fresh = self.leads.lock().is_some_and(|until| Instant::now() + LEASE / 2 < until);
        if fresh {
            return Ok(true);
        }
        let led = self.take().await;
        if led.is_err() {
            // Perhaps another login gets there, or the address is another now.
            self.redis = None;
        }
        led
    }

    async fn renew(&self) -> Result<(), Away> {
        // In the middle of what was read another node may have been there: only from the beginning on it is taken again.
        self.ask(false).await.map(drop)
    }

    fn leads(&self) -> bool {
        self.leads.lock().is_some_and(|until| Instant::now() + MARGIN < until)
    }

    async fn leave(&mut self) {
        *self.leads.lock() = None;
        let left = self.run(&self.scripts.leave, &self.lease(), vec![self.me.as_bytes()]).await;
        if let Err(why) = left {
            tracing::debug!(%why, "the lead of the outbox ends by itself");
        }
        if let Some(redis) = self.redis.take() {
            redis.close().await;
        }
    }

    async fn read(&self, after: Option<&str>, most: usize) -> Result<Vec<Event>, Away> {
        let numbers = [most, self.largest, BUDGET].map(|number| number.to_string());
        let mut words = vec![after.unwrap_or("-").as_bytes()];
        words.extend(numbers.iter().map(String::as_bytes));
        let keys = self.streams().into_iter().take(1).collect::<Vec<_>>();
        let read = self.run(&self.scripts.read, &keys, words).await?.list()?;
        Ok(read.into_iter().map(|entry| self.event(entry)).collect::<Result<_, _>>()?)
    }

    async fn settle(&self, published: &[String], refused: &[(String, Refusal)]) -> Result<(), Away> {
        if published.is_empty() && refused.is_empty() {
            return Ok(());
        }
        let count = published.len().to_string();
        let mut words = vec![KEPT.as_bytes(), count.as_bytes()];
        words.extend(published.iter().map(String::as_bytes));
        for (id, refusal) in refused {
            words.extend([id.as_bytes(), refusal.code.as_bytes(), refusal.why.as_bytes()]);
        }
        let settled = self.run(&self.scripts.settle, &self.streams(), words).await;
        if settled.is_err() {
            // Before anything more is carried out it is looked at whether that can be settled.
            *self.leads.lock() = None;
        }
        settled.map(drop)
    }

    async fn backlog(&self) -> Result<Backlog, Away> {
        const MOST: u64 = 100_000;
        let [waiting, aside, lag] = self.counted().await?;
        let lag = Duration::from_millis(lag);
        Ok(Backlog { waiting: waiting.min(MOST), aside: aside.min(MOST), lag })
    }

    async fn aside(&self, most: usize) -> Result<Vec<Aside>, Away> {
        let (keys, most) = (self.streams().into_iter().skip(1).collect::<Vec<_>>(), most.to_string());
        let entries = self.run(&self.scripts.aside, &keys, vec![most.as_bytes()]).await?.list()?;
        let told = |entry: Reply| -> Result<Aside, Fault> {
            let words: Vec<String> = entry.list()?.iter().map(lossy).collect();
            let word = |at: usize| words.get(at).cloned().unwrap_or_default();
            let refusal = Refusal { code: word(3), why: word(4) };
            Ok(Aside { id: word(0), call: word(1), target: word(2), refusal })
        };
        Ok(entries.into_iter().map(told).collect::<Result<_, _>>()?)
    }

    async fn retry(&self, id: Option<&str>) -> Result<u64, Away> {
        // Not those that are refused again meanwhile.
        let mut left = if id.is_some() { 1 } else { self.counted().await?[1] };
        let (key, mut count) = (format!("{}:", self.name), 0);
        while left > 0 {
            let words = vec![id.unwrap_or("-").as_bytes(), key.as_bytes(), BACK.as_bytes()];
            let back = self.run(&self.scripts.retry, &self.streams(), words).await?.number()?;
            count += back;
            left = if back == 0 { 0 } else { left.saturating_sub(back) };
        }
        Ok(count)
    }
}
