//! kill -9 of the node under load: what was acknowledged is there after a restart, once and in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

const PAIRS: usize = 8;
const ROUNDS: usize = 3;

/// The messages a sender got an acknowledgement for, in the order it sent them, and the one under way when
/// the node died.
#[derive(Default)]
struct Sent {
    acked: Vec<String>,
    open: Option<String>,
    count: usize,
}

fn message(pair: usize, id: &str) -> Value {
    json!({
        "type": "message:send", "messageId": id, "conversationId": format!("crash-{pair}"),
        "fromUserId": format!("sender-{pair}"), "toUserIds": [format!("reader-{pair}")], "body": id,
    })
}

/// Sends one after the other until the node dies. A message whose acknowledgement is missing is sent again first.
async fn send_until_death(mut socket: Ws, pair: usize, mut sent: Sent) -> (usize, Sent) {
    loop {
        let id = sent.open.take().unwrap_or_else(|| {
            sent.count += 1;
            format!("m-{pair}-{:05}", sent.count)
        });
        sent.open = Some(id.clone());
        if socket.send(&message(pair, &id)).await.is_err() {
            return (pair, sent);
        }
        match socket.expect("message:acked").await {
            Ok(ack) if ack["messageId"] == id.as_str() => {
                sent.acked.push(id);
                sent.open = None;
            }
            _ => return (pair, sent),
        }
    }
}

/// Everything a recipient is replayed at connect: nothing was ever receipted, so that is all.
async fn replayed(gateway: &Gateway, pair: usize, last: &str) -> Result<Vec<String>> {
    let mut socket = gateway.connect("/sechat", &format!("reader-{pair}")).await?;
    let mut ids = Vec::new();
    loop {
        let message = socket.expect("message:received").await?;
        ensure!(message["wasQueued"] == true, "a replayed message is marked: {message}");
        let id = message["messageId"].as_str().context("no id")?.to_owned();
        let done = id == last;
        ids.push(id);
        if done {
            return Ok(ids);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_under_load_loses_doubles_and_reorders_nothing_acknowledged() -> Result<()> {
    let mut gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let mut all: Vec<Sent> = (0..PAIRS).map(|_| Sent::default()).collect();
    for round in 0..ROUNDS {
        let mut senders = JoinSet::new();
        for (pair, sent) in std::mem::take(&mut all).into_iter().enumerate() {
            let socket = gateway.connect("/sechat", &format!("sender-{pair}")).await?;
            senders.spawn(send_until_death(socket, pair, sent));
        }
        // Long enough to be in full swing, at another moment of the writer's work each time.
        tokio::time::sleep(Duration::from_millis(700 + 137 * round as u64)).await;
        gateway.kill9()?;
        let mut back: Vec<(usize, Sent)> =
            timeout(Duration::from_secs(20), senders.join_all()).await.context("a sender hangs")?;
        back.sort_by_key(|(pair, _)| *pair);
        all = back.into_iter().map(|(_, sent)| sent).collect();
        gateway.restart().await?;
    }
    let acked: usize = all.iter().map(|s| s.acked.len()).sum();
    ensure!(acked >= PAIRS * ROUNDS * 5, "only {acked} were acknowledged: this shows nothing");
    for (pair, mut sent) in all.into_iter().enumerate() {
        // The last word, so that the end of the replay is known; what was open is settled first.
        let mut socket = gateway.connect("/sechat", &format!("sender-{pair}")).await?;
        for id in sent.open.take().into_iter().chain([format!("end-{pair}")]) {
            socket.send(&message(pair, &id)).await?;
            ensure!(socket.expect("message:acked").await?["messageId"] == id.as_str(), "another ack");
            sent.acked.push(id);
        }
        let ids = replayed(&gateway, pair, &format!("end-{pair}")).await?;
        let expected = &sent.acked[sent.acked.len().saturating_sub(ids.len())..];
        // History keeps the newest 1000 entries; one of them is the creation of the conversation.
        ensure!(
            ids.len() == sent.acked.len() || ids.len() >= 990,
            "pair {pair}: only {} replayed",
            ids.len()
        );
        ensure!(ids == expected, "pair {pair}: acknowledged {expected:?}, replayed {ids:?}");
    }
    Ok(())
}
