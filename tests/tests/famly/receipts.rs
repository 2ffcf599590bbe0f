//! famly: read cursors, and who hears that one moved.

use crate::support::{
    CHAT, NO_MESSAGE, OTHER, World, caught_up, done, heard, heard_until, message, ok, send,
};
use anyhow::{Context, Result, ensure};
use parlance_tests::StockSocket;
use parlance_tests::exact::{is_time, keys};
use serde_json::{Value, json};

fn read(message_id: &str) -> Value {
    json!({ "chatId": CHAT, "messageId": message_id })
}

/// Sends so many messages; their ids.
async fn sent(socket: &StockSocket, count: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(send(socket, &message(&format!("m{n}"))).await?);
    }
    Ok(ids)
}

/// The last message a user has read, as the backfill says.
async fn cursor(world: &World, user: &str) -> Result<Value> {
    let (status, body) = world.backfill(user, "c1/cursors").await?;
    ensure!(status == 200 && keys(&body) == ["cursors"], "{status} {body}");
    let cursors = body["cursors"].as_array().context("no list")?;
    Ok(cursors.iter().find(|cursor| cursor["userId"] == user).cloned().unwrap_or_default())
}

#[tokio::test]
async fn receipt_read_is_acked_with_its_time_and_receipt_update_told_to_the_room() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, carol) = (world.inside("alice").await?, world.user("carol").await?);
    let (phone, tablet) = (world.inside("bob").await?, world.inside("bob").await?);
    let ids = sent(&alice, 1).await?;
    let data = ok(&phone, "receipt:read", read(&ids[0])).await?;
    ensure!(keys(&data) == ["readAt"] && is_time(&data["readAt"]), "{data}");
    let update = json!({ "chatId": CHAT, "messageId": ids[0], "userId": "bob", "readAt": data["readAt"] });
    // The reader's other device hears of it, the reading one knows.
    for socket in [&alice, &tablet] {
        assert_eq!(heard(socket, "receipt:update").await?, update);
    }
    caught_up(&world, &phone, (CHAT, "alice")).await?;
    phone.assert_none("receipt:update").await?;
    caught_up(&world, &carol, (CHAT, "alice")).await?;
    carol.assert_none("receipt:update").await?;
    let cursor = cursor(&world, "bob").await?;
    assert_eq!(cursor, json!({ "userId": "bob", "messageId": ids[0], "readAt": data["readAt"] }));
    Ok(())
}

#[tokio::test]
async fn receipt_read_checks_form_then_membership_then_the_message_then_its_chat() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob, mallory) =
        (world.inside("alice").await?, world.inside("bob").await?, world.user("mallory").await?);
    let here = send(&alice, &message("here")).await?;
    let there = send(&alice, &json!({ "chatId": OTHER, "body": "b", "clientId": "there" })).await?;
    let ill_formed = [
        json!({ "chatId": CHAT }),
        json!({ "messageId": here }),
        read(""),
        read("not a message id"),
        json!({ "chatId": CHAT, "messageId": 7 }),
        json!({ "chatId": CHAT, "messageId": null }),
        json!({ "chatId": "", "messageId": here }),
    ];
    for payload in &ill_formed {
        for socket in [&bob, &mallory] {
            world.refused(socket, "receipt:read", std::slice::from_ref(payload), "VALIDATION_ERROR").await?;
        }
    }
    world.refused(&bob, "receipt:read", &[], "VALIDATION_ERROR").await?;
    // Whether a message exists is nobody's business but its members'.
    for id in [here.as_str(), there.as_str(), NO_MESSAGE] {
        world.refused(&mallory, "receipt:read", &[read(id)], "FORBIDDEN").await?;
        let nowhere = json!({ "chatId": "nowhere", "messageId": id });
        world.refused(&bob, "receipt:read", &[nowhere], "FORBIDDEN").await?;
    }
    world.refused(&bob, "receipt:read", &[read(NO_MESSAGE)], "NOT_FOUND").await?;
    world.refused(&alice, "receipt:read", &[read(&there)], "VALIDATION_ERROR").await?;
    assert_eq!(cursor(&world, "bob").await?, Value::Null, "nothing of that moved a cursor");
    ok(&bob, "receipt:read", read(&here)).await?;
    assert_eq!(heard(&alice, "receipt:update").await?["messageId"], here, "the first that is told");
    Ok(())
}

#[tokio::test]
async fn not_found_for_a_message_that_does_not_exist() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let id = send(&alice, &message("m")).await?;
    // The very next one, one long past, and what is no id of this server's.
    let (start, offset) = id.split_at(16);
    let next = format!("{start}{:08x}", u32::from_str_radix(offset, 16)? + 1);
    for missing in [next.as_str(), &format!("{start}00000000"), NO_MESSAGE, &"0".repeat(24), &"f".repeat(24)]
    {
        world.refused(&bob, "receipt:read", &[read(missing)], "NOT_FOUND").await?;
    }
    // A refused read leaves the cursor where it is.
    ok(&bob, "receipt:read", read(&id)).await?;
    assert_eq!(heard(&alice, "receipt:update").await?["messageId"], id);
    Ok(())
}

#[tokio::test]
async fn an_older_message_is_acked_and_moves_nothing() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let ids = sent(&alice, 4).await?;
    ok(&bob, "receipt:read", read(&ids[2])).await?;
    for older in [0, 1, 2] {
        let data = ok(&bob, "receipt:read", read(&ids[older])).await?;
        ensure!(is_time(&data["readAt"]), "{data}");
    }
    assert_eq!(cursor(&world, "bob").await?["messageId"], ids[2]);
    ok(&bob, "receipt:read", read(&ids[3])).await?;
    let told = heard_until(&alice, "receipt:update", |u| u["messageId"] == ids[3]).await?;
    let told: Vec<_> = told.iter().map(|update| &update["messageId"]).collect();
    assert_eq!(told, [&ids[2], &ids[3]]);
    Ok(())
}

#[tokio::test]
async fn concurrent_reads_end_at_the_newest_message() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.inside("alice").await?;
    let (phone, tablet) = (world.inside("bob").await?, world.inside("bob").await?);
    let ids = sent(&alice, 10).await?;
    let mut tags = Vec::new();
    // Each in an order of its own.
    for step in 0..10 {
        tags.push((&phone, phone.emit_tagged("receipt:read", &[read(&ids[(step * 7 + 3) % 10])])?));
        tags.push((&tablet, tablet.emit_tagged("receipt:read", &[read(&ids[(step * 3 + 8) % 10])])?));
    }
    for (socket, tag) in tags {
        done(&socket.acked(tag).await?)?;
    }
    assert_eq!(cursor(&world, "bob").await?["messageId"], ids[9]);
    let told = heard_until(&alice, "receipt:update", |u| u["messageId"] == ids[9]).await?;
    let told: Vec<_> = told.iter().map(|update| update["messageId"].as_str().unwrap_or_default()).collect();
    ensure!(told.is_sorted() && told.windows(2).all(|pair| pair[0] != pair[1]), "backward: {told:?}");
    caught_up(&world, &alice, (CHAT, "carol")).await?;
    alice.assert_none("receipt:update").await?;
    Ok(())
}

#[tokio::test]
async fn cursors_persist_across_reconnects_and_are_each_users_own() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let ids = sent(&alice, 3).await?;
    ok(&bob, "receipt:read", read(&ids[1])).await?;
    ok(&alice, "receipt:read", read(&ids[2])).await?;
    bob.disconnect()?;
    world.gateway.until_presence("bob", "devices", 0).await?;
    let bob = world.inside("bob").await?;
    assert_eq!(cursor(&world, "bob").await?["messageId"], ids[1]);
    assert_eq!(cursor(&world, "alice").await?["messageId"], ids[2]);
    ok(&bob, "receipt:read", read(&ids[0])).await?;
    assert_eq!(cursor(&world, "bob").await?["messageId"], ids[1], "still only forward");
    Ok(())
}
