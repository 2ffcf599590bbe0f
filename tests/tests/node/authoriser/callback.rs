//! Membership by `callback`: who is in a conversation is what the backend says when somebody comes.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::io::IoClient;
use parlance_tests::{Gateway, Options, Ws, token};
use serde_json::{Value, json};

use super::{asking, sechat_message};
use crate::backend::{Backend, http, no, yes};

/// Eve comes nowhere, and nobody into what is `private`.
fn house(question: &Value) -> Option<String> {
    let out = question["user"] == "eve" || question["conversation"] == "private";
    if out && question["action"] != "connect" { no("a secret reason") } else { yes() }
}

fn by_callback(backend: &Backend, more: &str) -> Options {
    asking(backend, more).env("PARLANCE_MEMBERSHIP", "callback")
}

async fn famly(gateway: &Gateway, user: &str) -> Result<IoClient> {
    IoClient::connect(&gateway.url("/socket.io/"), &json!({ "token": token(user)? })).await
}

async fn enter(client: &mut IoClient, place: &str) -> Result<Value> {
    let answer = client.ask("room:join", &[json!({ "chatId": place })]).await?;
    answer.into_iter().next().context("no acknowledgement")
}

/// The members, in order of their names.
async fn members(gateway: &Gateway, place: &str) -> Result<Vec<String>> {
    let (status, answer) = gateway.api("GET", &format!("/api/v1/conversations/{place}"), None).await?;
    if status == 404 {
        return Ok(Vec::new());
    }
    let name = |member: &Value| member["userId"].as_str().or(member.as_str()).map(str::to_owned);
    let mut names: Vec<String> =
        answer["members"].as_array().into_iter().flatten().filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

/// One enters, one writes, one subscribes, and one may not: on two nodes, or twice on the same.
async fn story(a: &Gateway, b: &Gateway, backend: &Backend) -> Result<()> {
    let mut alice = famly(a, "alice").await?;
    ensure!(enter(&mut alice, "room").await? == json!({ "ok": true }), "alice enters what nobody was in");
    ensure!(members(b, "room").await? == ["alice"], "{:?}", members(b, "room").await?);

    let mut bob = b.connect("/sechat", "bob").await?;
    bob.send(&sechat_message("m-1", "room", &["eve"])).await?;
    bob.expect("message:acked").await?;
    let heard = alice.expect("message:new").await?;
    ensure!(heard.args[0].to_string().contains("SECRET words"), "{heard:?}");
    ensure!(
        members(a, "room").await? == ["alice", "bob"],
        "a message to a room that is there adds its author only"
    );

    let mut carol = b.connect("/ws", "carol").await?;
    carol
        .send(&json!({ "type": "subscribe", "payload": { "channel": "conversation:room" }, "ack_id": "1" }))
        .await?;
    ensure!(carol.expect("ack").await?["payload"]["success"] == true, "carol subscribes");
    let say =
        json!({ "chatId": "room", "body": "hello all", "clientId": "00000000-0000-4000-8000-000000000001" });
    let said = alice.ask("message:send", &[say]).await?;
    ensure!(said[0]["ok"] == true, "{said:?}");
    ensure!(carol.expect("message").await?["payload"]["content"] == "hello all", "carol hears");
    ensure!(bob.expect("message:received").await?["body"] == "hello all", "bob hears");
    strangers(a, b).await?;
    ensure!(members(a, "room").await? == ["alice", "bob", "carol"], "{:?}", members(a, "room").await?);
    ensure!(members(a, "private").await?.is_empty(), "nothing came of what was denied");

    let told = |user: &str, place: &str| {
        let about = |asked: &Value| asked["user"] == user && asked["conversation"] == place;
        backend.asked().into_iter().map(|asked| asked.body).find(about).context("not asked")
    };
    let question = told("alice", "room")?;
    ensure!(question["members"] == json!(["alice"]) && question["member"] == false, "{question}");
    let question = told("bob", "room")?;
    ensure!(question["action"] == "send" && question["members"].is_null(), "{question}");
    Ok(())
}

/// They are told what strangers are told, and no more.
async fn strangers(a: &Gateway, b: &Gateway) -> Result<()> {
    let mut eve = famly(b, "eve").await?;
    let refused = enter(&mut eve, "room").await?;
    ensure!(refused["error"] == "FORBIDDEN" && !refused.to_string().contains("secret reason"), "{refused}");
    let mut eve = a.connect("/sechat", "eve").await?;
    for place in ["room", "nowhere"] {
        eve.send(&sechat_message("m-e", place, &["alice"])).await?;
        let refused = eve.expect("error").await?;
        let words = (&refused["code"], &refused["message"]);
        ensure!(words == (&json!("FORBIDDEN"), &json!("not a member of this conversation")), "{refused}");
    }
    let mut eve = a.connect("/ws", "eve").await?;
    eve.send(&json!({ "type": "subscribe", "payload": { "channel": "conversation:room" }, "ack_id": "1" }))
        .await?;
    let refused = eve.expect("ack").await?;
    ensure!(refused["payload"]["error"]["code"] == "CHANNEL_NOT_FOUND", "{refused}");
    let mut alice = famly(a, "alice").await?;
    ensure!(enter(&mut alice, "private").await?["error"] == "FORBIDDEN", "nobody comes in there");
    Ok(())
}

#[tokio::test]
async fn who_comes_is_in_when_the_backend_says_so() -> Result<()> {
    let backend = Backend::start(house).await?;
    let gateway = Gateway::start(by_callback(&backend, "")).await?;
    story(&gateway, &gateway, &backend).await
}

#[tokio::test]
async fn the_same_over_two_nodes_that_share_a_redis() -> Result<()> {
    let backend = Backend::start(house).await?;
    let redis = Server::standalone().await?;
    let options =
        by_callback(&backend, "").env("PARLANCE_REDIS_URL", &redis.url()).env("PARLANCE_ACK_LEVEL", "redis");
    let (a, b) = tokio::try_join!(Gateway::start(options.clone()), Gateway::start(options))?;
    story(&a, &b, &backend).await
}

#[tokio::test]
async fn only_strangers_are_asked_about_where_nothing_else_is() -> Result<()> {
    let backend = Backend::start(house).await?;
    let gateway = Gateway::start(by_callback(&backend, "actions = []")).await?;
    gateway.conversation("room", &["bob"]).await?;
    let (mut alice, mut bob) =
        (gateway.connect("/sechat", "alice").await?, gateway.connect("/sechat", "bob").await?);
    let say = async |who: &mut Ws, id: &str| {
        who.send(&sechat_message(id, "room", &[])).await?;
        who.expect("message:acked").await.map(drop)
    };
    say(&mut bob, "b-1").await?;
    ensure!(backend.asked().is_empty(), "a member is not asked about: {:?}", backend.asked());
    say(&mut alice, "a-1").await?;
    say(&mut alice, "a-2").await?;
    ensure!(backend.asked().len() == 1, "{:?}", backend.asked());
    // A yes was for that once: whoever is taken out is asked about again.
    gateway.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "removeMembers": ["alice"] }))).await?;
    backend.decide(|_| no("out"));
    alice.send(&sechat_message("a-3", "room", &[])).await?;
    ensure!(alice.expect("error").await?["code"] == "FORBIDDEN", "she was removed");
    Ok(())
}

#[tokio::test]
async fn nobody_comes_in_without_an_answer() -> Result<()> {
    let backend = Backend::start(|_| http(500, "")).await?;
    let gateway =
        Gateway::start(by_callback(&backend, "on_failure = \"allow\"\nbreaker_failures = 2")).await?;
    gateway.conversation("room", &["bob"]).await?;
    let mut alice = famly(&gateway, "alice").await?;
    for _ in 0..3 {
        let refused = enter(&mut alice, "room").await?;
        ensure!(refused["error"] == "INTERNAL", "{refused}");
    }
    ensure!(members(&gateway, "room").await? == ["bob"], "nobody came in");
    Ok(())
}
