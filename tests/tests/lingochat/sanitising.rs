//! Markup is removed on the way in and on the way out, and nothing else is touched (3.4.3).

use crate::support::{World, fence, refused, send};
use anyhow::{Context, Result};
use parlance_tests::{StockSocket, token};
use serde_json::{Value, json};

/// Sends a text and returns it as bob hears it.
async fn passed(alice: &StockSocket, bob: &StockSocket, text: &str) -> Result<String> {
    let answer = alice.emit_ack("message:send", &[json!("room"), json!({ "text": text })]).await?;
    anyhow::ensure!(answer[0]["success"] == true, "{text}: {answer:?}");
    let came = bob.expect("message:new").await?;
    assert_eq!(came[0]["text"], came[0]["originalText"]);
    came[0]["text"].as_str().map(str::to_owned).context("no text")
}

#[tokio::test]
async fn r3_4_3_markup_is_removed() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    for (sent, heard) in [
        ("<script>alert(1)</script>hello", "hello"),
        ("hello<SCRIPT src=//evil.example>x</SCRIPT >", "hello"),
        ("<b>bold</b> and <i>so</i>", "bold and so"),
        ("a<img src=x onerror=alert(1)>b", "ab"),
        ("a<svg/onload=alert(1)>b", "ab"),
        ("<style>*{display:none}</style>seen", "seen"),
        ("a<!-- a comment -->b", "ab"),
        ("a<a href=\"javascript:alert('>')\">b</a>c", "abc"),
        // Not finished: a browser would finish it.
        ("hello <img src=x onerror=alert(1) ", "hello "),
        ("hello <script>alert(1)", "hello "),
    ] {
        assert_eq!(passed(&alice, &bob, sent).await?, heard, "{sent}");
    }
    Ok(())
}

#[tokio::test]
async fn r3_4_3_markup_does_not_come_about_by_its_removal() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    for sent in [
        "x<scr<b>ipt>alert(1)</scr</b>ipt>",
        "x<<b>script>alert(1)<</b>/script>",
        "x<<<b>b>img src=x onerror=alert(1)>",
        "x<<<<<<<<<<<<b>b>b>b>b>b>b>b>b>b>b>img src=x onerror=alert(1)>",
        "x<!<!-- -->-- --><img src=x onerror=alert(1)>",
    ] {
        let heard = passed(&alice, &bob, sent).await?;
        let markup = heard.match_indices('<').any(|(at, _)| {
            heard[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
        });
        assert!(!markup && heard.starts_with('x'), "{sent} became {heard}");
        assert_eq!(passed(&alice, &bob, &heard).await?, heard, "and is not touched again");
    }
    Ok(())
}

#[tokio::test]
async fn r3_4_3_all_other_text_stays_byte_for_byte() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    for text in [
        "a < b && c > d",
        "I <3 you",
        "1<2>1",
        "&lt;script&gt; &amp; &#60; &nbsp;",
        "\"quotes\" 'and' `ticks` \\ back\\slash",
        "x -> y <- z <= w",
        "tabs\tand\nlines\r\n  spaces  ",
        "👋🏽 grüße \u{202e}\u{200b}עברית",
        "https://example.com/?a=1&b=2#c",
    ] {
        assert_eq!(passed(&alice, &bob, text).await?, text);
    }
    Ok(())
}

#[tokio::test]
async fn r3_4_3_a_text_that_is_only_markup_is_refused() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    for text in ["<script>alert(1)</script>", "<b></b>", "<!-- -->", " <i> </i>\n", " \n"] {
        let args = [json!("room"), json!({ "text": text })];
        refused(&alice, "message:send", &args, "the message has no text").await?;
    }
    fence(&alice, "room", &[&bob]).await?;
    let saved = world.history("bob", "room", "").await?;
    assert_eq!(saved["messages"].as_array().map(Vec::len), Some(1), "nothing of it is kept: {saved}");
    Ok(())
}

#[tokio::test]
async fn r3_4_3_an_encrypted_text_is_never_touched() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let cipher = "<script>U2FsdGVk</script>+/==<b>";
    for (field, value) in
        [("encrypted", json!(true)), ("metadata", json!({ "encrypted": true, "key": "k-1" }))]
    {
        let message = json!({ "text": cipher, field: value, "translatedText": "<i>cipher</i>" });
        alice.emit("message:send", &[json!("room"), message])?;
        let came = bob.expect("message:new").await?;
        assert_eq!((&came[0]["text"], &came[0]["encrypted"]), (&json!(cipher), &json!(true)), "{field}");
        assert_eq!(came[0]["translatedText"], "<i>cipher</i>", "{field}");
        assert_eq!(came[0]["metadata"]["encrypted"], true, "{field}");
    }
    let synced = bob.emit_ack("messages:sync", &[json!("room")]).await?;
    assert_eq!(synced[0]["messages"][1]["text"], cipher);
    assert_eq!(synced[0]["messages"][1]["metadata"]["key"], "k-1");
    // What is not marked as true is not marked.
    let message = json!({ "text": "<b>plain</b>", "encrypted": false });
    alice.emit("message:send", &[json!("room"), message])?;
    let came = bob.expect("message:new").await?;
    assert_eq!((&came[0]["text"], came[0].get("encrypted")), (&json!("plain"), None));
    Ok(())
}

#[tokio::test]
async fn r3_4_3_the_translation_is_text_too_and_other_fields_hold_no_markup() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let message = json!({ "text": "hello", "translatedText": "<script>x</script>ha<b>llo</b> a < b" });
    alice.emit("message:send", &[json!("room"), message])?;
    assert_eq!(bob.expect("message:new").await?[0]["translatedText"], "hallo a < b");
    alice.expect("message:ack").await?;
    for field in ["senderLanguage", "recipientLanguage", "language"] {
        let args = [json!("room"), json!({ "text": "x", field: "<b>" })];
        refused(&alice, "message:send", &args, &format!("{field} must be a language")).await?;
    }
    let args = [json!("room"), json!({ "text": "x", "clientMessageId": "<img>" })];
    let answer = alice.emit_ack("message:send", &args).await?;
    assert!(answer[0]["error"].as_str().is_some_and(|e| e.ends_with("without markup")), "{answer:?}");
    // What a client sends that is no command is not told back to it.
    let answer = alice.emit_ack("<img src=x>", &[json!("room")]).await?;
    assert_eq!(answer, [json!({ "success": false, "error": "Unknown event" })]);
    let answer = alice.emit_ack("conversation:join", &[json!("<img src=x>")]).await?;
    assert!(answer[0]["error"].as_str().is_some_and(|e| !e.contains('<')), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn r3_4_3_other_dialects_say_what_they_like_and_it_is_stripped_on_the_way_out() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    world.change("room", &json!({ "addMembers": ["carol", "dave"] })).await?;
    let mut carol = world.gateway.connect("/sechat", "carol").await?;
    let mut dave = world.gateway.connect("/sechat", "dave").await?;
    // Through both directions once, so that everybody is there.
    send(&alice, "room", "c-1", "say <b>something</b>").await?;
    for socket in [&mut carol, &mut dave] {
        assert_eq!(
            socket.expect("message:received").await?["body"],
            "say something",
            "stripped on the way in"
        );
    }
    let said = "<script>alert(1)</script>a < b <b>&amp;</b>";
    for (id, metadata) in [("m-1", json!({})), ("m-2", json!({ "encrypted": true }))] {
        carol
            .send(&json!({
                "type": "message:send", "messageId": id, "conversationId": "room", "body": said, "metadata": metadata,
            }))
            .await?;
        carol.expect("message:acked").await?;
        assert_eq!(
            dave.expect("message:received").await?["body"],
            said,
            "untouched where nothing is stripped"
        );
    }
    for socket in [&alice, &bob] {
        assert_eq!(socket.expect("message:new").await?[0]["text"], "say something");
        let came = socket.expect("message:new").await?;
        assert_eq!((&came[0]["text"], &came[0]["clientMessageId"]), (&json!("a < b &amp;"), &json!("m-1")));
        assert_eq!(socket.expect("message:new").await?[0]["text"], said, "marked as encrypted");
    }
    // So it is in what is synced and in the history; the log has it as it was said.
    let synced = bob.emit_ack("messages:sync", &[json!("room")]).await?;
    let history = world.history("bob", "room", "").await?;
    for messages in [&synced[0]["messages"], &history["messages"]] {
        let texts: Vec<&Value> = messages.as_array().into_iter().flatten().map(|m| &m["text"]).collect();
        assert_eq!(texts, ["say something", "a < b &amp;", said]);
    }
    let path = "/api/v1/conversations/room/messages?dialect=sechat";
    let plain = world.gateway.public("GET", path, Some(&token("bob")?)).await?.json()?;
    assert_eq!(plain["messages"][1]["body"], said);
    Ok(())
}
