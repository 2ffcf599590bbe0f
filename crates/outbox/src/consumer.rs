//! From a source to whoever publishes, until the node stops.
//!
//! One node leads at a time. It reads what waits from the beginning on, again and again, and never from where it was: transactions
//! become visible in another order than that of their numbers. Whatever was carried out and not settled is carried out again, by
//! this node or the next one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use rustc_hash::FxHashSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::pace::{self, Waits};
use crate::plan::{self, Run};
use crate::source::{Away, Event, Publisher, Refusal, Source, Tally, Verdict};

/// Between two looks whether another node still leads.
const OTHERS: Duration = Duration::from_secs(1);
/// Between two looks at how much waits.
const COUNT: Duration = Duration::from_secs(5);
/// Between two renewals of the lead while events are carried out.
const RENEW: Duration = Duration::from_secs(2);
/// How long carrying out an event may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long no further event of a page is begun: others wait for those that are slow.
const PAGE: Duration = Duration::from_secs(1);
/// Lanes under way at once.
const AT_ONCE: usize = 32;
/// How many times a batch is looked at beyond lanes that wait.
const PAGES: usize = 20;
/// After a look at so much of what waits, or when everything fails, there is a pause.
const PAUSE: Duration = Duration::from_secs(1);
/// So many lanes that fail, and none that does not: it is not about them.
const STORM: usize = 8;
/// For leaving the lead to others, when the node stops.
const LEAVING: Duration = Duration::from_secs(1);

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Events that are read together.
    pub batch: usize,
    /// Between two looks for something.
    pub poll: Duration,
}

/// Publishes what a source has.
pub struct Consumer {
    source: Box<dyn Source>,
    publisher: Arc<dyn Publisher>,
    tally: Arc<dyn Tally>,
    settings: Settings,
    waits: Waits,
    counted: Option<Instant>,
    /// Failures of the source in a row.
    away: u32,
}

/// What became of the events of a page.
#[derive(Default)]
struct Settled {
    published: Vec<String>,
    refused: Vec<(String, Refusal)>,
    went: usize,
    failed: usize,
}

/// How a lane went.
struct Ended {
    lane: String,
    published: Vec<String>,
    refused: Vec<(String, Refusal)>,
    /// Why it did not go on; `Some(None)`: there was no time left, or the lead is lost.
    failed: Option<Option<String>>,
}

impl Consumer {
    /// Of a source.
    pub fn new(
        source: Box<dyn Source>,
        publisher: Arc<dyn Publisher>,
        tally: Arc<dyn Tally>,
        settings: Settings,
    ) -> Self {
        Self { source, publisher, tally, settings, waits: Waits::default(), counted: None, away: 0 }
    }

    /// Publishes until the node halts.
    pub async fn run(mut self, halt: CancellationToken) {
        halt.run_until_cancelled(self.keep()).await;
        // Who leads next then need not wait until it is taken for dead.
        if timeout(LEAVING, self.source.leave()).await.is_err() {
            tracing::debug!(source = self.source.name(), "the outbox did not answer in time");
        }
    }

    async fn keep(&mut self) -> Infallible {
        loop {
            let pause = match self.turn().await {
                Ok(pause) => {
                    if std::mem::take(&mut self.away) > 0 {
                        tracing::info!(source = self.source.name(), "the outbox is back");
                    }
                    pause
                }
                Err(why) => {
                    self.tally.leads(self.source.name(), false);
                    self.counted = None;
                    if self.away == 0 {
                        tracing::error!(source = self.source.name(), %why, "the outbox cannot be read; what is in it is published when it can");
                    }
                    self.away = self.away.saturating_add(1);
                    pace::wait(self.away, rand::random())
                }
            };
            sleep(pause).await;
        }
    }

    /// Publishes what can be; how long to wait then.
    async fn turn(&mut self) -> Result<Duration, Away> {
        let leads = self.source.lead().await?;
        self.tally.leads(self.source.name(), leads);
        if !leads {
            self.counted = None;
            return Ok(OTHERS);
        }
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT) {
            self.tally.waits(self.source.name(), &self.source.backlog().await?);
            self.counted = Some(Instant::now());
        }
        self.pass().await
    }

    /// From the beginning to where nothing can go any more.
    async fn pass(&mut self) -> Result<Duration, Away> {
        let (mut held, mut after) = (FxHashSet::default(), None);
        let (mut progress, mut pages) = (false, 0);
        for page in 0..PAGES {
            let events = self.source.read(after.as_deref(), self.settings.batch).await?;
            let Some(last) = events.last() else { break };
            after = Some(last.id.clone());
            let settled = self.page(events, &mut held).await;
            self.source.settle(&settled.published, &settled.refused).await?;
            if settled.failed >= STORM && settled.went == 0 {
                return Ok(PAUSE);
            }
            progress |= settled.went > 0;
            pages = page;
            if held.is_empty() || !self.source.leads() {
                break;
            }
        }
        // What waits to be tried again is not read all the time where it is much.
        let idle = if pages > 0 { PAUSE } else { self.settings.poll };
        Ok(if progress { Duration::ZERO } else { idle })
    }

    async fn page(&mut self, events: Vec<Event>, held: &mut FxHashSet<String>) -> Settled {
        let with_lanes = events.into_iter().map(|event| (self.publisher.lane(&event), event)).collect();
        let now = Instant::now();
        let runs = plan::pick(with_lanes, held, |lane| self.waits.waits(lane, now));
        let ended = tokio::select! {
            ended = self.all(runs) => ended,
            never = self.renewing() => match never {},
        };
        let (mut settled, mut whys) = (Settled::default(), BTreeMap::new());
        for one in ended {
            settled.went += one.published.len() + one.refused.len();
            if !one.published.is_empty() || !one.refused.is_empty() {
                self.waits.went(&one.lane);
            }
            settled.published.extend(one.published);
            settled.refused.extend(one.refused);
            if let Some(why) = one.failed {
                if let Some(why) = why {
                    settled.failed += 1;
                    if self.waits.failed(&one.lane, Instant::now(), rand::random()) {
                        *whys.entry(why).or_insert(0) += 1;
                    }
                }
                held.insert(one.lane);
            }
        }
        for (why, lanes) in whys {
            tracing::warn!(why, lanes, "events of the outbox cannot be published now; they are tried again");
        }
        settled
    }

    async fn all(&self, runs: Vec<Run>) -> Vec<Ended> {
        let until = Instant::now() + PAGE;
        stream::iter(runs).map(|run| self.one(run, until)).buffer_unordered(AT_ONCE).collect().await
    }

    async fn one(&self, run: Run, until: Instant) -> Ended {
        let (lane, mut failed) = (run.lane, None);
        let (mut published, mut refused) = (Vec::new(), Vec::new());
        for event in run.events {
            // Another node may begin with it.
            if !self.source.leads() || Instant::now() >= until {
                failed = Some(None);
                break;
            }
            let began = Instant::now();
            let verdict = timeout(PATIENCE, self.publisher.publish(&event)).await;
            let verdict = verdict.unwrap_or_else(|_| Verdict::Later("no answer in time".to_owned()));
            self.tally.came(self.source.name(), &event, &verdict, began.elapsed());
            match verdict {
                Verdict::Published { .. } => published.push(event.id),
                Verdict::Refused(refusal) => refused.push((event.id, refusal)),
                Verdict::Later(why) => {
                    failed = Some(Some(why));
                    break;
                }
            }
        }
        Ended { lane, published, refused, failed }
    }

    async fn renewing(&self) -> Infallible {
        loop {
            sleep(RENEW).await;
            // Whether that still leads is asked before each event.
            if let Err(why) = self.source.renew().await {
                tracing::debug!(%why, "the lead of the outbox could not be renewed");
            }
        }
    }
}
