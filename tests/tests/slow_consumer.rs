//! A client that stops reading is cut off, loses nothing, and disturbs nobody.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::metrics::total;
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const MESSAGES: usize = 400;

fn message(index: usize, body: &str) -> Value {
    json!({
        "type": "message:send", "messageId": format!("m-{index:04}"), "conversationId": "room",
        "toUserIds": ["slow", "quick"], "body": body,
    })
}

async fn slow_consumers(gateway: &Gateway) -> Result<f64> {
    total(gateway, "parlance_slow_consumers_total").await
}

async fn quick_reader(mut quick: Ws) -> Result<(Vec<String>, Ws)> {
    let mut ids = Vec::new();
    while ids.len() <= MESSAGES {
        let message = quick.expect("message:received").await?;
        ids.push(message["messageId"].as_str().context("no id")?.to_owned());
    }
    Ok((ids, quick))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_is_closed_and_catches_up_while_others_hear_everything_in_order() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let mut sender = gateway.connect("/sechat", "sender").await?;
    sender.send(&message(0, "opening")).await?;
    sender.expect("message:acked").await?;
    // Never read from again.
    let slow = gateway.connect("/sechat", "slow").await?;
    let quick = gateway.connect("/sechat", "quick").await?;
    let mut reading = JoinSet::new();
    reading.spawn(quick_reader(quick));
    let body = "x".repeat(60_000);
    for index in 1..=MESSAGES {
        sender.send(&message(index, &body)).await?;
        ensure!(sender.expect("message:acked").await?["messageId"] == format!("m-{index:04}"), "in order");
    }
    let (ids, _quick) = reading.join_next().await.context("the reader")???;
    let expected: Vec<String> = (0..=MESSAGES).map(|i| format!("m-{i:04}")).collect();
    ensure!(ids == expected, "the quick one heard {} messages", ids.len());
    let deadline = Instant::now() + Duration::from_secs(20);
    while slow_consumers(&gateway).await? < 1.0 {
        ensure!(Instant::now() < deadline, "24 MB for somebody who does not read, and nobody is cut off");
        sleep(Duration::from_millis(50)).await;
    }
    drop(slow);

    let mut again = gateway.connect("/sechat", "slow").await?;
    for id in &expected {
        let message = again.expect("message:received").await?;
        ensure!(message["messageId"] == id.as_str() && message["wasQueued"] == true, "expected {id}");
    }
    Ok(())
}
