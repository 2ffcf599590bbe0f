//! ChatGenius: sending, in which order it is told to whom, and what is the same message.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::*;
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::{has_only, is_time};
use parlance_tests::io::{Came, Told, event};
use parlance_tests::stock::Report;
use parlance_tests::{Gateway, IoClient, Options, Stock, Transports, token};
use serde_json::{Value, json};
use tokio::time::Instant;

const CREATED: [&str; 9] =
    ["id", "content", "channelId", "userId", "replyToId", "deliveryStatus", "createdAt", "updatedAt", "user"];

/// No limits: for tests that send fast.
async fn unlimited(ack_level: &str) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_NO_LIMITS", "true");
    Gateway::start(options.env("PARLANCE_ACK_LEVEL", ack_level)).await
}

/// A session whose every packet is written and read by hand; it is in its channels.
async fn by_hand(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let mut io = IoClient::open(&gateway.url(PATH)).await?;
    io.join(&json!({ "token": token(user)?, "userId": user })).await?;
    io.expect("connection:success").await?;
    Ok(io)
}

#[tokio::test]
async fn a_message_is_delivered_acknowledged_and_created_in_the_documented_shapes_on_every_transport()
-> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let bob = over(&stock, &gateway, "bob", transports).await?;
        let (content, temp) = ("Hello world 👋 <b>&\"\\\n", format!("temp-{transports:?}"));
        let ack = done(&alice, "message:send", message(content, &temp)).await?;
        assert_eq!(ack["processed"], true, "{ack}");

        let delivered = expect(&alice, "message:delivered").await?;
        has_only(&delivered, &["messageId", "tempId", "status", "processed", "timestamp"])?;
        let id = text(&delivered["messageId"])?;
        let of_alice = (&delivered["tempId"], &delivered["status"], &delivered["processed"]);
        assert_eq!(of_alice, (&json!(temp), &json!("DELIVERED"), &json!(true)));
        ensure!(is_time(&delivered["timestamp"]), "{delivered}");

        let heard = [expect(&alice, "message:created").await?, expect(&bob, "message:created").await?];
        assert_eq!(heard[0], heard[1], "the sender hears what all hear");
        has_only(&heard[0], &["message", "tempId", "processed"])?;
        assert_eq!((&heard[0]["tempId"], &heard[0]["processed"]), (&json!(temp), &json!(true)));
        let created = &heard[0]["message"];
        has_only(created, &CREATED)?;
        ensure!(is_time(&created["createdAt"]) && created["updatedAt"] == created["createdAt"], "{created}");
        let expected = json!({
            "id": id, "content": content, "channelId": "room", "userId": "alice", "replyToId": null,
            "deliveryStatus": "DELIVERED", "createdAt": delivered["timestamp"], "updatedAt": delivered["timestamp"],
            "user": { "id": "alice", "name": "alice", "imageUrl": null },
        });
        assert_eq!(*created, expected);

        // What the acknowledgement says is what the others hear.
        let data = &ack["data"];
        for name in CREATED.into_iter().filter(|name| *name != "user") {
            assert_eq!(data[name], created[name], "{name}: {ack}");
        }
        let repeated = (&data["messageId"], &data["tempId"], &data["status"]);
        assert_eq!(repeated, (&json!(id), &json!(temp), &json!("DELIVERED")));
        bob.assert_none("message:delivered").await?;
        alice.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn another_socket_of_the_sender_hears_created_and_not_delivered() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    let phone = connect(&stock, &gateway, "alice").await?;
    say(&alice, "one").await?;
    let (heard, before) = until_said(&phone, "one").await?;
    assert_eq!(heard["tempId"], "one");
    ensure!(before.is_empty(), "{before:?}");
    phone.assert_none("message:delivered").await?;
    Ok(())
}

#[tokio::test]
async fn a_message_goes_out_without_an_acknowledgement_being_asked_for() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    alice.emit("message:send", &[message("one", "t")])?;
    assert_eq!(expect(&alice, "message:delivered").await?["tempId"], "t");
    until_said(&bob, "one").await?;
    Ok(())
}

#[tokio::test]
async fn delivered_comes_before_created_on_the_sending_socket_always() -> Result<()> {
    const SENDS: usize = 200;
    let (gateway, stock) = (unlimited("memory").await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let bob = over(&stock, &gateway, "bob", transports).await?;
        let temp = |who: &str, n: usize| format!("{who}-{transports:?}-{n}");
        // Both at once, nobody waits for anything; every other send asks for an acknowledgement.
        for n in 0..SENDS {
            for (socket, who) in [(&alice, "alice"), (&bob, "bob")] {
                let message = message(&temp(who, n), &temp(who, n));
                if n % 2 == 0 {
                    socket.emit_tagged("message:send", &[message])?;
                } else {
                    socket.emit("message:send", &[message])?;
                }
            }
        }
        for (socket, who) in [(&alice, "alice"), (&bob, "bob")] {
            let (mut delivered, mut created) = (HashMap::new(), Vec::new());
            while created.len() < 2 * SENDS {
                let event = socket.next_event().await.with_context(|| format!("after {}", created.len()))?;
                let temp_id = text(&event.args[0]["tempId"])?;
                match event.name.as_str() {
                    "message:delivered" => {
                        let again = delivered.insert(temp_id, event.args[0]["messageId"].clone());
                        ensure!(again.is_none(), "delivered twice: {event:?}");
                    }
                    "message:created" => {
                        let message = &event.args[0]["message"];
                        ensure!(
                            message["userId"] != who || delivered.get(&temp_id) == Some(&message["id"]),
                            "{transports:?}: created first: {event:?}"
                        );
                        created.push(temp_id);
                    }
                    _ => anyhow::bail!("{event:?}"),
                }
            }
            assert_eq!(delivered.len(), SENDS);
            let own: Vec<&String> = created.iter().filter(|temp| temp.starts_with(who)).collect();
            let expected: Vec<String> = (0..SENDS).map(|n| temp(who, n)).collect();
            ensure!(
                own.iter().map(|temp| temp.as_str()).eq(expected.iter()),
                "in the order of sending: {own:?}"
            );
        }
        alice.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn delivered_comes_before_the_acknowledgement_and_before_created_on_the_wire() -> Result<()> {
    let gateway = unlimited("file").await?;
    channel(&gateway, "room", &["alice"]).await?;
    let mut io = by_hand(&gateway, "alice").await?;
    let sends: Vec<String> = (0..200)
        .map(|n| event(Some(n), "message:send", &[message(&n.to_string(), &n.to_string())]))
        .collect();
    io.send(&sends).await?;
    let mut stage = vec![0; 200];
    while stage.last() != Some(&3) {
        let (n, is) = match io.came().await? {
            Came::Event(Told { name, args }) => {
                let n: usize = text(&args[0]["tempId"])?.parse()?;
                (n, if name == "message:delivered" { 1 } else { 3 })
            }
            Came::Ack(id, _) => (usize::try_from(id)?, 2),
            other => anyhow::bail!("{other:?}"),
        };
        ensure!(stage[n] == is - 1, "message {n}: {is} after {}", stage[n]);
        stage[n] = is;
    }
    ensure!(stage.iter().all(|at| *at == 3));
    Ok(())
}

#[tokio::test]
async fn the_same_send_in_flight_is_refused_as_already_being_processed() -> Result<()> {
    let gateway = unlimited("file").await?;
    channel(&gateway, "room", &["alice", "bob"]).await?;
    let mut bob = by_hand(&gateway, "bob").await?;
    let mut alice = by_hand(&gateway, "alice").await?;
    let twins =
        [("temp", message("with temp", "temp")), ("", json!({ "content": "bare", "channelId": "room" }))];
    for (temp, send) in twins {
        let twins = [0, 1].map(|n| event(Some(n), "message:send", std::slice::from_ref(&send)));
        alice.send(&twins).await?;
        let (mut failed, mut refused, mut accepted) = (None, None, None);
        while failed.is_none() || refused.is_none() || accepted.is_none() {
            match alice.came().await? {
                Came::Event(Told { name, args }) if name == "message:failed" => {
                    failed = args.first().cloned()
                }
                Came::Ack(1, args) => refused = args.first().cloned(),
                Came::Ack(0, args) => accepted = args.first().cloned(),
                Came::Event(..) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        let (failed, refused) = (failed.unwrap_or_default(), refused.unwrap_or_default());
        has_only(&failed, &["error", "tempId", "status", "processed", "timestamp"])?;
        let error = json!("Message already being processed");
        assert_eq!((&failed["error"], &failed["status"]), (&error, &json!("FAILED")));
        assert_eq!(failed["tempId"], if temp.is_empty() { Value::Null } else { json!(temp) });
        ensure!(failed["processed"] == true && is_time(&failed["timestamp"]), "{failed}");
        assert_eq!(refused, json!({ "success": false, "error": error, "processed": true }));
        ensure!(accepted.is_some_and(|accepted| accepted["success"] == true), "the first is carried out");
        // Heard once: what comes next to the channel is the next message.
        let fence = format!("fence {temp}");
        alice.send(&[event(None, "message:send", &[message(&fence, &fence)])]).await?;
        assert_eq!(bob.expect("message:created").await?.args[0]["message"]["content"], send["content"]);
        assert_eq!(bob.expect("message:created").await?.args[0]["message"]["content"], fence.as_str());
    }
    Ok(())
}

#[tokio::test]
async fn a_send_in_flight_does_not_stand_in_the_way_of_another() -> Result<()> {
    let gateway = unlimited("file").await?;
    channel(&gateway, "room", &["alice"]).await?;
    channel(&gateway, "side", &["alice"]).await?;
    let mut alice = by_hand(&gateway, "alice").await?;
    // Another tempId, another channel, another text: each is another message.
    let sends = [
        message("x", "a"),
        message("x", "b"),
        json!({ "content": "x", "channelId": "side", "tempId": "a" }),
        json!({ "content": "y", "channelId": "room" }),
        json!({ "content": "z", "channelId": "room" }),
    ];
    let packets: Vec<String> =
        (0..).zip(&sends).map(|(n, m)| event(Some(n), "message:send", std::slice::from_ref(m))).collect();
    alice.send(&packets).await?;
    let mut acked = 0;
    while acked < sends.len() {
        if let Came::Ack(_, args) = alice.came().await? {
            ensure!(args[0]["success"] == true, "{args:?}");
            acked += 1;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_same_temp_id_later_is_the_same_message_delivered_again_and_not_broadcast() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let first = done(&alice, "message:send", message("one", "t")).await?;
    expect(&alice, "message:delivered").await?;
    let again = done(&alice, "message:send", message("one", "t")).await?;
    let delivered = expect(&alice, "message:delivered").await?;
    for id in [&again["data"]["messageId"], &delivered["messageId"]] {
        assert_eq!(id, &first["data"]["messageId"]);
    }
    assert_eq!((&delivered["tempId"], &delivered["status"]), (&json!("t"), &json!("DELIVERED")));
    // From another device as well, and it is that device that is told.
    let phone = connect(&stock, &gateway, "alice").await?;
    let again = done(&phone, "message:send", message("one", "t")).await?;
    assert_eq!(again["data"]["messageId"], first["data"]["messageId"]);
    assert_eq!(expect(&phone, "message:delivered").await?["messageId"], first["data"]["messageId"]);
    say(&alice, "fence").await?;
    for socket in [&alice, &bob] {
        let (_, before) = until_said(socket, "fence").await?;
        assert_eq!(of(&before, "message:created").len(), 1, "{before:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_temp_id_of_another_user_or_in_another_channel_is_another_message() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    channel(&gateway, "side", &["alice", "bob"]).await?;
    let mut ids = Vec::new();
    for (socket, channel) in [(&alice, "room"), (&bob, "room"), (&alice, "side")] {
        let send = json!({ "content": "x", "channelId": channel, "tempId": "t" });
        ids.push(text(&done(socket, "message:send", send).await?["data"]["messageId"])?);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_new_temp_id_is_a_new_message() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut ids = Vec::new();
    for temp in ["a", "b"] {
        ids.push(done(&alice, "message:send", message("same", temp)).await?["data"]["messageId"].clone());
        assert_eq!(expect(&bob, "message:created").await?["tempId"], temp);
    }
    ensure!(ids[0] != ids[1], "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn without_temp_id_the_same_content_may_be_sent_again_once_it_is_answered() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    for _ in 0..2 {
        let send = json!({ "content": "same", "channelId": "room" });
        let answer = done(&alice, "message:send", send).await?;
        assert_eq!(answer["data"]["tempId"], Value::Null);
        let heard = expect(&bob, "message:created").await?;
        assert_eq!((&heard["tempId"], &heard["message"]["id"]), (&Value::Null, &answer["data"]["messageId"]));
    }
    Ok(())
}

#[tokio::test]
async fn a_reply_names_what_it_answers() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let first = say(&alice, "question").await?;
    let reply = json!({ "content": "answer", "channelId": "room", "tempId": "r", "replyToId": first });
    let acked = done(&bob, "message:send", reply).await?;
    assert_eq!(acked["data"]["replyToId"], first.as_str());
    assert_eq!(until_said(&alice, "answer").await?.0["message"]["replyToId"], first.as_str());
    Ok(())
}

#[tokio::test]
async fn the_alias_send_message_is_the_same_event() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let acked = done(&alice, "send_message", message("one", "t")).await?;
    assert_eq!(expect(&alice, "message:delivered").await?["messageId"], acked["data"]["messageId"]);
    until_said(&bob, "one").await?;
    let failed = json!({ "content": "", "channelId": "room", "tempId": "f" });
    ensure!(ask(&alice, "send_message", failed).await?["success"] == false);
    assert_eq!(expect(&alice, "message:failed").await?["tempId"], "f");
    Ok(())
}

#[tokio::test]
async fn name_and_picture_of_the_author_come_from_the_claims_of_the_token() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    let bob = connect(&stock, &gateway, "bob").await?;
    for (n, (claims, name, picture)) in [
        (
            json!({ "name": "Alice A.", "picture": "https://x.example/a.png" }),
            "Alice A.",
            "https://x.example/a.png",
        ),
        (
            json!({ "name": "Alice B.", "imageUrl": "https://x.example/b.png" }),
            "Alice B.",
            "https://x.example/b.png",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let auth = json!({ "token": token_with("alice", &claims)?, "userId": "alice" });
        let alice = stock.connect(gateway.address(), with_auth(Transports::Websocket, auth))?;
        expect(&alice, "connection:success").await?;
        let id = say(&alice, &format!("text {n}")).await?;
        let user = json!({ "id": "alice", "name": name, "imageUrl": picture });
        for socket in [&alice, &bob] {
            assert_eq!(expect(socket, "message:created").await?["message"]["user"], user);
        }
        done(&alice, "reaction:add", json!({ "messageId": id, "type": "👍" })).await?;
        assert_eq!(expect(&bob, "reaction:added").await?["reaction"]["user"], user);
        done(&alice, "typing:start", json!({ "channelId": "room" })).await?;
        assert_eq!(expect(&bob, "typing:start").await?["user"], user);
        done(&alice, "typing:stop", json!({ "channelId": "room" })).await?;
        alice.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_missed_during_a_cut_comes_before_the_socket_is_connected_again() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    say(&bob, "before").await?;
    until_said(&alice, "before").await?;
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    say(&bob, "meanwhile").await?;
    let connected = alice.expect_connect().await?;
    ensure!(connected.recovered, "{connected:?}");
    let heard = alice.queued().await?;
    let is = |r: &&Report| matches!(r, Report::Event(e) if e.name == "message:created");
    assert_eq!(heard.iter().filter(is).count(), 1, "before connect, once: {heard:?}");
    say(&bob, "after").await?;
    let (_, before) = until_said(&alice, "after").await?;
    assert_eq!(of(&before, "message:created")[0]["message"]["content"], "meanwhile");
    assert_eq!(of(&before, "message:created").len(), 1, "{before:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_reaches_the_channel_within_half_a_second() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut best = Duration::MAX;
    // The best of some: the machine is busy with other tests.
    for n in 0..5 {
        let sent = Instant::now();
        alice.emit("message:send", &[message(&n.to_string(), &n.to_string())])?;
        until_said(&bob, &n.to_string()).await?;
        best = best.min(sent.elapsed());
    }
    ensure!(best < Duration::from_millis(500), "{best:?}");
    Ok(())
}
