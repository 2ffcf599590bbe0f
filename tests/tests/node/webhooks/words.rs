//! What is told of each kind of event, signed, and nothing where it is off.

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};

use super::{Listener, SECRET, bodies, connect, say};

fn data<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
}

#[tokio::test]
async fn every_kind_of_event_is_told_in_its_order() -> Result<()> {
    let listener = Listener::start().await?;
    let gateway = Gateway::start(listener.told_by("")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    for id in ["m-1", "m-2", "m-3"] {
        say(&mut alice, id, "c", &["bob"]).await?;
    }
    for id in ["m-1", "m-2", "m-3"] {
        while bob.expect("message:received").await?["messageId"] != id {}
    }
    bob.send(&json!({ "type": "receipt:read", "messageId": "m-2", "conversationId": "c", "fromUserId": "bob", "toUserId": "alice" })).await?;
    gateway.call("PATCH", "/api/v1/conversations/c", Some(&json!({ "addMembers": ["zoe"] }))).await?;
    listener.until("bob's reading", |l| !l.of("read.moved").is_empty()).await?;
    bob.close(1000).await?;
    listener
        .until("bob's going", |l| !l.of("presence.changed").iter().all(|e| e["data"]["status"] == "online"))
        .await?;
    let all = listener.events();
    ensure!(bodies(&all, "c") == ["m-1", "m-2", "m-3"], "{all:#?}");
    let message = data(&all, "message.accepted")[0];
    ensure!(message["userId"] == "alice" && message["clientId"] == "m-1" && message["seq"] == 2, "{message}");
    ensure!(message["messageId"].as_str().is_some_and(|id| id.starts_with("msg_")), "{message}");
    let created = data(&all, "conversation.created");
    ensure!(created == [&json!({ "conversationId": "c", "userId": "alice" })], "{created:?}");
    let members = data(&all, "members.changed");
    ensure!(
        members[0]["added"] == json!(["alice", "bob"]) && members[1]["added"] == json!(["zoe"]),
        "{members:?}"
    );
    let read = data(&all, "read.moved");
    ensure!(read == [&json!({ "conversationId": "c", "userId": "bob", "seq": 3, "fromSeq": 0 })], "{read:?}");
    let came = data(&all, "user.connected");
    ensure!(came.len() == 2 && came.iter().all(|c| c["mount"] == "sechat"), "{came:?}");
    let gone = data(&all, "user.disconnected");
    ensure!(gone.len() == 1 && gone[0]["userId"] == "bob", "{gone:?}");
    let presence: Vec<(&Value, &Value)> =
        data(&all, "presence.changed").into_iter().map(|p| (&p["userId"], &p["status"])).collect();
    let expected =
        [("alice", "online"), ("bob", "online"), ("bob", "offline")].map(|(u, s)| (json!(u), json!(s)));
    ensure!(presence == expected.iter().map(|(u, s)| (u, s)).collect::<Vec<_>>(), "{presence:?}");
    ensure!(listener.times().values().all(|times| *times == 1), "{:?}", listener.times());
    for asked in listener.backend().asked() {
        let head = asked.head.to_ascii_lowercase();
        ensure!(head.contains("parlance-signature: v1=") && head.contains("parlance-delivery: "), "{head}");
    }
    ensure!(
        !gateway.log().contains(SECRET) && !gateway.log().contains("\"body\""),
        "no secret and no body in logs"
    );
    Ok(())
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() -> Result<()> {
    let listener = Listener::start().await?;
    let gateway = Gateway::start(listener.told_by("events = [\"message.accepted\"]")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-1", "c", &["bob"]).await?;
    say(&mut alice, "m-2", "c", &["bob"]).await?;
    listener.until("both", |l| l.events().len() >= 2).await?;
    ensure!(bodies(&listener.events(), "c") == ["m-1", "m-2"] && listener.events().len() == 2);
    Ok(())
}

#[tokio::test]
async fn where_it_is_off_nothing_is_kept_and_calls_about_it_say_so() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-1", "c", &["bob"]).await?;
    let (status, answer) = gateway.api("GET", "/api/v1/webhooks", None).await?;
    ensure!(
        (status, &answer) == (200, &json!({ "waiting": 0, "aside": 0, "events": [] })),
        "{status} {answer}"
    );
    Ok(())
}
