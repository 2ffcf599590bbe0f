//! A node that cannot keep up with a conversation slows down whoever sends into it: what is acknowledged does not run
//! ahead of what is delivered. Other conversations notice nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::Client;
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// What the slow node takes for an entry: it delivers 20 in a second.
const SLOW: &str = "assigning=wait@50";
const SENDERS: u64 = 16;
/// Each sender's pace: all of them offer 80 in a second.
const EVERY: Duration = Duration::from_millis(200);
const LASTS: Duration = Duration::from_secs(8);
/// A second of what is offered.
const SECOND: u64 = 80;

async fn node(redis: &Server, slow: &str) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url()).env("PARLANCE_FAILPOINTS", slow);
    Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await
}

/// What was acknowledged and what was delivered so far.
#[derive(Default)]
struct Counts {
    acked: AtomicU64,
    delivered: AtomicU64,
    furthest: AtomicU64,
}

impl Counts {
    fn acked(&self) {
        let acked = self.acked.fetch_add(1, Ordering::SeqCst) + 1;
        let ahead = acked.saturating_sub(self.delivered.load(Ordering::SeqCst));
        self.furthest.fetch_max(ahead, Ordering::SeqCst);
    }
}

/// Sends at its pace while it is let, and names what was acknowledged.
async fn send(mut client: Client, name: u64, counts: Arc<Counts>) -> Result<Vec<String>> {
    let (begun, mut acked) = (Instant::now(), Vec::new());
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0.. {
        pace.tick().await;
        if begun.elapsed() > LASTS {
            break;
        }
        let text = format!("{name}-{n}");
        let payload = json!({ "conversation_id": "slow", "content": text });
        let ack = client.ask(json!({ "type": "message", "payload": payload })).await?;
        if ack["status"] == "success" {
            counts.acked();
            acked.push(text);
        } else {
            ensure!(ack["error"]["code"] == "SERVICE_UNAVAILABLE", "{ack}");
        }
    }
    Ok(acked)
}

/// How long the acks of another conversation take meanwhile.
async fn beside(mut client: Client) -> Result<Vec<Duration>> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    let mut pace = tokio::time::interval(EVERY);
    while begun.elapsed() < LASTS {
        pace.tick().await;
        let asked = Instant::now();
        client.say("quick", "hello").await?;
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

async fn metric(gateway: &Gateway, name: &str) -> Result<f64> {
    let text = gateway.internal("GET", "/metrics", None, None).await?.body;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).context("no such metric")?;
    Ok(line.rsplit(' ').next().context("no value")?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_stays_close_to_what_is_delivered() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis, "").await?, node(&redis, SLOW).await?);
    let names: Vec<String> = (0..SENDERS).map(|n| format!("s{n}")).chain(["bob".to_owned()]).collect();
    a.conversation("slow", &names).await?;
    a.conversation("quick", &["carol", "dora"]).await?;
    let mut bob = Client::on(&b, "bob", "conversation:slow").await?;
    let counts = Arc::new(Counts::default());
    let mut senders = JoinSet::new();
    for n in 0..SENDERS {
        let client = Client::connect(&a, &format!("s{n}")).await?;
        let counts = counts.clone();
        senders.spawn(async move { anyhow::Ok((n, send(client, n, counts).await?)) });
    }
    let (mut quick, mut heard) = (JoinSet::new(), JoinSet::new());
    quick.spawn(beside(Client::connect(&a, "carol").await?));
    let listening = counts.clone();
    heard.spawn(async move {
        let mut heard = Vec::new();
        loop {
            let text = bob.hear_text().await?;
            if text == "end" {
                return anyhow::Ok(heard);
            }
            listening.delivered.fetch_add(1, Ordering::SeqCst);
            heard.push(text);
        }
    });
    let mut acked = BTreeMap::new();
    while let Some(sender) = senders.join_next().await {
        acked.extend([sender??]);
    }
    let quick = quick.join_next().await.context("nobody sends beside")???;
    Client::connect(&a, "s0").await?.say("slow", "end").await?;
    let heard = heard.join_next().await.context("nobody listens")???;

    let furthest = counts.furthest.load(Ordering::SeqCst);
    let held = metric(&a, "parlance_sends_held_total").await?;
    let all: usize = acked.values().map(Vec::len).sum();
    println!("acked {all}, at most {furthest} ahead, {held} held, beside: {:?}", quick[quick.len() / 2]);
    ensure!(furthest <= SECOND, "{furthest} acknowledged and not delivered");
    ensure!(held > 0.0, "nothing was held");
    ensure!(all >= 80, "half of what could be delivered: {all}");
    let mut of: HashMap<&str, Vec<&String>> = HashMap::new();
    for text in &heard {
        of.entry(text.split('-').next().unwrap_or_default()).or_default().push(text);
    }
    for (n, acked) in &acked {
        let heard = of.remove(n.to_string().as_str()).unwrap_or_default();
        ensure!(acked.iter().eq(heard.iter().copied()), "acked {acked:?}, heard {heard:?}");
    }
    let (middle, worst) = (quick[quick.len() / 2], quick[quick.len() - 1]);
    ensure!(middle < Duration::from_millis(250) && worst < LASTS / 2, "the other one waited: {quick:?}");
    Ok(())
}
