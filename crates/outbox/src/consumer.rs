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
use crate::weather::Weather;

/// Between two looks whether another node still leads.
const OTHERS: Duration = Duration::from_secs(1);
/// Between two looks at how much waits.
const COUNT: Duration = Duration::from_secs(5);
/// Between two renewals of the lead while events are carried out.
const RENEW: Duration = Duration::from_secs(2);
/// After so long no further event of a page is begun: others wait for those that are slow.
const PAGE: Duration = Duration::from_secs(1);
/// Lanes under way at once.
const AT_ONCE: usize = 32;
/// How many times a batch is looked at beyond lanes that wait.
const PAGES: usize = 20;
/// After a look at so much of what waits, or when everything fails, there is a pause.
const PAUSE: Duration = Duration::from_secs(1);
/// So many lanes at once, and no more when all of them fail: until something goes, it may not be about them.
const STORM: usize = 8;
/// After so long what failed before is not tried again until the next pass.
const AGAIN: Duration = Duration::from_secs(5);
/// After so long no further page is read.
const PASS: Duration = Duration::from_secs(30);
/// For what is under way when the node stops, which waits for three seconds.
const FINISHING: Duration = Duration::from_millis(1_500);
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
    /// The node stops.
    halt: CancellationToken,
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
    /// Why it did not go on; `Some(None)`: there was no time left, the lead is lost, or nothing of its kind goes.
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
        let (waits, halt) = (Waits::default(), CancellationToken::new());
        Self { source, publisher, tally, settings, waits, counted: None, away: 0, halt }
    }

    /// Publishes until the node halts; what is being carried out then is settled, so that it is not carried out again.
    pub async fn run(mut self, halt: CancellationToken) {
        self.halt = halt.clone();
        let finishing = async {
            halt.cancelled().await;
            sleep(FINISHING).await;
        };
        tokio::select! {
            () = self.keep() => {}
            () = finishing => tracing::debug!("what the outbox has under way takes too long"),
        }
        // Who leads next then need not wait until it is taken for dead.
        if timeout(LEAVING, self.source.leave()).await.is_err() {
            tracing::debug!(source = self.source.name(), "the outbox did not answer in time");
        }
    }

    async fn keep(&mut self) {
        while !self.halt.is_cancelled() {
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
            self.halt.run_until_cancelled(sleep(pause)).await;
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
            match self.source.backlog().await {
                Ok(backlog) => self.tally.waits(self.source.name(), &backlog),
                // It publishes without being counted, too.
                Err(why) => {
                    tracing::warn!(source = self.source.name(), %why, "what waits in the outbox cannot be counted");
                }
            }
            self.counted = Some(Instant::now());
        }
        self.pass().await
    }

    /// From the beginning to where nothing can go any more.
    async fn pass(&mut self) -> Result<Duration, Away> {
        let (mut held, mut after) = (FxHashSet::default(), None);
        let (mut progress, mut pause) = (false, false);
        let began = Instant::now();
        for page in 0..PAGES {
            let events = self.source.read(after.as_deref(), self.settings.batch).await?;
            let Some(last) = events.last() else { break };
            after = Some(last.id.clone());
            let settled = self.page(events, &mut held, began.elapsed() < AGAIN).await;
            self.source.settle(&settled.published, &settled.refused).await?;
            progress |= settled.went > 0;
            // What waits to be tried again is not read all the time where it is much.
            pause |= page > 0 || settled.failed >= STORM;
            let ended = self.halt.is_cancelled() || began.elapsed() >= PASS;
            if ended || held.is_empty() || !self.source.leads() {
                break;
            }
        }
        let idle = if pause { PAUSE } else { self.settings.poll };
        Ok(if progress { Duration::ZERO } else { idle })
    }

    /// `again`: also of lanes that failed before.
    async fn page(&mut self, events: Vec<Event>, held: &mut FxHashSet<String>, again: bool) -> Settled {
        let with_lanes = events.into_iter().map(|event| (self.publisher.lane(&event), event)).collect();
        let now = Instant::now();
        let waits = |lane: &str| self.waits.waits(lane, now) || !again && self.waits.due(lane).is_some();
        let mut runs = plan::pick(with_lanes, held, waits);
        // First those that never failed, then those that have waited for longest: each has its turn, however many fail.
        runs.sort_by_key(|run| self.waits.due(&run.lane));
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
        let (until, weather) = (Instant::now() + PAGE, Weather::new(STORM, AT_ONCE));
        let weather = &weather;
        stream::iter(runs).map(|run| self.one(run, until, weather)).buffer_unordered(AT_ONCE).collect().await
    }

    /// Whether an event may begin: another node may begin with it otherwise, or others wait.
    fn may_go(&self, until: Instant) -> bool {
        self.source.leads() && !self.halt.is_cancelled() && Instant::now() < until
    }

    async fn one(&self, run: Run, until: Instant, weather: &Weather) -> Ended {
        let (lane, mut failed) = (run.lane, None);
        let (mut published, mut refused) = (Vec::new(), Vec::new());
        let _turn = weather.turn().await;
        for event in run.events {
            if !self.may_go(until) || weather.is_storm(&event.call) {
                failed = Some(None);
                break;
            }
            let (began, patience) = (Instant::now(), self.publisher.patience(&event));
            let verdict = timeout(patience, self.publisher.publish(&event)).await;
            let verdict = verdict.unwrap_or_else(|_| Verdict::Later("no answer in time".to_owned()));
            self.tally.came(self.source.name(), &event, &verdict, began.elapsed());
            weather.came(&event.call, !matches!(verdict, Verdict::Later(_)));
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

#[cfg(test)]
mod tests;
