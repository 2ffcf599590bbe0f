//! How long an event may take, and what becomes of one that takes longer: on a clock that goes by itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::source::{Aside, Backlog, Lane};

/// What waits, and what was put aside.
#[derive(Default)]
struct Shelf {
    waits: Vec<Event>,
    aside: Vec<String>,
}

struct Events(Arc<Mutex<Shelf>>);

#[async_trait]
impl Source for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    async fn connect(&mut self) -> Result<(), Away> {
        Ok(())
    }

    async fn lead(&mut self) -> Result<bool, Away> {
        Ok(true)
    }

    async fn renew(&self) -> Result<(), Away> {
        Ok(())
    }

    fn leads(&self) -> bool {
        true
    }

    async fn leave(&mut self) {}

    async fn read(&self, after: Option<&str>, most: usize) -> Result<Vec<Event>, Away> {
        let shelf = self.0.lock();
        let behind = shelf.waits.iter().filter(|event| after.is_none_or(|after| event.id.as_str() > after));
        Ok(behind.take(most).cloned().collect())
    }

    async fn settle(&self, published: &[String], refused: &[(String, Refusal)]) -> Result<(), Away> {
        let mut shelf = self.0.lock();
        shelf.aside.extend(refused.iter().map(|(id, _)| id.clone()));
        let gone: Vec<&String> = published.iter().chain(refused.iter().map(|(id, _)| id)).collect();
        shelf.waits.retain(|event| !gone.contains(&&event.id));
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, Away> {
        Ok(Backlog::default())
    }

    async fn aside(&self, _: usize) -> Result<Vec<Aside>, Away> {
        Ok(Vec::new())
    }

    async fn retry(&self, _: Option<&str>) -> Result<u64, Away> {
        Ok(0)
    }
}

/// Whoever carries out, and counts: what is called `slow` has no end until it is well.
struct Desk {
    began: Instant,
    well: Mutex<bool>,
    /// What came of each event, and after how long.
    came: Mutex<BTreeMap<String, Vec<(Verdict, Duration)>>>,
    /// In order, with the second.
    published: Mutex<Vec<(String, u64)>>,
}

const ANSWER: Duration = Duration::from_secs(10);

#[async_trait]
impl Publisher for Desk {
    fn lane(&self, event: &Event) -> Lane {
        Lane { name: event.target.clone().unwrap_or_default(), alone: false }
    }

    fn patience(&self, _: &Event) -> Duration {
        ANSWER
    }

    async fn publish(&self, event: &Event) -> Verdict {
        if event.call == "slow" && !*self.well.lock() {
            std::future::pending::<()>().await;
        }
        self.published.lock().push((event.id.clone(), self.began.elapsed().as_secs()));
        Verdict::Published { fresh: true }
    }
}

impl Tally for Desk {
    fn came(&self, _: &'static str, event: &Event, verdict: &Verdict, took: Duration) {
        self.came.lock().entry(event.id.clone()).or_default().push((verdict.clone(), took));
    }

    fn leads(&self, _: &'static str, _: bool) {}

    fn waits(&self, _: &'static str, _: &Backlog) {}
}

fn event((id, call, target): (&str, &str, &str)) -> Event {
    let (id, target) = (id.to_owned(), Some(target.to_owned()));
    Event { key: id.clone(), id, call: call.to_owned(), target, body: None, at: 0 }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_end_is_given_up_in_time_and_tried_for_ever_while_all_else_goes() {
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    shelf.lock().waits.extend([("1", "slow", "a"), ("2", "quick", "a"), ("3", "quick", "b")].map(event));
    let desk = Arc::new(Desk {
        began: Instant::now(),
        well: Mutex::new(false),
        came: Mutex::default(),
        published: Mutex::default(),
    });
    let settings = Settings { batch: 10, poll: Duration::from_millis(100) };
    let consumer = Consumer::new(Box::new(Events(shelf.clone())), desk.clone(), desk.clone(), settings);
    let halt = CancellationToken::new();
    let operator = async {
        sleep(Duration::from_secs(15)).await;
        // What comes meanwhile waits for a page that is full of patience, and no longer.
        shelf.lock().waits.push(event(("4", "quick", "c")));
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(shelf.lock().aside, Vec::<String>::new(), "it is put aside for being slow");
        *desk.well.lock() = true;
        sleep(Duration::from_secs(60)).await;
        halt.cancel();
    };
    tokio::join!(consumer.run(halt.clone()), operator);
    let published = desk.published.lock().clone();
    let ids: Vec<&str> = published.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["3", "4", "1", "2"]);
    assert!(published[0].1 == 0 && published[1].1 <= 15 + 2 * ANSWER.as_secs(), "{published:?}");
    assert!(published[2].1 <= 3_615 + 2 * ANSWER.as_secs(), "{published:?}");
    let came = desk.came.lock();
    let late = Verdict::Later("no answer in time".to_owned());
    let tries = came["1"].iter().filter(|(verdict, took)| *verdict == late && *took >= ANSWER).count();
    // Ten seconds each, and up to ten more in between.
    assert!((3_600 / 21..=3_700 / 15).contains(&tries) && tries + 1 == came["1"].len(), "{tries}");
    assert!(shelf.lock().waits.is_empty() && shelf.lock().aside.is_empty());
}
