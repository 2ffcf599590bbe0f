//! ChatGenius: reactions, who hears of them, and that they are kept.

use crate::support::*;
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::{has_only, is_time};
use parlance_tests::{Gateway, Stock, StockSocket, Transports, token};
use serde_json::{Value, json};

fn reaction(id: &str, kind: &str) -> Value {
    json!({ "messageId": id, "type": kind })
}

/// The reactions of the newest message of `room`, as history shows them.
async fn kept(gateway: &Gateway) -> Result<Vec<(String, String)>> {
    let path = "/api/v1/conversations/room/messages?limit=1";
    let answer = gateway.public("GET", path, Some(&token("bob")?)).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    let page = answer.json()?;
    let reactions = page["messages"][0]["reactions"].as_array().context("no reactions")?;
    reactions.iter().map(|r| Ok((text(&r["userId"])?, text(&r["type"])?))).collect()
}

/// What two sockets hear of reactions before a message that is sent now.
async fn heard(sender: &StockSocket, sockets: [&StockSocket; 2]) -> Result<[Vec<String>; 2]> {
    say(sender, "fence").await?;
    let mut all = [Vec::new(), Vec::new()];
    for (socket, all) in sockets.into_iter().zip(&mut all) {
        let (_, before) = until_said(socket, "fence").await?;
        *all = before.into_iter().map(|e| e.name).filter(|n| n.starts_with("reaction:")).collect();
    }
    Ok(all)
}

#[tokio::test]
async fn added_and_removed_are_heard_by_the_channel_and_by_who_reacted_on_every_transport() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let bob = over(&stock, &gateway, "bob", transports).await?;
        let id = say(&alice, &format!("{transports:?}")).await?;
        let acked = done(&bob, "reaction:add", reaction(&id, "👍")).await?;
        for socket in [&alice, &bob] {
            let added = expect(socket, "reaction:added").await?;
            has_only(&added, &["messageId", "reaction", "processed"])?;
            assert_eq!((&added["messageId"], &added["processed"]), (&json!(id), &json!(true)));
            let reaction = &added["reaction"];
            has_only(reaction, &["id", "type", "userId", "messageId", "createdAt", "user"])?;
            let is = (&reaction["type"], &reaction["userId"], &reaction["messageId"]);
            assert_eq!(is, (&json!("👍"), &json!("bob"), &json!(id)));
            assert_eq!(reaction["user"], json!({ "id": "bob", "name": "bob", "imageUrl": null }));
            ensure!(is_time(&reaction["createdAt"]) && reaction["id"] != json!(id), "{added}");
            assert_eq!(acked["data"], *reaction, "the acknowledgement holds the same reaction");
        }
        let acked = done(&bob, "reaction:remove", reaction(&id, "👍")).await?;
        has_only(&acked, &["success"])?;
        for socket in [&alice, &bob] {
            let removed = expect(socket, "reaction:removed").await?;
            let expected = json!({ "messageId": id, "userId": "bob", "type": "👍", "processed": true });
            assert_eq!(removed, expected);
        }
        alice.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn adding_twice_and_removing_twice_succeed_and_are_broadcast_once() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    let first = done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    let again = done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    assert_eq!(first["data"]["id"], again["data"]["id"], "it is the same reaction");
    let all = heard(&alice, [&alice, &bob]).await?;
    assert_eq!(all, [["reaction:added"], ["reaction:added"]]);
    for _ in 0..2 {
        done(&bob, "reaction:remove", reaction(&id, "👍")).await?;
    }
    done(&alice, "reaction:remove", reaction(&id, "never added")).await?;
    done(&alice, "message:send", message("fence", "fence-2")).await?;
    for socket in [&alice, &bob] {
        let (_, before) = until_said(socket, "fence").await?;
        assert_eq!(of(&before, "reaction:removed").len(), 1, "{before:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reactions_are_kept_and_seen_in_history() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    for (socket, kind) in [(&bob, "👍"), (&alice, "👍"), (&bob, "🎉"), (&bob, "👍")] {
        done(socket, "reaction:add", reaction(&id, kind)).await?;
    }
    let of = |user: &str, kind: &str| (user.to_owned(), kind.to_owned());
    assert_eq!(kept(&gateway).await?, [of("bob", "👍"), of("alice", "👍"), of("bob", "🎉")]);
    done(&bob, "reaction:remove", reaction(&id, "👍")).await?;
    assert_eq!(kept(&gateway).await?, [of("alice", "👍"), of("bob", "🎉")], "one's own alone is removed");
    done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    assert_eq!(kept(&gateway).await?, [of("alice", "👍"), of("bob", "🎉"), of("bob", "👍")]);
    Ok(())
}

#[tokio::test]
async fn reactions_survive_the_node() -> Result<()> {
    let (mut gateway, stock) = (Gateway::start(parlance_tests::Options::default()).await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    gateway.restart().await?;
    assert_eq!(kept(&gateway).await?, [("bob".to_owned(), "👍".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn a_non_member_is_refused_and_nothing_is_broadcast_or_kept() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mallory = connect(&stock, &gateway, "mallory").await?;
    let id = say(&alice, "one").await?;
    done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    for event in ["reaction:add", "reaction:remove"] {
        refused(&mallory, event, reaction(&id, "👍"), "Message not found").await?;
    }
    assert_eq!(kept(&gateway).await?, [("bob".to_owned(), "👍".to_owned())]);
    let all = heard(&alice, [&alice, &bob]).await?;
    assert_eq!(all, [["reaction:added"], ["reaction:added"]]);
    mallory.assert_none("reaction:added").await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_message_is_refused() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    for id in ["nothing", "msg_00000000000000000000000000", "507f1f77bcf86cd799439011", "9007199254740991"] {
        refused(&alice, "reaction:add", reaction(id, "👍"), "Message not found").await?;
        refused(&alice, "reaction:remove", reaction(id, "👍"), "Message not found").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reaction_that_was_missed_during_a_cut_is_heard_on_return() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    until_said(&alice, "one").await?;
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    done(&bob, "reaction:add", reaction(&id, "👍")).await?;
    ensure!(alice.expect_connect().await?.recovered, "recovered");
    assert_eq!(expect(&alice, "reaction:added").await?["messageId"], id.as_str());
    Ok(())
}
