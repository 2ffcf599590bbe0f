//! ChatGenius: channels, typing, reading and being delivered, history.

use std::time::Duration;

use crate::support::*;
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::{has_only, is_time};
use parlance_tests::{ConnectOptions, Gateway, Options, Stock, Transports, token};
use serde_json::{Value, json};
use tokio::time::Instant;

const DENIED: &str = "Access denied to channel";

fn room() -> Value {
    json!({ "channelId": "room" })
}

#[tokio::test]
async fn join_and_leave_are_acknowledged_and_told_to_the_channel_on_every_transport() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let bob = over(&stock, &gateway, "bob", transports).await?;
        for (event, told) in [
            ("channel:join", "channel:user_joined"),
            ("channel:leave", "channel:user_left"),
            ("join_channel", "channel:user_joined"),
            ("leave_channel", "channel:user_left"),
        ] {
            let acked = done(&bob, event, room()).await?;
            has_only(&acked, &["success"])?;
            // Whoever has left is in the channel no more.
            let hear = if told == "channel:user_joined" { vec![&alice, &bob] } else { vec![&alice] };
            for socket in hear {
                let heard = expect(socket, told).await.with_context(|| format!("{event} {transports:?}"))?;
                has_only(&heard, &["userId", "channelId", "timestamp"])?;
                assert_eq!(
                    (&heard["userId"], &heard["channelId"]),
                    (&json!("bob"), &json!("room")),
                    "{event}"
                );
                ensure!(is_time(&heard["timestamp"]), "{heard}");
            }
        }
        alice.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn so_many_channels_may_be_joined_and_leaving_makes_room() -> Result<()> {
    let options = Options::brief();
    let gateway = Gateway::start(options.env("PARLANCE_LIMITS_SUBSCRIPTIONS", "1")).await?;
    let stock = Stock::start()?;
    for id in ["room", "other"] {
        channel(&gateway, id, &["alice"]).await?;
    }
    // Being in all channels from connect on is not joining them.
    let alice = connect(&stock, &gateway, "alice").await?;
    let other = || json!({ "channelId": "other" });
    done(&alice, "channel:join", room()).await?;
    done(&alice, "channel:join", room()).await?;
    refused(&alice, "channel:join", other(), "at most 1 rooms per connection").await?;
    done(&alice, "channel:leave", room()).await?;
    done(&alice, "channel:join", other()).await?;
    Ok(())
}

#[tokio::test]
async fn the_channel_id_alone_will_do_and_nothing_has_to_be_asked_for() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    done(&bob, "channel:join", json!("room")).await?;
    expect(&alice, "channel:user_joined").await?;
    bob.emit("channel:leave", &[room()])?;
    assert_eq!(expect(&alice, "channel:user_left").await?["userId"], "bob");
    Ok(())
}

#[tokio::test]
async fn joining_a_channel_of_others_or_none_is_access_denied_to_channel() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    let mallory = connect(&stock, &gateway, "mallory").await?;
    for event in ["channel:join", "join_channel", "typing:start", "typing:stop"] {
        for id in ["room", "nowhere"] {
            let answer = refused(&mallory, event, json!({ "channelId": id }), DENIED).await?;
            has_only(&answer, &["success", "error"])?;
        }
    }
    say(&alice, "fence").await?;
    let (_, before) = until_said(&alice, "fence").await?;
    ensure!(before.iter().all(|event| event.name == "message:delivered"), "{before:?}");
    mallory.assert_silent_over("message:created", "message:read", &[json!({})]).await?;
    Ok(())
}

#[tokio::test]
async fn connecting_and_going_away_is_no_joining_and_no_leaving() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    bob.disconnect()?;
    let bob = connect(&stock, &gateway, "bob").await?;
    say(&bob, "fence").await?;
    let (_, before) = until_said(&alice, "fence").await?;
    ensure!(before.is_empty(), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn whoever_the_backend_adds_or_removes_is_told_of_as_joined_and_left() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    for (change, told) in [("addMembers", "channel:user_joined"), ("removeMembers", "channel:user_left")] {
        let body = json!({ change: ["carol"] });
        let (status, answer) = gateway.api("PATCH", "/api/v1/conversations/room", Some(&body)).await?;
        ensure!(status == 200, "{status} {answer}");
        let heard = expect(&alice, told).await?;
        assert_eq!((&heard["userId"], &heard["channelId"]), (&json!("carol"), &json!("room")));
    }
    Ok(())
}

#[tokio::test]
async fn who_left_the_channel_is_still_a_member_but_hears_it_again_only_after_joining() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    done(&bob, "channel:leave", room()).await?;
    done(&bob, "message:send", message("from outside", "o")).await?;
    until_said(&alice, "from outside").await?;
    say(&alice, "unheard").await?;
    done(&bob, "channel:join", room()).await?;
    say(&alice, "inside").await?;
    let (_, before) = until_said(&bob, "inside").await?;
    ensure!(of(&before, "message:created").is_empty(), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn typing_is_told_to_the_others_of_the_channel_with_name_and_picture() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    for event in ["typing:start", "typing:stop"] {
        let acked = done(&alice, event, room()).await?;
        has_only(&acked, &["success"])?;
        let heard = expect(&bob, event).await?;
        let user = json!({ "id": "alice", "name": "alice", "imageUrl": null });
        assert_eq!(heard, json!({ "channelId": "room", "userId": "alice", "user": user }));
    }
    say(&bob, "fence").await?;
    let (_, before) = until_said(&alice, "fence").await?;
    ensure!(before.is_empty(), "the typist hears nothing of it: {before:?}");
    Ok(())
}

#[tokio::test]
async fn typing_ends_by_itself_after_four_seconds() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let began = Instant::now();
    alice.emit("typing:start", &[room()])?;
    expect(&bob, "typing:start").await?;
    expect(&bob, "typing:stop").await?;
    let took = began.elapsed();
    ensure!(took >= Duration::from_secs(4) && took < Duration::from_secs(7), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn reading_a_message_is_told_to_the_channel_as_read() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob", "carol"]).await?;
    let alice = connect(&stock, &gateway, "alice").await?;
    let bob = connect(&stock, &gateway, "bob").await?;
    let carol = connect(&stock, &gateway, "carol").await?;
    let id = say(&alice, "one").await?;
    until_said(&bob, "one").await?;
    let acked = done(&bob, "message:read", json!({ "messageId": id })).await?;
    has_only(&acked, &["success"])?;
    for socket in [&alice, &carol] {
        let read = expect(socket, "message:read").await?;
        has_only(&read, &["messageId", "userId", "status", "timestamp"])?;
        let is = (&read["messageId"], &read["userId"], &read["status"]);
        assert_eq!(is, (&json!(id), &json!("bob"), &json!("READ")));
        ensure!(is_time(&read["timestamp"]), "{read}");
    }
    Ok(())
}

#[tokio::test]
async fn reading_covers_what_came_before_and_is_told_once() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut ids = Vec::new();
    for content in ["one", "two", "three"] {
        ids.push(say(&alice, content).await?);
    }
    for id in [&ids[1], &ids[1], &ids[0]] {
        done(&bob, "message:read", json!({ "messageId": id })).await?;
    }
    say(&bob, "fence").await?;
    let (_, before) = until_said(&alice, "fence").await?;
    let read: Vec<&Value> = of(&before, "message:read").iter().map(|read| &read["messageId"]).collect();
    assert_eq!(read, [&json!(ids[0]), &json!(ids[1])], "{before:?}");
    Ok(())
}

#[tokio::test]
async fn an_own_message_cannot_be_read_or_received() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    for event in ["message:read", "message:received", "message:confirm"] {
        let answer = ask(&alice, event, json!({ "messageId": id })).await?;
        ensure!(answer["success"] == false, "{event}: {answer}");
    }
    say(&bob, "fence").await?;
    until_said(&alice, "fence").await?;
    alice.assert_none("message:read").await?;
    Ok(())
}

#[tokio::test]
async fn delivery_receipts_reach_an_author_in_sechat_and_so_does_reading() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (_alice, bob) = pair(&stock, &gateway).await?;
    let options = ConnectOptions::new(Transports::Websocket).path("/sechat/socket.io/");
    let author = stock.connect(gateway.address(), options.auth(json!({ "token": token("alice")? })))?;
    author.expect_connect().await?;
    for (n, event) in ["message:received", "message:confirm"].into_iter().enumerate() {
        let sent = json!({
            "type": "message:send", "messageId": format!("m-{n}"), "conversationId": "room", "toUserIds": ["bob"],
            "body": format!("text {n}"),
        });
        author.emit("message:send", &[sent])?;
        let (heard, _) = until_said(&bob, &format!("text {n}")).await?;
        assert_eq!(
            (&heard["tempId"], &heard["message"]["userId"]),
            (&json!(format!("m-{n}")), &json!("alice"))
        );
        let id = heard["message"]["id"].clone();
        author.assert_none("message:delivered").await?;
        done(&bob, event, json!({ "messageId": id })).await?;
        let tick = expect(&author, "message:delivered").await?;
        assert_eq!(
            (&tick["messageId"], &tick["byUserId"]),
            (&json!(format!("m-{n}")), &json!("bob")),
            "{event}"
        );
        assert_eq!(expect(&author, "receipt:delivered").await?["fromUserId"], "bob");
        done(&bob, "message:read", json!({ "messageId": id })).await?;
        let tick = expect(&author, "message:read").await?;
        assert_eq!((&tick["messageId"], &tick["byUserId"]), (&json!(format!("m-{n}")), &json!("bob")));
        expect(&author, "receipt:read").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_delivery_receipt_is_told_to_nobody_in_chatgenius() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    until_said(&alice, "one").await?;
    for event in ["message:received", "message:confirm"] {
        done(&bob, event, json!({ "messageId": id })).await?;
    }
    say(&bob, "fence").await?;
    let (_, before) = until_said(&alice, "fence").await?;
    ensure!(before.is_empty(), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn history_since_a_message_or_a_time_holds_what_the_channel_heard() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut heard = Vec::new();
    for content in ["one", "two", "three"] {
        say(&alice, content).await?;
        heard.push(until_said(&bob, content).await?.0);
    }
    let page = async |query: &str| {
        let path = format!("/api/v1/conversations/room/messages?dialect=chatgenius&{query}");
        let answer = gateway.public("GET", &path, Some(&token("bob")?)).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(answer.json()?["messages"].clone())
    };
    let (id, at) = (text(&heard[0]["message"]["id"])?, text(&heard[0]["message"]["createdAt"])?);
    assert_eq!(page(&format!("since={id}")).await?, json!(heard[1..]), "after the message named");
    assert_eq!(page(&format!("since={at}")).await?, json!(heard), "from that time on, as it was told live");
    assert_eq!(page("limit=2").await?, json!(heard[1..]), "the newest");
    let of_others =
        gateway.public("GET", "/api/v1/conversations/room/messages", Some(&token("mallory")?)).await?;
    ensure!([403, 404].contains(&of_others.status), "{} {}", of_others.status, of_others.body);
    Ok(())
}
