//! SocialHub and the server API: what the application's backend does and what clients see of it.

use crate::support::{Client, conversation, gateway, until_devices};
use anyhow::Result;
use serde_json::{Value, json};

const ROOM: &str = "conversation:room";

#[tokio::test]
async fn every_call_needs_the_key() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let room = "/api/v1/conversations/room";
    let publish = json!({ "channel": "feed:updates", "type": "feed_update", "payload": {} });
    let user_token = parlance_tests::token("alice")?;
    for (method, path, body) in [
        ("POST", "/api/v1/conversations", Some(json!({ "id": "x", "type": "group", "members": [] }))),
        ("GET", room, None),
        ("PATCH", room, Some(json!({ "addMembers": ["mallory"] }))),
        ("DELETE", room, None),
        ("GET", "/api/v1/conversations/room/messages", None),
        ("POST", "/api/v1/conversations/room/messages", Some(json!({ "senderId": "alice", "body": "x" }))),
        ("POST", "/api/v1/publish", Some(publish)),
        ("GET", "/api/v1/users/alice/presence", None),
        ("POST", "/api/v1/users/alice/disconnect", None),
        ("POST", "/api/v1/presence", Some(json!({ "users": ["alice"] }))),
        ("PUT", "/api/v1/maintenance", Some(json!({ "enabled": true }))),
        ("GET", "/api/v1/nodes", None),
    ] {
        for key in [None, Some(""), Some("wrong"), Some("test-api-ke"), Some(user_token.as_str())] {
            let answer = gateway.internal(method, path, key, body.as_ref()).await?;
            assert_eq!(answer.status, 401, "{method} {path} {key:?}");
            assert_eq!(answer.json()?["error"]["code"], "UNAUTHORIZED", "{method} {path} {key:?}");
        }
    }
    let (status, room) = gateway.api("GET", room, None).await?;
    assert_eq!((status, &room["members"]), (200, &json!(["alice"])), "nothing was done");
    Ok(())
}

#[tokio::test]
async fn the_server_api_is_not_on_the_public_listener() -> Result<()> {
    let gateway = gateway().await?;
    for path in ["/api/v1/nodes", "/api/v1/users/alice/presence", "/metrics"] {
        let answer = gateway.public("GET", path, Some(parlance_tests::API_KEY)).await?;
        assert_eq!(answer.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn unknown_and_ill_typed_fields_are_refused_and_nothing_is_done() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let room = "/api/v1/conversations/room";
    let messages = "/api/v1/conversations/room/messages";
    for (method, path, body) in [
        (
            "POST",
            "/api/v1/conversations",
            json!({ "id": "x", "type": "group", "members": ["a"], "extra": 1 }),
        ),
        ("POST", "/api/v1/conversations", json!({ "id": "x", "type": "party", "members": ["a"] })),
        ("POST", "/api/v1/conversations", json!({ "id": "not an id", "type": "group", "members": ["a"] })),
        ("POST", "/api/v1/conversations", json!({ "id": "x", "type": "group", "members": ["not an id"] })),
        ("POST", "/api/v1/conversations", json!({ "id": "x", "type": "group", "members": "alice" })),
        ("POST", "/api/v1/conversations", json!({ "id": "x", "type": "group" })),
        ("POST", "/api/v1/conversations", json!([])),
        ("PATCH", room, json!({ "members": ["bob"] })),
        ("PATCH", room, json!({ "addMembers": ["bob"], "removeMembers": ["bob"] })),
        ("POST", messages, json!({ "senderId": "alice", "body": "x", "extra": 1 })),
        ("POST", messages, json!({ "senderId": "alice", "body": "" })),
        ("POST", messages, json!({ "senderId": "alice" })),
        (
            "POST",
            "/api/v1/publish",
            json!({ "channel": "feed:updates", "type": "x", "payload": {}, "extra": 1 }),
        ),
        ("POST", "/api/v1/publish", json!({ "channel": "feed:updates", "type": "x" })),
        (
            "POST",
            "/api/v1/publish",
            json!({ "channel": "feed:updates", "type": "not a type", "payload": {} }),
        ),
        ("POST", "/api/v1/publish", json!({ "channel": "nonsense", "type": "x", "payload": {} })),
        ("POST", "/api/v1/publish", json!({ "channel": "notifications", "type": "x", "payload": {} })),
        ("POST", "/api/v1/publish", json!({ "channel": ROOM, "type": "x", "payload": {} })),
        ("POST", "/api/v1/presence", json!({ "users": ["alice"], "extra": 1 })),
        ("POST", "/api/v1/users/alice/disconnect", json!({ "reason": "x", "extra": 1 })),
        ("PUT", "/api/v1/maintenance", json!({ "enabled": "yes" })),
    ] {
        let (status, answer) = gateway.api(method, path, Some(&body)).await?;
        assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        let error = &answer["error"];
        assert!(error["message"].is_string() && error["correlationId"].is_string(), "{answer}");
        assert_eq!(error["code"], "INVALID_REQUEST", "{body}: {answer}");
    }
    let (status, _) = gateway.api("GET", "/api/v1/conversations/x", None).await?;
    assert_eq!(status, 404);
    let (_, history) = gateway.api("GET", messages, None).await?;
    assert_eq!(history["messages"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_conversation_is_created_read_changed_and_deleted() -> Result<()> {
    let gateway = gateway().await?;
    let create = json!({ "id": "room", "type": "group", "title": "Room", "members": ["alice", "bob"], "createdBy": "alice" });
    let (status, created) = gateway.api("POST", "/api/v1/conversations", Some(&create)).await?;
    assert_eq!(status, 201, "{created}");
    for (field, expected) in [
        ("id", json!("room")),
        ("type", json!("group")),
        ("title", json!("Room")),
        ("createdBy", json!("alice")),
    ] {
        assert_eq!(created[field], expected, "{created}");
    }
    let room = "/api/v1/conversations/room";
    assert_eq!(gateway.api("GET", room, None).await?, (200, created));

    // The same call again is the same conversation, with these members.
    let again = json!({ "id": "room", "type": "group", "members": ["alice", "bob", "carol"] });
    let (status, changed) = gateway.api("POST", "/api/v1/conversations", Some(&again)).await?;
    assert_eq!(
        (status, &changed["members"], &changed["title"]),
        (200, &json!(["alice", "bob", "carol"]), &json!("Room"))
    );

    let patch = json!({ "title": null, "addMembers": ["dave"], "removeMembers": ["bob"] });
    let (status, changed) = gateway.api("PATCH", room, Some(&patch)).await?;
    assert_eq!((status, &changed["title"]), (200, &Value::Null));
    assert_eq!(changed["members"], json!(["alice", "carol", "dave"]));

    assert_eq!(gateway.api("DELETE", room, None).await?, (204, Value::Null));
    for (method, body) in [("GET", None), ("PATCH", Some(json!({ "title": "x" }))), ("DELETE", None)] {
        let (status, answer) = gateway.api(method, room, body.as_ref()).await?;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("NOT_FOUND")), "{method}");
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_conversation_is_silent_and_not_found() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let (status, _) = gateway.api("DELETE", "/api/v1/conversations/room", None).await?;
    assert_eq!(status, 204);
    let send = json!({ "type": "message", "channel": ROOM, "payload": { "content": "x" } });
    assert_eq!(alice.refused(send).await?["code"], "CHANNEL_NOT_FOUND");
    assert_eq!(alice.not_subscribed(ROOM).await?, "CHANNEL_NOT_FOUND");
    // One of the same name is another one: who was in the old one is not in it.
    conversation(&gateway, "room", &["bob"]).await?;
    Client::connect(&gateway, "bob").await?.say("room", "not for alice").await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_conversation_created_again_starts_with_nothing_of_the_old_one() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let old = alice.say("room", "old").await?;
    alice.hear("message").await?;
    gateway.api("DELETE", "/api/v1/conversations/room", None).await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let (_, history) = gateway.api("GET", "/api/v1/conversations/room/messages", None).await?;
    assert_eq!(history["messages"], json!([]));
    alice.subscribe(ROOM).await?;
    let new = alice.say("room", "new").await?;
    assert_ne!(old, new, "ids are never used again");
    assert_eq!(alice.hear("message").await?["id"], new);
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_message_on_behalf_reaches_subscribers_like_any_other() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let messages = "/api/v1/conversations/room/messages";
    let body = json!({ "senderId": "alice", "body": "hello", "clientId": "c1", "metadata": { "a": 1 } });
    let (status, first) = gateway.api("POST", messages, Some(&body)).await?;
    assert_eq!((status, &first["duplicate"]), (201, &json!(false)), "{first}");
    for client in [&mut alice, &mut bob] {
        let payload = client.hear("message").await?["payload"].clone();
        assert_eq!((&payload["sender_id"], &payload["content"]), (&json!("alice"), &json!("hello")));
        assert_eq!((&payload["client_id"], &payload["metadata"]), (&json!("c1"), &json!({ "a": 1 })));
    }
    let (status, second) = gateway.api("POST", messages, Some(&body)).await?;
    assert_eq!((status, &second["duplicate"], &second["id"]), (200, &json!(true), &first["id"]));
    // The client's own resend is the same message, too.
    let resend =
        json!({ "type": "message", "channel": ROOM, "payload": { "content": "hello", "client_id": "c1" } });
    assert_eq!(alice.accepted(resend).await?["duplicate"], true);
    bob.heard_nothing(&gateway).await
}

#[tokio::test]
async fn only_members_are_written_for_and_only_where_there_is_something() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    for (room, sender, expected) in [("room", "mallory", 403), ("nowhere", "alice", 404)] {
        let path = format!("/api/v1/conversations/{room}/messages");
        let body = json!({ "senderId": sender, "body": "x" });
        let (status, answer) = gateway.api("POST", &path, Some(&body)).await?;
        assert_eq!(status, expected, "{answer}");
    }
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn history_is_paged_by_the_ids_clients_know() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut sent = Vec::new();
    for n in 0..6 {
        sent.push(alice.say("room", &format!("{n}")).await?);
    }
    for (query, expected, more) in [
        (String::new(), &["0", "1", "2", "3", "4", "5"][..], false),
        ("?limit=2".to_owned(), &["4", "5"], true),
        (format!("?after={}&limit=2", sent[1]), &["2", "3"], true),
        (format!("?before={}&limit=2", sent[2]), &["0", "1"], false),
        (format!("?since={}", sent[4]), &["5"], false),
        (format!("?after={}", sent[5]), &[], false),
    ] {
        let path = format!("/api/v1/conversations/room/messages{query}");
        let (status, page) = gateway.api("GET", &path, None).await?;
        assert_eq!(status, 200, "{query}: {page}");
        let bodies: Vec<_> = page["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|m| m["body"].as_str().unwrap_or_default())
            .collect();
        assert_eq!((&bodies[..], &page["has_more"]), (expected, &json!(more)), "{query}");
    }
    for query in ["?after=nonsense", "?limit=many", "?unknown=1", "?after=1&since=2"] {
        let path = format!("/api/v1/conversations/room/messages{query}");
        assert_eq!(gateway.api("GET", &path, None).await?.0, 400, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn presence_is_answered_for_one_and_for_many() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let _second = Client::connect(&gateway, "alice").await?;
    let bob = Client::connect(&gateway, "bob").await?;
    alice.be("busy").await?;
    bob.ws.close(1000).await?;
    until_devices(&gateway, "bob", 0).await?;
    let (status, one) = gateway.api("GET", "/api/v1/users/alice/presence", None).await?;
    assert_eq!(
        (status, &one["userId"], &one["status"], &one["devices"]),
        (200, &json!("alice"), &json!("busy"), &json!(2))
    );
    let ask = json!({ "users": ["nobody", "alice", "bob"] });
    let (status, many) = gateway.api("POST", "/api/v1/presence", Some(&ask)).await?;
    assert_eq!(status, 200);
    let shown: Vec<_> =
        many["users"].as_array().into_iter().flatten().map(|u| (&u["userId"], &u["status"])).collect();
    let word = |text: &str| json!(text);
    assert_eq!(shown[0], (&word("nobody"), &word("offline")));
    assert_eq!(shown[1], (&word("alice"), &word("busy")));
    assert_eq!(shown[2], (&word("bob"), &word("offline")));
    assert_eq!(many["users"][0]["lastSeen"], Value::Null, "never seen");
    assert!(many["users"][2]["lastSeen"].is_string(), "{many}");
    Ok(())
}

#[tokio::test]
async fn disconnect_closes_all_connections_of_the_user_and_no_other() -> Result<()> {
    let gateway = gateway().await?;
    let mut alices = Vec::new();
    for _ in 0..3 {
        alices.push(Client::connect(&gateway, "alice").await?);
    }
    let mut bob = Client::connect(&gateway, "bob").await?;
    let body = json!({ "reason": "signed out everywhere", "reconnect": false });
    let (status, answer) = gateway.api("POST", "/api/v1/users/alice/disconnect", Some(&body)).await?;
    assert_eq!((status, &answer["userId"]), (202, &json!("alice")), "{answer}");
    for alice in &mut alices {
        assert_eq!(alice.ws.closed().await?, Some(1008));
    }
    until_devices(&gateway, "alice", 0).await?;
    bob.heard_nothing(&gateway).await?;

    // By default they may come back. One that came just now goes too.
    for _ in 0..20 {
        let mut alice = Client::connect(&gateway, "alice").await?;
        gateway.api("POST", "/api/v1/users/alice/disconnect", None).await?;
        assert_eq!(alice.ws.closed().await?, Some(1012));
    }
    Ok(())
}
