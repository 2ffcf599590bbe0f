//! Sending: acknowledgements and their order (2.3), resends (2.4), the shape of a message, its text.

use std::collections::BTreeSet;

use crate::support::{World, claims, fence, is_offset, join, refused, send, texts};
use anyhow::{Context, Result, bail, ensure};
use parlance_tests::{StockSocket, Transports};
use serde_json::{Value, json};

/// A text of so many characters, each of four bytes.
fn long(characters: usize) -> String {
    "👋".repeat(characters)
}

/// The next answer to a send: the id of `message:ack`, or the sentence of `error`.
async fn answer(socket: &StockSocket) -> Result<Result<(u64, Value), String>> {
    loop {
        let mut event = socket.next_event().await?;
        match event.name.as_str() {
            "message:ack" => {
                let id = event.args[0].as_u64().with_context(|| format!("{event:?}"))?;
                return Ok(Ok((id, event.args.remove(1))));
            }
            "error" => return Ok(Err(event.args[0].as_str().unwrap_or_default().to_owned())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn r2_3_1_a_saved_message_is_acknowledged() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let alice = world.connect("alice").await?;
    // With an acknowledgement of the packet: the event comes first, and both name the message.
    let message = json!({ "text": "one", "clientMessageId": "c-1" });
    let tag = alice.emit_tagged("message:send", &[json!("room"), message])?;
    let event = alice.expect_event("message:ack").await?;
    assert_eq!(event.ack, None);
    let id = event.args[0].as_u64().context("the id is a number")?;
    let told = json!({ "clientMessageId": "c-1", "conversationId": "room", "duplicate": false });
    assert_eq!(event.args, [json!(id), told]);
    assert_eq!(alice.acked(tag).await?, [json!({ "success": true, "messageId": id })]);
    // It is saved by then.
    let saved = world.history("bob", "room", "").await?;
    assert_eq!(saved["messages"][0]["id"], id);

    // Without one, as the application sends it; the conversation is called as the client called it.
    alice.emit("message:send", &[json!(number), json!({ "text": "two" })])?;
    let (second, told) = answer(&alice).await?.map_err(anyhow::Error::msg)?;
    assert!(second > id && second <= 1 << 53, "{id} {second}");
    assert_eq!(told, json!({ "clientMessageId": null, "conversationId": number, "duplicate": false }));
    assert_eq!(world.history("bob", "room", "").await?["messages"][1]["id"], second);
    Ok(())
}

#[tokio::test]
async fn r2_3_1_acknowledgements_come_in_the_order_of_the_sends() -> Result<()> {
    let world = World::unlimited().await?;
    world.room("room", &["alice"]).await?;
    world.room("other", &["alice"]).await?;
    let alice = world.joined("alice", "room").await?;
    // All under way at once. What is refused is refused in its turn, whatever it is refused for.
    for n in 0..60 {
        let id = format!("c-{n}");
        let text = json!({ "text": id, "clientMessageId": id });
        match n % 6 {
            0 | 3 => alice.emit("message:send", &[json!("room"), text])?,
            1 => alice.emit("message:send", &[json!("other"), text])?,
            2 => alice.emit(
                "message:send",
                &[json!("room"), json!({ "text": long(1001), "clientMessageId": id })],
            )?,
            4 => alice.emit("message:send", &[json!("not-mine"), text])?,
            _ => alice.emit("no:such:event", &[json!("room")])?,
        }
    }
    let mut ids = Vec::new();
    for n in 0..60 {
        match (n % 6, answer(&alice).await?) {
            (0 | 1 | 3, Ok((id, told))) => {
                assert_eq!(told["clientMessageId"], format!("c-{n}"));
                ids.push(id);
            }
            (2, Err(sentence)) => assert_eq!(sentence, "text must be 1 to 1000 characters"),
            (4, Err(sentence)) => assert_eq!(sentence, "not a member of this conversation"),
            (5, Err(sentence)) => assert_eq!(sentence, "Unknown event"),
            (_, other) => bail!("{n} was answered with {other:?}"),
        }
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 30, "every message has an id of its own");
    Ok(())
}

#[tokio::test]
async fn r2_3_1_event_and_acknowledgement_of_one_send_precede_those_of_the_next() -> Result<()> {
    let world = World::unlimited().await?;
    world.room("room", &["alice"]).await?;
    let mut io = world.by_hand("alice").await?;
    for n in 0..20 {
        let room = if n % 4 == 3 { "not-mine" } else { "room" };
        let message = json!(["message:send", room, { "text": "x", "clientMessageId": format!("c-{n}") }]);
        io.send(&[format!("42{n}{message}")]).await?;
    }
    for n in 0..20 {
        let event = io.packet().await?;
        let ack = io.packet().await?;
        let answer: Value = serde_json::from_str(
            ack.strip_prefix(&format!("43{n}")).with_context(|| format!("{n}: {ack}"))?,
        )?;
        if n % 4 == 3 {
            let sentence = "not a member of this conversation";
            assert!(event.starts_with(&format!(r#"42["error","{sentence}""#)), "{event}");
            assert_eq!(answer, json!([{ "success": false, "error": sentence }]));
        } else {
            assert!(
                event.starts_with(r#"42["message:ack","#) && event.contains(&format!("c-{n}\"")),
                "{event}"
            );
            assert_eq!(answer[0]["success"], true, "{answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn r2_4_4_a_resend_gets_the_same_id_and_is_not_delivered_again() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let id = send(&alice, "room", "c-1", "once").await?;
    assert_eq!(texts(&bob, 1).await?, ["once"]);
    // From the same socket, and from another device; the text of a resend does not matter.
    let tablet = world.connect("alice").await?;
    for socket in [&alice, &tablet] {
        let again = json!({ "text": "twice", "clientMessageId": "c-1" });
        let ack = socket.emit_ack("message:send", &[json!("room"), again]).await?;
        assert_eq!(ack, [json!({ "success": true, "messageId": id })]);
        let told = json!({ "clientMessageId": "c-1", "conversationId": "room", "duplicate": true });
        assert_eq!(socket.expect("message:ack").await?, [json!(id), told]);
    }
    // The id is the author's own, and the conversation's own.
    assert_ne!(send(&bob, "room", "c-1", "bob's").await?, id);
    world.room("other", &["alice"]).await?;
    assert_ne!(send(&alice, "other", "c-1", "elsewhere").await?, id);
    assert_eq!(texts(&bob, 1).await?, ["bob's"]);
    fence(&alice, "room", &[&bob]).await?;
    bob.assert_none("message:new").await?;
    let saved = world.history("bob", "room", "").await?;
    assert_eq!(saved["messages"].as_array().map(Vec::len), Some(3), "{saved}");
    Ok(())
}

#[tokio::test]
async fn r2_4_5_concurrent_resends_save_one_message() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    let devices = [alice, world.connect("alice").await?, world.connect("alice").await?];
    for round in 0..10 {
        let message = json!({ "text": "one of them", "clientMessageId": format!("c-{round}") });
        let tags: Vec<u64> = (0..9)
            .map(|n| devices[n % 3].emit_tagged("message:send", &[json!("room"), message.clone()]))
            .collect::<Result<_>>()?;
        let (mut ids, mut fresh) = (BTreeSet::new(), 0);
        for (n, tag) in tags.into_iter().enumerate() {
            let ack = devices[n % 3].acked(tag).await?;
            ids.insert(ack[0]["messageId"].as_u64().with_context(|| format!("{ack:?}"))?);
            fresh += usize::from(devices[n % 3].expect("message:ack").await?[1]["duplicate"] == false);
        }
        assert_eq!((ids.len(), fresh), (1, 1), "round {round}");
        assert_eq!(bob.expect("message:new").await?[0]["id"], *ids.first().context("no id")?);
    }
    fence(&bob, "room", &[&bob]).await?;
    bob.assert_none("message:new").await
}

#[tokio::test]
async fn message_new_goes_to_the_whole_room_with_all_its_fields() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob", "carol"]).await?;
    let alice = world.joined("alice", "room").await?;
    let tablet = world.joined("alice", "room").await?;
    let bob = world.joined("bob", "room").await?;
    let carol = world.connect("carol").await?;
    let id = send(&alice, "room", "c-1", "héllo").await?;
    let mut stamps = Vec::new();
    for socket in [&alice, &tablet, &bob] {
        let mut args = socket.expect("message:new").await?;
        ensure!(args.len() == 2 && is_offset(&args[1]), "{args:?}");
        let at = args[0]["createdAt"].take();
        assert_eq!(
            args[0],
            json!({
                "id": id, "conversationId": number, "senderId": "alice", "originalText": "héllo", "text": "héllo",
                "translatedText": null, "senderLanguage": null, "recipientLanguage": null, "createdAt": null,
                "clientMessageId": "c-1",
            })
        );
        stamps.push(at.as_str().context("no time")?.to_owned());
    }
    stamps.dedup();
    assert!(
        stamps.len() == 1 && stamps[0].len() == "2025-08-19T22:00:00.123Z".len() && stamps[0].ends_with('Z')
    );

    let message = json!({
        "text": "hello", "senderLanguage": "en", "recipientLanguage": "Klingon (pIqaD)",
        "translatedText": "nuqneH",
    });
    alice.emit("message:send", &[json!("room"), message])?;
    alice.expect("message:ack").await?;
    let came = bob.expect("message:new").await?;
    assert_eq!(
        (&came[0]["senderLanguage"], &came[0]["recipientLanguage"], &came[0]["translatedText"]),
        (&json!("en"), &json!("Klingon (pIqaD)"), &json!("nuqneH"))
    );
    assert_eq!((&came[0]["originalText"], &came[0]["clientMessageId"]), (&json!("hello"), &Value::Null));
    alice.emit("message:send", &[json!("room"), json!({ "text": "hola", "language": "es" })])?;
    alice.expect("message:ack").await?;
    assert_eq!(bob.expect("message:new").await?[0]["senderLanguage"], "es");
    // A member outside the room is not in it.
    join(&carol, &json!("room")).await?;
    fence(&alice, "room", &[&carol]).await?;
    carol.assert_none("message:new").await
}

#[tokio::test]
async fn ids_are_javascript_integers_and_a_conversation_has_a_number_and_a_name() -> Result<()> {
    let world = World::start().await?;
    let assigned = world.room("named", &["7", "bob"]).await?;
    assert!((1 << 30..1 << 31).contains(&assigned), "{assigned}");
    let body = json!({ "id": "chosen", "type": "dm", "members": ["7", "bob"], "number": 4711 });
    let (status, answer) = world.gateway.api("POST", "/api/v1/conversations", Some(&body)).await?;
    assert_eq!((status, &answer["number"]), (201, &json!(4711)));
    assert_eq!(world.room("815", &["7", "bob"]).await?, 815, "digits are their own number");
    let taken = json!({ "id": "another", "type": "dm", "members": ["7"], "number": 4711 });
    let (status, answer) = world.gateway.api("POST", "/api/v1/conversations", Some(&taken)).await?;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("NUMBER_TAKEN")), "{answer}");

    let seven =
        world.open(crate::support::bearer(&claims(json!({ "userId": 7 }))?, Transports::Websocket))?;
    seven.expect_connect().await?;
    let bob = world.connect("bob").await?;
    for (number, names) in [
        (assigned, [json!("named"), json!(assigned), json!(assigned.to_string())]),
        (4711, [json!("chosen"), json!(4711), json!("4711")]),
        (815, [json!("815"), json!(815), json!("815")]),
    ] {
        join(&bob, &names[0]).await?;
        for name in names {
            join(&seven, &name).await?;
            seven.emit("message:send", &[name.clone(), json!({ "text": "hi" })])?;
            let (id, told) = answer_of(&seven).await?;
            assert_eq!(told["conversationId"], name, "called as the client calls it");
            let came = bob.expect("message:new").await?;
            assert_eq!(came[0]["id"], id);
            assert_eq!((&came[0]["conversationId"], &came[0]["senderId"]), (&json!(number), &json!(7)));
            assert!(id <= 1 << 53 && id >> 22 == number, "{id}");
        }
    }
    let nowhere = "not a member of this conversation";
    for name in [json!(816), json!("0815"), json!("nowhere")] {
        refused(&seven, "conversation:join", &[name], nowhere).await?;
    }
    for name in [json!(1_u64 << 31), json!(-1), json!(1.5), json!(true), json!([1])] {
        let answer = seven.emit_ack("conversation:join", std::slice::from_ref(&name)).await?;
        assert_eq!(answer[0]["success"], false, "{name}: {answer:?}");
        assert!(answer[0]["error"].as_str().is_some_and(|e| e.starts_with("conversationId ")), "{answer:?}");
    }
    Ok(())
}

async fn answer_of(socket: &StockSocket) -> Result<(u64, Value)> {
    answer(socket).await?.map_err(anyhow::Error::msg)
}

#[tokio::test]
async fn a_text_has_one_to_a_thousand_characters() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let room = || json!("room");
    for text in ["x".to_owned(), long(1000)] {
        alice.emit_ack("message:send", &[room(), json!({ "text": text })]).await?;
        alice.expect("message:ack").await?;
        assert_eq!(bob.expect("message:new").await?[0]["text"], text);
    }
    let wrong = "text must be 1 to 1000 characters";
    for text in [String::new(), long(1001), "x".repeat(2000)] {
        refused(&alice, "message:send", &[room(), json!({ "text": text })], wrong).await?;
    }
    refused(&alice, "message:send", &[room(), json!({ "text": 5 })], "text must be a string").await?;
    refused(&alice, "message:send", &[room(), json!({})], "text is required").await?;
    refused(&alice, "message:send", &[room()], "text is required").await?;
    refused(&alice, "message:send", &[], "conversationId is required").await?;
    let id = "clientMessageId must be 1 to 128 printable characters without markup";
    for client_id in [String::new(), "i".repeat(129), "<b>".to_owned()] {
        let message = json!({ "text": "x", "clientMessageId": client_id });
        refused(&alice, "message:send", &[room(), message], id).await?;
    }
    fence(&alice, "room", &[&bob]).await?;
    bob.assert_none("message:new").await?;
    alice.assert_none("message:ack").await
}
