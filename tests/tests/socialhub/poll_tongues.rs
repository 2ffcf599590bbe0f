//! One user who polls, has a raw WebSocket, and a Socket.IO device in another dialect, each at another node.

use crate::poll_support::{Poller, nodes, say, unlimited};
use crate::support::{Client, notify};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{IoClient, token};
use serde_json::{Value, json};

const MESSAGES: usize = 60;

fn text_of(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("no text: {value}"))?.to_owned())
}

#[tokio::test]
async fn a_poll_a_socket_and_a_socket_io_device_of_one_user_hear_the_same_in_the_same_order() -> Result<()> {
    let redis = Server::standalone().await?;
    let [a, b, c] = nodes::<3>(&redis, &unlimited()).await?;
    a.conversation("c", &["alice", "bob"]).await?;
    let mut socket = Client::on(&b, "alice", "conversation:c").await?;
    let mut device = IoClient::connect(&c.url("/socket.io/"), &json!({ "token": token("alice")? })).await?;
    let joined = device.ask("room:join", &[json!({ "chatId": "c" })]).await?;
    ensure!(joined[0]["ok"] == true, "{joined:?}");
    let mut alice = Poller::new("alice")?;
    let talk = async {
        for n in 0..MESSAGES {
            say([&a, &b, &c][n % 3], "c", "bob", &format!("m{n}")).await?;
            if n % 7 == 0 {
                notify(&a, "alice", "note", &json!({ "n": n })).await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(talk, alice.until(a.address(), MESSAGES))?;
    let notes = MESSAGES.div_ceil(7);
    while alice.events.len() < MESSAGES + notes {
        ensure!(!alice.poll(a.address(), 5.0).await?.is_empty(), "{} came", alice.events.len());
    }
    ensure!(alice.ids() == (1..=(MESSAGES + notes) as u64).collect::<Vec<_>>(), "{:?}", alice.ids());
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("m{n}")).collect();
    ensure!(alice.texts() == expected, "{:?}", alice.texts());
    for kind in ["message", "note"] {
        for event in alice.events.iter().filter(|event| event["type"] == kind) {
            let frame = socket.hear(kind).await?;
            ensure!(frame["seq"] == event["id"], "{frame} is not {event}");
            ensure!(frame["payload"] == event["payload"], "{frame} is not {event}");
            ensure!(frame["channel"] == event["channel"], "{frame} is not {event}");
            ensure!(frame["timestamp"] == event["timestamp"], "{frame} is not {event}");
        }
    }
    let mut heard = Vec::new();
    while heard.len() < MESSAGES {
        heard.push(text_of(&device.expect("message:new").await?.args[0]["body"])?);
    }
    ensure!(heard == expected, "{heard:?}");
    Ok(())
}
