//! famly: sending messages, their ids, and who hears of them.

use crate::support::{
    CHAT, OTHER, World, caught_up, done, heard, is_message_id, join, left_over, message, ok, send, server_id,
};
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::{is_time, keys};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{ConnectOptions, Options, SECRET, Transports};
use serde_json::{Value, json};

#[tokio::test]
async fn message_send_is_acked_with_its_id_and_heard_by_the_whole_room() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let client_id = "0b0e1f64-5a3f-4ef8-9b62-7b0d3f6f1f11";
    let sent = json!({ "chatId": CHAT, "body": "Hello, \"World\"! é😀\n", "clientId": client_id });
    let id = send(&alice, &sent).await?;
    // Sender included: the client id is there for its deduplication.
    for socket in [&alice, &bob] {
        let new = heard(socket, "message:new").await?;
        assert_eq!(
            keys(&new),
            ["_id", "body", "chatId", "clientId", "createdAt", "message", "senderId"],
            "{new}"
        );
        ensure!(is_time(&new["createdAt"]), "{new}");
        let nested = json!({
            "_id": id, "chatId": CHAT, "senderId": "alice", "body": sent["body"], "clientId": client_id,
            "createdAt": new["createdAt"], "editedAt": null, "deleted": false,
        });
        assert_eq!(new["message"], nested);
        for field in ["_id", "chatId", "senderId", "body", "clientId"] {
            assert_eq!(new[field], nested[field], "{field}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn ids_compare_in_order_of_age() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let mut ids = Vec::new();
    for n in 0..5 {
        for (who, socket) in [("a", &alice), ("b", &bob)] {
            ids.push(send(socket, &message(&format!("{who}{n}"))).await?);
        }
    }
    ensure!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    for id in &ids {
        assert_eq!(&heard(&bob, "message:new").await?["_id"], id, "heard in the order of the ids");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_has_1_to_8000_characters_whatever_their_bytes() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.inside("alice").await?;
    let send_body =
        |body: String| json!({ "chatId": CHAT, "body": body, "clientId": format!("c-{}", body.len()) });
    for (character, count) in [("x", 1), ("x", 8000), ("é", 8000), ("😀", 8000), (" ", 1)] {
        let body = character.repeat(count);
        let payload = json!({ "chatId": CHAT, "body": body, "clientId": format!("{character}{count}") });
        send(&alice, &payload).await.with_context(|| format!("{count} × {character:?}"))?;
        assert_eq!(heard(&alice, "message:new").await?["body"], body);
    }
    for body in [String::new(), "x".repeat(8001), "é".repeat(8001), "😀".repeat(8001)] {
        world.refused(&alice, "message:send", &[send_body(body)], "VALIDATION_ERROR").await?;
    }
    alice.assert_none("message:new").await?;
    Ok(())
}

#[tokio::test]
async fn validation_error_for_a_message_with_a_missing_or_wrong_field() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.inside("alice").await?;
    let mut wrong: Vec<Vec<Value>> = vec![vec![], vec![json!("text")], vec![json!([])], vec![Value::Null]];
    for field in ["chatId", "body", "clientId"] {
        let mut without = message("m");
        without.as_object_mut().context("an object")?.remove(field);
        wrong.push(vec![without]);
        for value in [Value::Null, json!(7), json!(true), json!({ "x": 1 }), json!(["m"]), json!("")] {
            let mut changed = message("m");
            changed[field] = value;
            wrong.push(vec![changed]);
        }
    }
    for id in ["x".repeat(129), "line\nbreak".to_owned()] {
        wrong.push(vec![json!({ "chatId": CHAT, "body": "b", "clientId": id })]);
    }
    // More than any budget: what is ill-formed consumes none.
    for args in &wrong {
        world.refused(&alice, "message:send", args, "VALIDATION_ERROR").await?;
    }
    send(&alice, &message("good")).await?;
    assert_eq!(heard(&alice, "message:new").await?["clientId"], "good", "and nothing before it");
    Ok(())
}

#[tokio::test]
async fn a_message_of_a_non_member_or_to_an_unknown_chat_is_forbidden() -> Result<()> {
    let world = World::shipped().await?;
    let (bob, mallory) = (world.inside("bob").await?, world.user("mallory").await?);
    let foreign = world.refused(&mallory, "message:send", &[message("m")], "FORBIDDEN").await?;
    let nowhere = json!({ "chatId": "nowhere", "body": "b", "clientId": "n" });
    let unknown = world.refused(&mallory, "message:send", &[nowhere], "FORBIDDEN").await?;
    assert_eq!(foreign, unknown);
    // A member need not have joined.
    let alice = world.user("alice").await?;
    send(&alice, &message("from outside")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "from outside");
    alice.assert_none("message:new").await?;
    Ok(())
}

#[tokio::test]
async fn a_resend_is_acked_with_the_same_server_id_and_not_broadcast_again() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let id = send(&alice, &message("m")).await?;
    assert_eq!(send(&alice, &message("m")).await?, id);
    let changed = json!({ "chatId": CHAT, "body": "another text", "clientId": "m" });
    assert_eq!(send(&alice, &changed).await?, id, "the client id decides, not the text");
    let again = world.user("alice").await?;
    assert_eq!(send(&again, &message("m")).await?, id, "over another connection");
    // Client ids are each author's own.
    let of_bob = send(&bob, &message("m")).await?;
    assert_ne!(of_bob, id);
    assert_eq!(heard(&bob, "message:new").await?["body"], "text of m");
    assert_eq!(heard(&bob, "message:new").await?["_id"], of_bob, "alice's was broadcast once");
    let (_, page) = world.backfill("bob", "c1/messages").await?;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(2), "{page}");
    Ok(())
}

#[tokio::test]
async fn a_resend_after_a_restart_of_the_server_is_the_same_message() -> Result<()> {
    let mut world = World::start(Options::default()).await?;
    let alice = world.user("alice").await?;
    let id = send(&alice, &message("m")).await?;
    world.gateway.restart().await?;
    alice.expect_disconnect().await?;
    alice.expect_connect().await?;
    assert_eq!(send(&alice, &message("m")).await?, id);
    let (_, page) = world.backfill("alice", "c1/messages").await?;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1), "{page}");
    Ok(())
}

#[tokio::test]
async fn concurrent_resends_on_two_sockets_are_one_message() -> Result<()> {
    let world = World::shipped().await?;
    let (phone, tablet, bob) =
        (world.user("alice").await?, world.user("alice").await?, world.inside("bob").await?);
    for round in 0..5 {
        let sent = message(&format!("m{round}"));
        let mut tags = Vec::new();
        for _ in 0..10 {
            for socket in [&phone, &tablet] {
                tags.push((socket, socket.emit_tagged("message:send", std::slice::from_ref(&sent))?));
            }
        }
        let mut ids = Vec::new();
        for (socket, tag) in tags {
            ids.push(server_id(&done(&socket.acked(tag).await?)?, &sent)?);
        }
        ids.dedup();
        ensure!(ids.len() == 1, "several ids: {ids:?}");
        assert_eq!(heard(&bob, "message:new").await?["_id"], ids[0], "once per round");
    }
    caught_up(&world, &bob, (CHAT, "carol")).await?;
    assert_eq!(heard(&bob, "message:new").await?["senderId"], "carol", "the marker");
    Ok(())
}

#[tokio::test]
async fn message_notification_goes_to_every_other_member_joined_or_not_and_never_to_the_author() -> Result<()>
{
    let world = World::shipped().await?;
    let (alice, tablet) = (world.inside("alice").await?, world.user("alice").await?);
    let (bob, carol) = (world.inside("bob").await?, world.user("carol").await?);
    let id = send(&alice, &message("m")).await?;
    let new = heard(&bob, "message:new").await?;
    for member in [&bob, &carol] {
        let told = heard(member, "message:notification").await?;
        assert_eq!(told, json!({ "chatId": CHAT, "message": new["message"] }));
        ensure!(told["message"]["_id"] == id.as_str() && is_message_id(&id), "{told}");
    }
    carol.assert_none("message:new").await?;
    assert_eq!(heard(&alice, "message:new").await?["_id"], id);
    // The author's devices are told of somebody else's message only.
    send(&bob, &message("answer")).await?;
    for device in [&alice, &tablet] {
        assert_eq!(heard(device, "message:notification").await?["message"]["clientId"], "answer");
        device.assert_none("message:notification").await?;
    }
    tablet.assert_none("message:new").await?;
    bob.assert_none("message:notification").await?;
    Ok(())
}

#[tokio::test]
async fn the_authors_other_device_in_the_room_hears_message_new() -> Result<()> {
    let world = World::shipped().await?;
    let (phone, tablet) = (world.inside("alice").await?, world.inside("alice").await?);
    let id = send(&phone, &message("m")).await?;
    assert_eq!(heard(&tablet, "message:new").await?["_id"], id);
    caught_up(&world, &tablet, (CHAT, "bob")).await?;
    heard(&tablet, "message:new").await?;
    let over = left_over(&tablet).await?;
    ensure!(over.is_empty(), "{over:?}");
    Ok(())
}

#[tokio::test]
async fn echo_to_sender_false_leaves_out_the_sending_socket_alone() -> Result<()> {
    let world = World::mounted("echo_to_sender = false").await?;
    let (phone, tablet, bob) =
        (world.inside("alice").await?, world.inside("alice").await?, world.inside("bob").await?);
    for round in 0..3 {
        let id = send(&phone, &message(&format!("m{round}"))).await?;
        // A resend changes nothing about who hears what.
        assert_eq!(send(&phone, &message(&format!("m{round}"))).await?, id);
        for socket in [&tablet, &bob] {
            assert_eq!(heard(socket, "message:new").await?["_id"], id);
        }
    }
    let id = send(&tablet, &message("from the tablet")).await?;
    assert_eq!(heard(&phone, "message:new").await?["_id"], id, "only what it sent itself is left out");
    assert_eq!(heard(&bob, "message:new").await?["_id"], id);
    caught_up(&world, &tablet, (CHAT, "bob")).await?;
    assert_eq!(heard(&tablet, "message:new").await?["senderId"], "bob", "the marker");
    Ok(())
}

#[tokio::test]
async fn the_sender_is_whom_the_token_names_and_nobody_else() -> Result<()> {
    let world = World::shipped().await?;
    let bob = world.inside("bob").await?;
    let claims =
        json!({ "sub": "alice", "userId": "carol", "exp": expiry(std::time::Duration::from_secs(60)) });
    let auth = json!({ "token": sign(&claims, SECRET)?, "user": "carol", "sub": "carol" });
    let options = ConnectOptions::new(Transports::Websocket).auth(auth).query("userId", "carol");
    let alice = world.open(options)?;
    alice.expect_connect().await?;
    let mut forged = message("m");
    for field in ["senderId", "userId", "from", "sub"] {
        forged[field] = json!("carol");
    }
    send(&alice, &forged).await?;
    assert_eq!(heard(&bob, "message:new").await?["senderId"], "alice");
    join(&alice, CHAT).await?;
    ok(&alice, "room:join", json!({ "chatId": OTHER, "userId": "carol" })).await?;
    alice.emit("typing:start", &[json!({ "chatId": CHAT, "userId": "carol" })])?;
    assert_eq!(heard(&bob, "typing:update").await?["userId"], "alice");
    Ok(())
}
