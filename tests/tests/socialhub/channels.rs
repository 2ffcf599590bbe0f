//! SocialHub: channels, and the events of the application's backend on them.

use crate::support::{Client, conversation, gateway, notify, publish};
use anyhow::Result;
use serde_json::{Value, json};

const ROOM: &str = "conversation:room";
/// Subscriptions of one connection.
const SUBSCRIPTIONS: usize = 128;

fn post(kind: &str, payload: &Value) -> Value {
    json!({ "channel": "feed:updates", "type": kind, "payload": payload })
}

#[tokio::test]
async fn the_channel_may_stand_in_the_payload_or_be_the_payload_or_stand_beside_it() -> Result<()> {
    let gateway = gateway().await?;
    for frame in [
        json!({ "type": "subscribe", "payload": { "channel": "feed:updates" } }),
        json!({ "type": "subscribe", "payload": "feed:updates" }),
        json!({ "type": "subscribe", "channel": "feed:updates" }),
        json!({ "type": "subscribe", "channel": "feed:updates", "payload": {} }),
    ] {
        let mut alice = Client::connect(&gateway, "alice").await?;
        assert_eq!(alice.accepted(frame.clone()).await?["channel"], "feed:updates", "{frame}");
        let id = publish(&gateway, &post("feed_update", &json!({ "post_id": "p1" }))).await?;
        assert_eq!(alice.hear("feed_update").await?["id"], id, "{frame}");
    }
    Ok(())
}

#[tokio::test]
async fn subscribing_twice_is_subscribing_once() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    alice.subscribe(ROOM).await?;
    alice.say("room", "hello").await?;
    assert_eq!(alice.all_before_now(&gateway).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn after_unsubscribing_nothing_comes_until_subscribing_again() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let data = alice.accepted(json!({ "type": "unsubscribe", "payload": { "channel": ROOM } })).await?;
    assert_eq!(data["channel"], ROOM);
    bob.say("room", "one").await?;
    bob.accepted(json!({ "type": "typing_start", "channel": ROOM })).await?;
    alice.heard_nothing(&gateway).await?;
    alice.subscribe(ROOM).await?;
    bob.say("room", "two").await?;
    assert_eq!(alice.hear_text().await?, "two");
    Ok(())
}

#[tokio::test]
async fn who_did_not_subscribe_hears_no_message() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    Client::connect(&gateway, "bob").await?.say("room", "hello").await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn another_s_conversation_and_one_that_does_not_exist_are_refused_alike() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut mallory = Client::connect(&gateway, "mallory").await?;
    let subscribe =
        |id: &str| json!({ "type": "subscribe", "payload": { "channel": format!("conversation:{id}") } });
    let foreign = mallory.refused(subscribe("room")).await?;
    let unknown = mallory.refused(subscribe("nowhere")).await?;
    assert_eq!(foreign["code"], "CHANNEL_NOT_FOUND");
    assert_eq!(foreign, unknown, "the difference would tell what exists");
    Ok(())
}

#[tokio::test]
async fn ill_formed_channel_names_are_refused() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let long = format!("conversation:{}", "x".repeat(300));
    for name in [
        "",
        "other",
        "other:x",
        "conversation:",
        "conversation:a b",
        "presence:",
        "feed:",
        "Notifications",
        &long,
    ] {
        assert_eq!(alice.not_subscribed(name).await?, "CHANNEL_NOT_FOUND", "{name}");
    }
    for payload in [json!({ "channel": 7 }), json!({ "channel": {} }), json!([]), json!(7), json!({})] {
        let error = alice.refused(json!({ "type": "subscribe", "payload": payload })).await?;
        assert_eq!(error["code"], "INVALID_MESSAGE", "{payload}");
    }
    alice.subscribe("feed:updates").await
}

#[tokio::test]
async fn a_connection_has_128_subscriptions_at_most() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    for n in 0..SUBSCRIPTIONS {
        alice.subscribe(&format!("feed:{n}")).await?;
    }
    let over = format!("feed:{SUBSCRIPTIONS}");
    assert_eq!(alice.not_subscribed(&over).await?, "RATE_LIMITED");
    // What it has it may name again, and what it gives up makes room.
    alice.subscribe("feed:0").await?;
    alice.accepted(json!({ "type": "unsubscribe", "payload": "feed:0" })).await?;
    alice.subscribe(&over).await
}

#[tokio::test]
async fn a_notification_reaches_all_connections_of_its_user_and_nobody_else() -> Result<()> {
    let gateway = gateway().await?;
    let mut first = Client::connect(&gateway, "alice").await?;
    let mut second = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", "notifications").await?;
    let payload =
        json!({ "id": "n1", "type": "like", "actor_id": "bob", "message": "Bob liked", "read": false });
    let id = notify(&gateway, "alice", "notification", &payload).await?;
    let frame = first.hear("notification").await?;
    assert_eq!((&frame["id"], &frame["channel"]), (&json!(id), &json!("notifications")));
    assert_eq!(frame["payload"], payload, "passed through as it is");
    assert_eq!(second.hear("notification").await?, frame, "the same seq too");
    assert!(frame["seq"].is_u64());
    bob.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_notification_published_right_after_the_handshake_is_heard() -> Result<()> {
    let gateway = gateway().await?;
    let mut last = Value::Null;
    for n in 0..40 {
        let mut alice = Client::connect(&gateway, "alice").await?;
        let id = notify(&gateway, "alice", "notification", &json!({ "n": n })).await?;
        let frame = alice.hear("notification").await?;
        assert_eq!(frame["id"], id);
        assert_ne!(frame["seq"], last, "what was before the connection is not told");
        last = frame["seq"].clone();
        alice.ws.close(1000).await?;
    }
    Ok(())
}

#[tokio::test]
async fn unsubscribing_from_notifications_changes_nothing() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::on(&gateway, "alice", "notifications").await?;
    alice.accepted(json!({ "type": "unsubscribe", "payload": "notifications" })).await?;
    notify(&gateway, "alice", "notification", &json!({})).await?;
    alice.hear("notification").await?;
    Ok(())
}

#[tokio::test]
async fn feed_updates_and_counts_reach_subscribers_only_and_in_order() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::on(&gateway, "alice", "feed:updates").await?;
    let mut bob = Client::on(&gateway, "bob", "feed:other").await?;
    let mut carol = Client::connect(&gateway, "carol").await?;
    let update = json!({ "type": "new_post", "post_id": "p1", "user_id": "456", "action": "created" });
    let count = json!({ "new_posts_count": 5, "last_update": "2024-03-01T12:00:00Z" });
    publish(&gateway, &post("feed_update", &update)).await?;
    publish(&gateway, &post("count_update", &count)).await?;
    publish(&gateway, &post("app:anything-else", &json!([1, "two", null]))).await?;
    let frames = alice.all_before_now(&gateway).await?;
    let told: Vec<_> =
        frames.iter().map(|f| (f["type"].as_str().unwrap_or_default(), &f["payload"])).collect();
    let anything = json!([1, "two", null]);
    assert_eq!(told, [("feed_update", &update), ("count_update", &count), ("app:anything-else", &anything)]);
    assert!(frames.iter().all(|f| f["channel"] == "feed:updates" && f["seq"].is_u64()), "{frames:?}");
    bob.heard_nothing(&gateway).await?;
    carol.heard_nothing(&gateway).await
}

#[tokio::test]
async fn reading_one_notification_or_all_is_told_to_the_user_s_other_connections_only() -> Result<()> {
    let gateway = gateway().await?;
    let mut here = Client::connect(&gateway, "alice").await?;
    let mut there = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let one = json!({ "type": "notification_read", "payload": { "notification_id": "n1", "read_at": "2024-03-01T12:05:00Z" } });
    here.accepted(one).await?;
    here.accepted(json!({ "type": "notification_read_all", "payload": {} })).await?;
    let read = there.hear("notification_read").await?;
    assert_eq!(read["payload"]["notification_id"], "n1");
    assert!(read["payload"]["read_at"].is_string(), "{read}");
    let all = there.hear("notification_read_all").await?;
    assert!(
        all["payload"]["read_at"].is_string() && all["payload"].get("notification_id").is_none(),
        "{all}"
    );
    there.heard_nothing(&gateway).await?;
    bob.heard_nothing(&gateway).await?;
    here.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_removed_member_hears_nothing_more_and_cannot_subscribe_again() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob", "carol"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let mut carol = Client::on(&gateway, "carol", ROOM).await?;
    let remove = json!({ "removeMembers": ["bob"] });
    let (status, answer) = gateway.api("PATCH", "/api/v1/conversations/room", Some(&remove)).await?;
    assert_eq!((status, &answer["members"]), (200, &json!(["alice", "carol"])), "{answer}");
    alice.say("room", "without bob").await?;
    alice.accepted(json!({ "type": "typing_start", "channel": ROOM })).await?;
    assert_eq!(carol.hear_text().await?, "without bob");
    bob.heard_nothing(&gateway).await?;
    assert_eq!(bob.not_subscribed(ROOM).await?, "CHANNEL_NOT_FOUND");
    let send = json!({ "type": "message", "channel": ROOM, "payload": { "content": "x" } });
    assert_eq!(bob.refused(send).await?["code"], "CHANNEL_NOT_FOUND");
    // Nor over a new connection that would take up the old subscriptions.
    let mut bob = bob.again(&gateway).await?;
    alice.say("room", "still without bob").await?;
    bob.heard_nothing(&gateway).await
}

#[tokio::test]
async fn an_added_member_may_subscribe_and_hears_what_comes_then() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    alice.say("room", "before").await?;
    assert_eq!(bob.not_subscribed(ROOM).await?, "CHANNEL_NOT_FOUND");
    let (status, _) =
        gateway.api("PATCH", "/api/v1/conversations/room", Some(&json!({ "addMembers": ["bob"] }))).await?;
    assert_eq!(status, 200);
    bob.subscribe(ROOM).await?;
    alice.say("room", "after").await?;
    assert_eq!(bob.hear_text().await?, "after");
    bob.heard_nothing(&gateway).await
}
