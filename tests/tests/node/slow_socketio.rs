//! Socket.IO clients that do not read, over WebSocket and over polling: cut off, alone, and nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::http::{read_body, read_head};
use parlance_tests::io::IoClient;
use parlance_tests::metrics::total;
use parlance_tests::{Gateway, Options, token};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const MESSAGES: usize = 500;

async fn slow_consumers(gateway: &Gateway) -> Result<f64> {
    total(gateway, "parlance_slow_consumers_total").await
}

async fn inside(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let auth = json!({ "token": token(user)? });
    let mut client = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    let ack = client.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(client)
}

async fn call(gateway: &Gateway, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(gateway.address()).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((request + body).as_bytes()).await?;
    let (head, rest) = read_head(&mut stream).await?;
    Ok(read_body(&mut stream, head, rest).await?.body)
}

/// A polling client that is inside the room, and polls no more.
async fn polled_once(gateway: &Gateway, user: &str) -> Result<String> {
    let base = "/socket.io/?EIO=4&transport=polling";
    let open = call(gateway, "GET", base, "").await?;
    let path = format!("{base}&sid={}", open.split('"').nth(3).context("no sid")?);
    call(gateway, "POST", &path, &format!("40{{\"token\":\"{}\"}}", token(user)?)).await?;
    ensure!(call(gateway, "GET", &path, "").await?.starts_with("40{"));
    call(gateway, "POST", &path, r#"420["room:join",{"chatId":"room"}]"#).await?;
    ensure!(call(gateway, "GET", &path, "").await?.contains(r#"430[{"ok":true}]"#));
    Ok(path)
}

async fn read_all(mut quick: IoClient) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    while ids.len() < MESSAGES {
        let told = quick.expect("message:new").await?;
        let id = told.args.first().and_then(|m| m["clientId"].as_str()).context("no id")?;
        ids.push(id.to_owned());
    }
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_cut_off_on_both_transports_and_others_hear_everything_in_order()
-> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let members = json!({ "id": "room", "type": "group", "members": ["sender", "quick", "slow", "poller"] });
    let (status, _) = gateway.api("POST", "/api/v1/conversations", Some(&members)).await?;
    ensure!(status < 300, "{status}");
    let mut sender = inside(&gateway, "sender").await?;
    let quick = inside(&gateway, "quick").await?;
    // Neither is read from again.
    let slow = inside(&gateway, "slow").await?;
    let poller = polled_once(&gateway, "poller").await?;
    let mut reading = JoinSet::new();
    reading.spawn(read_all(quick));
    let expected: Vec<String> = (0..MESSAGES).map(|i| format!("m-{i:04}")).collect();
    for id in &expected {
        let message = json!({ "chatId": "room", "body": "x".repeat(8000), "clientId": id });
        let ack = sender.ask("message:send", &[message]).await?;
        ensure!(ack.first().is_some_and(|a| a["ok"] == Value::Bool(true)), "{ack:?}");
    }
    let ids = reading.join_next().await.context("the reader")???;
    ensure!(ids == expected, "the quick one heard {} messages, or in another order", ids.len());
    let deadline = Instant::now() + Duration::from_secs(20);
    while slow_consumers(&gateway).await? < 2.0 {
        ensure!(Instant::now() < deadline, "12 MB for two who do not read, and one is not cut off");
        sleep(Duration::from_millis(50)).await;
    }
    // What waited is still told to whoever asks in time; then its session is forgotten.
    while !call(&gateway, "GET", &poller, "").await?.contains("\"code\":1") {
        ensure!(Instant::now() < deadline, "its session is still there");
        sleep(Duration::from_millis(50)).await;
    }
    drop(slow);
    let history = gateway.public("GET", "/v1/chats/room/messages?limit=200", Some(&token("slow")?)).await?;
    let page = history.json()?;
    ensure!(page["messages"].as_array().is_some_and(|all| all.len() == 200), "{page}");
    ensure!(page["messages"][199]["clientId"] == expected[MESSAGES - 1].as_str());
    Ok(())
}
