//! Two nodes on one Redis act as one: clients of different dialects on different nodes, and a client whose node
//! dies.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, IoClient, Options, token};
use serde_json::{Value, json};

async fn node(redis: &Server) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
    Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await
}

async fn famly(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let auth = json!({ "token": token(user)? });
    let mut io = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    let ack = io.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(io)
}

async fn chatgenius(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let auth = json!({ "token": token(user)? });
    let mut io = IoClient::connect(&gateway.url("/api/socket.io/"), &auth).await?;
    let welcome = io.expect("connection:success").await?;
    ensure!(welcome.args[0]["channels"] == json!(["room"]), "{welcome:?}");
    Ok(io)
}

async fn say(io: &mut IoClient, text: &str) -> Result<()> {
    let message = json!({ "chatId": "room", "body": text, "clientId": text });
    let ack = io.ask("message:send", &[message]).await?;
    ensure!(ack.first().is_some_and(|a| a["ok"] == Value::Bool(true)), "{ack:?}");
    Ok(())
}

#[tokio::test]
async fn dialects_on_two_nodes_share_messages_typing_receipts_and_reactions() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    let mut alice = famly(&a, "alice").await?;
    let mut bob = chatgenius(&b, "bob").await?;
    let mut sechat = b.connect("/sechat", "bob").await?;
    for n in 0..50 {
        say(&mut alice, &format!("m-{n}")).await?;
    }
    let mut last = Value::Null;
    for n in 0..50 {
        let told = bob.expect("message:created").await?;
        ensure!(told.args[0]["message"]["content"] == format!("m-{n}"), "{told:?}");
        last = told.args[0]["message"]["id"].clone();
        let received = sechat.expect("message:received").await?;
        ensure!(received["body"] == format!("m-{n}"), "{received}");
    }
    alice.emit("typing:start", &[json!({ "chatId": "room" })]).await?;
    ensure!(bob.expect("typing:start").await?.args[0]["userId"] == "alice");
    let ack = bob.ask("message:read", &[json!({ "messageId": last })]).await?;
    ensure!(ack[0]["success"] == true, "{ack:?}");
    let receipt = alice.expect("receipt:update").await?;
    ensure!(receipt.args[0]["userId"] == "bob", "{receipt:?}");
    let ack = bob.ask("reaction:add", &[json!({ "messageId": last, "type": "👍" })]).await?;
    ensure!(ack[0]["success"] == true, "{ack:?}");
    // A change through one node's server API is heard on the other.
    let change = json!({ "addMembers": ["carol"] });
    a.call("PATCH", "/api/v1/conversations/room", Some(&change)).await?;
    ensure!(bob.expect("channel:user_joined").await?.args[0]["userId"] == "carol");
    Ok(())
}

#[tokio::test]
async fn a_client_whose_node_dies_recovers_its_session_on_another() -> Result<()> {
    let redis = Server::standalone().await?;
    let (mut a, b) = (node(&redis).await?, node(&redis).await?);
    b.conversation("room", &["alice", "bob"]).await?;
    let mut alice = famly(&a, "alice").await?;
    let mut bob = famly(&b, "bob").await?;
    say(&mut bob, "before").await?;
    let told = alice.expect("message:new").await?;
    let offset = told.args.last().and_then(Value::as_str).context("no offset")?.to_owned();
    let pid = alice.joined["pid"].as_str().context("no pid")?.to_owned();
    a.kill9()?;
    for n in 0..10 {
        say(&mut bob, &format!("missed-{n}")).await?;
    }
    let auth = json!({ "token": token("alice")?, "pid": pid, "offset": offset });
    let mut alice = IoClient::connect(&b.url("/socket.io/"), &auth).await?;
    ensure!(alice.joined["pid"] == pid.as_str(), "recovered on the other node: {}", alice.joined);
    for n in 0..10 {
        let told = alice.expect("message:new").await?;
        ensure!(told.args[0]["body"] == format!("missed-{n}"), "{told:?}");
    }
    // Inside the room as before, without joining again.
    say(&mut bob, "after").await?;
    ensure!(alice.expect("message:new").await?.args[0]["body"] == "after");
    Ok(())
}
