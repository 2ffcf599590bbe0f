//! What two dialects do is in the tables, once, on either engine.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, IoClient, Options, Postgres, token};
use serde_json::{Value, json};

use super::{are_whole, kept_in};
use crate::webhooks::{connect, say};

const ODD: &str = "tab\t, line\nbreak, \\N and \\, 'quote', é, 🎉";

/// A chatgenius message with reactions, one of them taken back.
async fn react(gateway: &Gateway) -> Result<()> {
    let auth = json!({ "token": format!("Bearer {}", token("bob")?), "userId": "bob" });
    let mut bob = IoClient::connect(&gateway.url("/api/socket.io/"), &auth).await?;
    bob.expect("connection:success").await?;
    let message = json!({ "content": "from elsewhere", "channelId": "room", "tempId": "t-1" });
    bob.ask("message:send", &[message]).await?;
    let told = bob.expect("message:delivered").await?;
    let id =
        told.args.first().map(|arg| &arg["messageId"]).and_then(Value::as_str).context("no id")?.to_owned();
    for (event, kind) in [("add", "👍"), ("add", "🎉"), ("remove", "🎉"), ("add", "👍")] {
        let answer =
            bob.ask(&format!("reaction:{event}"), &[json!({ "messageId": id, "type": kind })]).await?;
        ensure!(answer[0]["success"] == true, "{answer:?}");
    }
    Ok(())
}

/// Things happen at two nodes, or at one.
async fn happens(a: &Gateway, b: &Gateway) -> Result<()> {
    a.conversation("room", &["alice", "bob"]).await?;
    let (mut alice, mut bob) = (connect(a, "alice").await?, connect(b, "bob").await?);
    for id in ["m-1", "m-2"] {
        say(&mut alice, id, "room", &["bob"]).await?;
    }
    let odd = json!({ "type": "message:send", "messageId": "m-3", "conversationId": "room", "toUserIds": ["bob"], "body": ODD });
    alice.send(&odd).await?;
    alice.expect("message:acked").await?;
    // The same again is the same message.
    alice.send(&odd).await?;
    alice.expect("message:acked").await?;
    while bob.expect("message:received").await?["messageId"] != "m-3" {}
    bob.send(&json!({ "type": "receipt:read", "messageId": "m-2", "conversationId": "room", "fromUserId": "bob", "toUserId": "alice" })).await?;
    react(b).await?;
    let nul =
        json!({ "senderId": "alice", "body": "nul \u{0} here", "clientId": "m-4", "metadata": { "a": 1 } });
    a.call("POST", "/api/v1/conversations/room/messages", Some(&nul)).await?;
    a.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "addMembers": ["zoe"] }))).await?;
    b.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "removeMembers": ["zoe"] }))).await?;
    Ok(())
}

/// And are found in the tables.
async fn are_found(a: &Gateway, postgres: &Postgres) -> Result<()> {
    postgres.until("SELECT count(*) FROM parlance.memberships WHERE left_seq IS NOT NULL", 1).await?;
    are_whole(postgres, 5).await?;
    let messages = "SELECT sender, client_id, body FROM parlance.messages ORDER BY seq";
    let expected = [
        ["alice", "m-1", "m-1"],
        ["alice", "m-2", "m-2"],
        ["alice", "m-3", ODD],
        ["bob", "t-1", "from elsewhere"],
        ["alice", "m-4", "nul \u{fffd} here"],
    ];
    let found = postgres.rows(messages).await?;
    ensure!(found == expected, "{found:?}");
    let dense =
        "SELECT max(seq) - min(seq) - count(*) FROM parlance.messages WHERE client_id LIKE 'm-_' AND seq < 5";
    ensure!(postgres.number(dense).await? == -1, "sequences are those of the log");
    let ids = "SELECT count(*) FROM parlance.messages WHERE message_id LIKE 'msg\\_%' AND message_number > 0 AND message_offset = seq";
    ensure!(postgres.number(ids).await? == 5);
    let reactions = postgres.rows("SELECT kind, user_id FROM parlance.reactions").await?;
    ensure!(reactions == [["👍", "bob"]], "{reactions:?}");
    let members =
        postgres.rows("SELECT user_id, is_member FROM parlance.memberships ORDER BY user_id").await?;
    ensure!(members == [["alice", "t"], ["bob", "t"], ["zoe", "f"]], "{members:?}");
    postgres
        .until("SELECT count(*) FROM parlance.receipts WHERE user_id = 'bob' AND read_seq = 3", 1)
        .await?;
    let there = "SELECT count(*) FROM parlance.conversations WHERE id = 'room' AND deleted_at IS NULL AND created_at IS NOT NULL";
    ensure!(postgres.number(there).await? == 1);
    a.call("DELETE", "/api/v1/conversations/room", None).await?;
    postgres.until("SELECT count(*) FROM parlance.conversations WHERE deleted_at IS NOT NULL", 1).await?;
    // Nobody is a member of what is gone, nor of its next life whom that does not name.
    postgres.until("SELECT count(*) FROM parlance.memberships WHERE is_member", 0).await?;
    a.conversation("room", &["alice"]).await?;
    postgres.until(there, 1).await?;
    postgres.until("SELECT count(*) FROM parlance.memberships WHERE is_member", 1).await?;
    are_whole(postgres, 5).await
}

#[tokio::test]
async fn on_the_embedded_engine_what_happens_is_in_the_tables_once() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(kept_in(&postgres, "")).await?;
    happens(&gateway, &gateway).await?;
    are_found(&gateway, &postgres).await?;
    ensure!(!gateway.log().contains("from elsewhere"), "no body in logs");
    Ok(())
}

#[tokio::test]
async fn on_redis_with_two_nodes_what_happens_is_in_the_tables_once() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = || kept_in(&postgres, "batch = 3").env("PARLANCE_REDIS_URL", &redis.url());
    let (a, b) = (Gateway::start(options()).await?, Gateway::start(options()).await?);
    happens(&a, &b).await?;
    are_found(&b, &postgres).await?;
    ensure!(!redis.command(&["KEYS", "gw:tr:*"]).await?.is_empty(), "there is a trail");
    Ok(())
}

#[tokio::test]
async fn where_it_is_off_there_is_no_trail() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = Gateway::start(Options::default().env("PARLANCE_REDIS_URL", &redis.url())).await?;
    say(&mut connect(&gateway, "alice").await?, "m-1", "c", &["bob"]).await?;
    let keys = redis.command(&["KEYS", "gw:tr:*"]).await?;
    ensure!(keys.is_empty(), "{keys}");
    Ok(())
}

#[tokio::test]
async fn a_place_that_was_taken_and_a_client_id_that_was_used_lose_no_message() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(kept_in(&postgres, "")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-0", "made-first", &["bob"]).await?;
    postgres.until("SELECT count(*) FROM parlance.messages", 1).await?;
    // What a Redis lost after it was archived; and what had the client id long ago.
    for (seq, client_id, body) in [(2, "lost", "lost"), (99, "m-1", "long ago")] {
        let columns = "conversation, seq, epoch, message_id, message_number, message_offset, sender, client_id, body, sent_at";
        let row = format!("'c', {seq}, 1, 'msg_', 1, {seq}, 'alice', '{client_id}', '{body}', now()");
        postgres.rows(&format!("INSERT INTO parlance.messages ({columns}) VALUES ({row})")).await?;
    }
    for id in ["m-1", "m-2"] {
        say(&mut alice, id, "c", &["bob"]).await?;
    }
    postgres.until("SELECT count(*) FROM parlance.messages WHERE conversation = 'c'", 3).await?;
    let all = "SELECT seq, client_id, client_id_uses, body FROM parlance.messages WHERE conversation = 'c' ORDER BY seq";
    let found = postgres.rows(all).await?;
    let expected = [["2", "m-1", "1", "m-1"], ["3", "m-2", "0", "m-2"], ["99", "m-1", "0", "long ago"]];
    ensure!(found == expected, "{found:?}");
    let lost = postgres.rows("SELECT seq, body FROM parlance.superseded_messages").await?;
    ensure!(lost == [["2", "lost"]], "{lost:?}");
    Ok(())
}
