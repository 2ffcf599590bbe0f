//! What nodes on one Redis count: what comes from others, what is missed, what Redis itself is like.

use super::{Row, Seen, Watch};
use anyhow::{Context, Result, bail, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::metrics::{total, until};
use parlance_tests::prometheus::check_metrics;
use parlance_tests::{Gateway, Options, Ws};
use rustix::process::Signal;
use serde_json::{Value, json};

const SECHAT: &[(&str, &str)] = &[("dialect", "sechat")];
const COMMANDS: &[(&str, &str)] = &[("connection", "commands")];

pub const ROWS: &[Row] = &[
    ("a message comes from the other node", "parlance_deliveries_total", SECHAT, Seen::More),
    ("a message comes from the other node", "parlance_delivery_seconds", SECHAT, Seen::More),
    ("a message comes from the other node", "parlance_feed_lag_seconds", &[], Seen::More),
    ("a message comes from the other node", "parlance_redis_command_seconds", &[], Seen::More),
    ("a message comes from the other node", "parlance_redis_connected", COMMANDS, Seen::Is(1.0)),
    ("a message comes from the other node", "parlance_redis_clock_offset_seconds", &[], Seen::There),
    ("Redis is away", "parlance_redis_errors_total", &[], Seen::More),
    ("Redis is away", "parlance_redis_connected", COMMANDS, Seen::Is(0.0)),
    ("Redis is away", "parlance_backplane_errors_total", &[], Seen::More),
    ("Redis is away", "parlance_sweep_errors_total", &[], Seen::More),
    ("Redis is back", "parlance_redis_reconnects_total", COMMANDS, Seen::More),
    ("Redis is back", "parlance_redis_reconnects_total", &[("connection", "subscriptions")], Seen::More),
    ("Redis is back", "parlance_feed_gaps_total", &[("kind", "bus")], Seen::There),
    ("Redis is back", "parlance_redis_connected", COMMANDS, Seen::Is(1.0)),
    ("the node leaves", "parlance_sent_away_total", &[], Seen::More),
    ("the node leaves", "parlance_ready", &[], Seen::Is(0.0)),
];

pub const OWNER: &[Row] = &[(
    "a session is another node's",
    "parlance_forwarded_total",
    &[("kind", "poll"), ("outcome", "answered")],
    Seen::By(1.0),
)];

pub const DEAF: &[Row] = &[
    ("publications are lost", "parlance_feed_gaps_total", &[("kind", "chain")], Seen::More),
    ("publications are lost", "parlance_feed_repairs_total", &[], Seen::More),
    ("publications are lost", "parlance_feed_repaired_entries_total", &[], Seen::More),
];

pub const LOST: &[Row] = &[("Redis lost everything", "parlance_feed_losses_total", &[], Seen::More)];

/// At the node that is sent to.
pub const BUSY: &[Row] = &[
    ("the other node is slow", "parlance_sends_held_total", &[], Seen::More),
    ("the other node is slow", "parlance_sends_waiting", &[], Seen::Positive),
    ("the other node is too slow", "parlance_sends_held_refused_total", &[], Seen::More),
];

/// At the slow one.
pub const LATE: &[Row] = &[("it is slow", "parlance_delivery_late_seconds", &[], Seen::Positive)];

async fn node(url: &str, more: &[(&str, &str)]) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", url).env("PARLANCE_NO_LIMITS", "true");
    Gateway::start(more.iter().fold(options, |options, (name, value)| options.env(name, value))).await
}

async fn say(gateway: &Gateway, body: &str) -> Result<()> {
    let message = json!({ "senderId": "zebra", "body": body });
    gateway.call("POST", "/api/v1/conversations/quagga/messages", Some(&message)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_other_nodes_and_befalls_redis_is_counted() -> Result<()> {
    let redis = Server::standalone().await?;
    let way = Proxy::start(redis.port(), 1).await?;
    let slowly = [("PARLANCE_DRAIN_CLIENTS_PER_SECOND", "1")];
    let (a, b) = (node(&redis.url(), &[]).await?, node(&way.url(), &slowly).await?);
    a.conversation("quagga", &["zebra", "ibex"]).await?;
    let mut ibex = b.connect("/sechat", "ibex").await?;
    let _others = [b.connect("/sechat", "okapi").await?, b.connect("/sechat", "okapi").await?];
    let mut watch = Watch::begin(&b, ROWS).await?;
    // Until it is live it reads from the log what is said.
    while total(&b, "parlance_delivery_seconds_count").await? == 0.0 {
        say(&a, "hello").await?;
        ibex.expect("message:received").await?;
    }
    watch.sees("a message comes from the other node").await?;
    check_metrics(watch.page())?;
    way.set(Faults { refuse: true, ..Faults::default() });
    way.cut_all();
    let mut told = Value::Null;
    while told["type"] != "error" {
        let message = json!({
            "type": "message:send", "messageId": "m-1", "conversationId": "quagga", "toUserIds": ["zebra"], "body": "x",
        });
        ibex.send(&message).await?;
        told = ibex.next().await?;
    }
    watch.sees("Redis is away").await?;
    way.heal();
    watch.sees("Redis is back").await?;
    b.signal(Signal::TERM)?;
    watch.sees("the node leaves").await?;
    watch.done()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_to_another_node_is_counted() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url(), &[]).await?, node(&redis.url(), &[]).await?);
    let base = "/socket.io/?EIO=4&transport=polling";
    let open = b.public("GET", base, None).await?.body;
    let path = format!("{base}&sid={}", open.split('"').nth(3).context("no sid")?);
    let mut watch = Watch::begin(&a, OWNER).await?;
    // Two polls of one session at once are against the protocol: both end.
    let (first, second) = tokio::join!(a.public("GET", &path, None), async {
        until(&b, |page| page.sum("parlance_polls_waiting", &[]) > 0.0).await?;
        b.public("GET", &path, None).await
    });
    ensure!(first?.status != 404 && second?.status == 400);
    watch.sees("a session is another node's").await?;
    watch.done()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missed_and_read_is_counted() -> Result<()> {
    let redis = Server::standalone().await?;
    let deaf = [("PARLANCE_FAILPOINTS", "drop-publication@3")];
    let (a, b) = (node(&redis.url(), &[]).await?, node(&redis.url(), &deaf).await?);
    a.conversation("quagga", &["zebra", "ibex"]).await?;
    let mut ibex = b.connect("/sechat", "ibex").await?;
    let mut watch = Watch::begin(&b, DEAF).await?;
    // Quickly: a gap shows with the next publication, before the heads of the logs are compared.
    for n in 0..40 {
        say(&a, &format!("m-{n}")).await?;
    }
    for _ in 0..40 {
        ibex.expect("message:received").await?;
    }
    watch.sees("publications are lost").await?;
    watch.done()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_lost_is_counted() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let a = node(&redis.url(), &[]).await?;
    a.conversation("quagga", &["zebra", "ibex"]).await?;
    let mut ibex = a.connect("/sechat", "ibex").await?;
    say(&a, "hello").await?;
    ibex.expect("message:received").await?;
    let mut watch = Watch::begin(&a, LOST).await?;
    redis.restart_empty().await?;
    watch.sees("Redis lost everything").await?;
    watch.done()
}

/// A SocialHub client that hears the conversation.
async fn listener(gateway: &Gateway, user: &str) -> Result<Ws> {
    let mut ws = gateway.connect("/ws", user).await?;
    let payload = json!({ "channel": "conversation:quagga" });
    ws.send(&json!({ "type": "subscribe", "ack_id": "1", "payload": payload })).await?;
    loop {
        let came = ws.next().await?;
        match came["type"].as_str() {
            Some("ack") if came["payload"]["success"] == true => return Ok(ws),
            Some("ack") => bail!("{came}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_node_holds_up_is_counted() -> Result<()> {
    let redis = Server::standalone().await?;
    let slow = [("PARLANCE_FAILPOINTS", "assigning=wait@600")];
    let (a, b) = (node(&redis.url(), &[]).await?, node(&redis.url(), &slow).await?);
    a.conversation("quagga", &["zebra", "ibex"]).await?;
    let mut ibex = listener(&b, "ibex").await?;
    let mut senders = Vec::new();
    for _ in 0..16 {
        senders.push(a.connect("/sechat", "zebra").await?);
    }
    // The first one tells the node how long it takes at best.
    say(&a, "hello").await?;
    ibex.expect("message").await?;
    let (mut here, mut there) = (Watch::begin(&a, BUSY).await?, Watch::begin(&b, LATE).await?);
    for round in 0..4 {
        for (n, sender) in senders.iter_mut().enumerate() {
            let message = json!({
                "type": "message:send", "messageId": format!("m-{round}-{n}"), "conversationId": "quagga",
                "toUserIds": ["ibex"], "body": "hello",
            });
            sender.send(&message).await?;
        }
        if round == 0 {
            there.sees("it is slow").await?;
        }
    }
    here.sees("the other node is slow").await?;
    here.sees("the other node is too slow").await?;
    there.done()?;
    here.done()
}
