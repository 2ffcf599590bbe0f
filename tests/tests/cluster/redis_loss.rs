//! Redis loses what it acknowledged: the end of its logs in a failover, or everything. Clients are told, nothing is
//! numbered twice, and everything goes on without a reconnect. Redis that comes back with all of it tells nobody.

use std::time::Duration;

use crate::redis_loss_support::{Switch, famly, node, says};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Kind, Server, Setup};
use parlance_tests::{Gateway, IoClient, token};
use serde_json::{Value, json};

const MEMBERS: [&str; 3] = ["alice", "bob", "carol"];

/// Says it and awaits it there, and where it was said: senders hear their own messages. Returns the id.
async fn through(from: &mut IoClient, to: &mut IoClient, text: &str) -> Result<String> {
    let id = says(from, text).await?;
    for one in [from, to] {
        let told = one.expect("message:new").await?;
        ensure!(told.args[0]["body"] == text && told.args[0]["_id"] == id.as_str(), "{told:?}");
    }
    Ok(id)
}

/// Bodies and ids in the conversation's history, oldest first.
async fn history(gateway: &Gateway) -> Result<Vec<(String, String)>> {
    let page = gateway.read("alice", "/api/v1/conversations/room/messages").await?;
    let text = |item: &Value, field: &str| Some(item[field].as_str()?.to_owned());
    let items = page["messages"].as_array().or_else(|| page["items"].as_array()).context("no messages")?;
    items.iter().map(|i| text(i, "body").zip(text(i, "id")).with_context(|| i.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_the_end_is_told_and_gone_on_behind() -> Result<()> {
    let mut primary = Server::standalone().await?;
    let replica =
        Server::start(Setup::new(Kind::Plain).set("replicaof", &format!("127.0.0.1 {}", primary.port())))
            .await?;
    let way = Switch::to(primary.port()).await?;
    let (a, b) = (node(&way.url()).await?, node(&way.url()).await?);
    a.conversation("room", &MEMBERS).await?;
    let mut alice = famly(&a, "alice").await?;
    let mut bob = famly(&b, "bob").await?;
    let mut carol = b.connect("/sechat", "carol").await?;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(through(&mut alice, &mut bob, &format!("kept-{n}")).await?);
        carol.expect("message:received").await?;
    }
    crate::redis_loss_support::until_replicated(&primary, &replica).await?;
    replica.command(&["REPLICAOF", "NO", "ONE"]).await?;
    for n in 0..3 {
        ids.push(through(&mut alice, &mut bob, &format!("lost-{n}")).await?);
        carol.expect("message:received").await?;
    }
    way.turn(replica.port());
    primary.kill9()?;
    // Told on both nodes, each in its words.
    for told in [alice.expect("chat:resync").await?, bob.expect("chat:resync").await?] {
        ensure!(told.args[0]["chatId"] == "room" && told.args[0]["from"] == 5, "{told:?}");
        ensure!(told.args[0]["to"].as_u64().is_some_and(|to| to >= 7), "{told:?}");
    }
    let told = carol.expect("error").await?;
    ensure!(told["details"]["resync"] == true, "{told}");
    for n in 0..3 {
        let id = through(&mut alice, &mut bob, &format!("after-{n}")).await?;
        ensure!(!ids.contains(&id), "{id} was used before");
        ids.push(id);
        carol.expect("message:received").await?;
    }
    let bodies: Vec<String> = history(&b).await?.into_iter().map(|(body, _)| body).collect();
    ensure!(bodies == ["kept-0", "kept-1", "kept-2", "after-0", "after-1", "after-2"], "{bodies:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_told_and_members_go_on_when_the_backend_names_them_again() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    let number = a.conversation("room", &["alice", "bob", "carol", "dave"]).await?;
    let mut alice = famly(&a, "alice").await?;
    let mut bob = famly(&b, "bob").await?;
    let mut carol = famly(&b, "carol").await?;
    let mut dave = famly(&a, "dave").await?;
    let before = through(&mut alice, &mut bob, "before").await?;
    let told = dave.expect("message:new").await?;
    let offset = told.args.last().and_then(Value::as_str).context("no offset")?.to_owned();
    let pid = dave.joined["pid"].as_str().context("no pid")?.to_owned();
    // An emptied counter goes on above the earlier one where that was not used faster than once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    redis.restart_empty().await?;
    for one in [&mut alice, &mut bob, &mut carol] {
        let told = one.expect("chat:resync").await?;
        ensure!(told.args[0]["chatId"] == "room", "{told:?}");
    }
    // Nobody was removed, but who is a member is not known; nothing is accepted.
    let message = json!({ "chatId": "room", "body": "x", "clientId": "x" });
    let ack = alice.ask("message:send", &[message]).await?;
    ensure!(ack[0]["ok"] == false, "{ack:?}");
    b.until_presence("alice", "status", "online").await?;
    // The session in the middle of it does not go on, although its connection lives.
    let auth = json!({ "token": token("dave")?, "pid": pid, "offset": offset });
    let fresh = IoClient::connect(&a.url("/socket.io/"), &auth).await?;
    ensure!(fresh.joined["pid"] != pid.as_str(), "{}", fresh.joined);
    let again = b.conversation("room", &["alice", "bob"]).await?;
    ensure!(again == number, "the number is that of before: {number} {again}");
    let after = through(&mut alice, &mut bob, "after").await?;
    ensure!(after != before);
    through(&mut bob, &mut alice, "and back").await?;
    // Carol is no member any more.
    let ack = carol.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    ensure!(ack[0]["ok"] == false, "{ack:?}");
    while let Ok(came) = tokio::time::timeout(Duration::from_millis(300), carol.came()).await {
        let came = format!("{:?}", came?);
        ensure!(!came.contains("after") && !came.contains("and back"), "a stranger hears it: {came}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_with_everything_is_not_noticed() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    a.conversation("room", &MEMBERS).await?;
    let mut alice = famly(&a, "alice").await?;
    let mut bob = famly(&b, "bob").await?;
    for round in 0..3 {
        through(&mut alice, &mut bob, &format!("before-{round}")).await?;
        redis.restart().await?;
        let id = says(&mut alice, &format!("after-{round}")).await?;
        // Not a word of a loss in between.
        for one in [&mut alice, &mut bob] {
            let told = loop {
                let told = one.next().await?;
                ensure!(told.name != "chat:resync", "{told:?}");
                if told.name == "message:new" {
                    break told;
                }
            };
            ensure!(told.args[0]["_id"] == id.as_str(), "{told:?}");
        }
    }
    // Longer than two looks at the heads.
    tokio::time::sleep(Duration::from_secs(6)).await;
    through(&mut bob, &mut alice, "end").await?;
    let metrics = b.internal("GET", "/metrics", None, None).await?.body;
    ensure!(metrics.contains("parlance_feed_losses_total 0"), "{metrics}");
    Ok(())
}
