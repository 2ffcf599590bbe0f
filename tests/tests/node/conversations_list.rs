//! Lists of chats and histories over HTTP, on one node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, Reader, Response, SECRET, lists, token};
use serde_json::{Value, json};

async fn node() -> Result<Gateway> {
    Gateway::start(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn walks_in_both_directions_meet_every_message_once_while_others_write() -> Result<()> {
    for seed in [7, 40] {
        lists::walks_meet_every_message_once(&[&node().await?], seed).await?;
    }
    Ok(())
}

#[tokio::test]
async fn receipts_of_every_dialect_count() -> Result<()> {
    lists::unread_follows_receipts_of_every_dialect(&[&node().await?]).await
}

#[tokio::test]
async fn a_client_without_a_socket_says_how_far_it_has_read() -> Result<()> {
    lists::reading_over_http_is_heard(&[&node().await?]).await
}

#[tokio::test]
async fn a_list_is_walked_while_others_write() -> Result<()> {
    lists::lists_page_over_what_is_written_meanwhile(&[&node().await?]).await
}

const LIST: &str = "/api/v1/conversations";
const HISTORY: &str = "/api/v1/conversations/room/messages";
const READ: &str = "/api/v1/conversations/room/read";
const CHAT: &str = "/v1/chats/room/messages";
const CURSORS: &str = "/v1/chats/room/cursors";

/// What a refusal says: its status and its code, in either of the two shapes.
fn refusal(answer: &Response) -> Result<(u16, String)> {
    let body = answer.json()?;
    let code = body.get("code").or_else(|| body.get("error")).and_then(Value::as_str);
    Ok((answer.status, code.with_context(|| format!("no code: {body}"))?.to_owned()))
}

#[tokio::test]
async fn only_good_tokens_of_members_are_answered() -> Result<()> {
    let gateway = node().await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let claims =
        |span: i64| json!({ "sub": "bob", "exp": expiry(Duration::ZERO).saturating_add_signed(span) });
    let (old, forged) = (sign(&claims(-60), SECRET)?, sign(&claims(60), &"x".repeat(32))?);
    for (method, path) in [("GET", LIST), ("GET", HISTORY), ("GET", CHAT), ("GET", CURSORS), ("PUT", READ)] {
        // What is wrong besides is told to nobody without a token.
        for token in [None, Some("nonsense"), Some(old.as_str()), Some(forged.as_str())] {
            let answer = gateway.public(method, &format!("{path}?limit=x"), token).await?;
            ensure!(answer.status == 401, "{method} {path} {token:?}: {} {}", answer.status, answer.body);
            ensure!(answer.header("www-authenticate") == Some("Bearer"), "{path}");
        }
        if path != LIST {
            let answer = gateway.public(method, path, Some(&token("mallory")?)).await?;
            ensure!(refusal(&answer)? == (403, "FORBIDDEN".to_owned()), "{path}: {}", answer.body);
        }
    }
    ensure!(Reader::new(&[&gateway], "mallory")?.list(50).await?.is_empty(), "nobody's");
    let change = json!({ "removeMembers": ["bob"] });
    gateway.call("PATCH", "/api/v1/conversations/room", Some(&change)).await?;
    ensure!(Reader::new(&[&gateway], "bob")?.list(50).await?.is_empty(), "removed");
    let mark = json!({ "sequence": 1 });
    let answer = Reader::new(&[&gateway], "bob")?.call("PUT", READ, Some(&mark)).await?;
    ensure!(refusal(&answer)? == (403, "FORBIDDEN".to_owned()), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn calls_that_mean_nothing_are_refused() -> Result<()> {
    let gateway = node().await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    gateway.conversation("other", &["alice", "bob"]).await?;
    let say = async |room: &str| {
        let body = json!({ "senderId": "alice", "body": "x" });
        gateway.call("POST", &format!("/api/v1/conversations/{room}/messages"), Some(&body)).await
    };
    let (here, there) = (say("room").await?, say("other").await?);
    let (nodes, there) = ([&gateway], there["id"].as_str().context("no id")?);
    let mut bob = Reader::new(&nodes, "bob")?;
    for limit in ["0", "-1", "201", "x", "1e2", "99999999999999999999999", "1.5"] {
        for (path, code) in
            [(LIST, "INVALID_REQUEST"), (HISTORY, "INVALID_REQUEST"), (CHAT, "VALIDATION_ERROR")]
        {
            let answer = bob.call("GET", &format!("{path}?limit={limit}"), None).await?;
            ensure!(refusal(&answer)? == (400, code.to_owned()), "{path} {limit}: {}", answer.body);
        }
    }
    let (foreign, both) = (format!("after={there}"), format!("since={there}&after={there}"));
    let before = format!("before={there}");
    for query in
        ["after=nonsense", "before=0", "since=yesterday", &foreign, &before, &both, "dialect=klingon"]
    {
        let answer = bob.call("GET", &format!("{HISTORY}?{query}"), None).await?;
        ensure!(refusal(&answer)? == (400, "INVALID_REQUEST".to_owned()), "{query}: {}", answer.body);
    }
    for query in ["after=a%20b", "dialect=klingon"] {
        let answer = bob.call("GET", &format!("{LIST}?{query}"), None).await?;
        ensure!(refusal(&answer)? == (400, "INVALID_REQUEST".to_owned()), "{query}: {}", answer.body);
    }
    for (body, status, code) in [
        (json!({}), 400, "INVALID_REQUEST"),
        (json!([]), 400, "INVALID_REQUEST"),
        (json!({ "sequence": -1 }), 400, "INVALID_REQUEST"),
        (json!({ "sequence": 1, "messageId": here["id"] }), 400, "INVALID_REQUEST"),
        (json!({ "sequence": 1, "more": 1 }), 400, "INVALID_REQUEST"),
        (json!({ "messageId": "nonsense" }), 400, "INVALID_REQUEST"),
        (json!({ "messageId": there }), 400, "INVALID_REQUEST"),
        (json!({ "messageId": "msg_000000000000000000000001" }), 404, "NOT_FOUND"),
        (json!({ "messageId": "x".repeat(5000) }), 413, "PAYLOAD_TOO_LARGE"),
    ] {
        let answer = bob.call("PUT", READ, Some(&body)).await?;
        ensure!(refusal(&answer)? == (status, code.to_owned()), "{body}: {}", answer.body);
    }
    for (method, path, allow) in [("POST", LIST, "GET, HEAD"), ("GET", READ, "PUT")] {
        let answer = bob.call(method, path, None).await?;
        ensure!(answer.status == 405 && answer.header("allow") == Some(allow), "{method} {path}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_have_limits_and_times_have_zones() -> Result<()> {
    let gateway = node().await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let mut sent = Vec::new();
    for n in 0..210 {
        let body = json!({ "senderId": "alice", "body": n.to_string() });
        sent.push(gateway.call("POST", HISTORY, Some(&body)).await?);
    }
    let nodes = [&gateway];
    let mut bob = Reader::new(&nodes, "bob")?;
    for (query, expected) in [("", 50), ("limit=", 50), ("limit=1", 1), ("limit=200", 200)] {
        let (page, more) = bob.page("room", query).await?;
        ensure!(page.len() == expected && more, "{query}: {}", page.len());
        ensure!(page.last().is_some_and(|last| last["body"] == "209"), "the newest: {query}");
    }
    // The same moment, however it is written: with an offset, escaped or not, and without any zone.
    let at = sent[150]["createdAt"].as_str().context("no time")?;
    let expected = bob.page("room", &format!("since={at}&limit=200")).await?.0;
    let first = expected.first().context("nothing")?["createdAt"].as_str();
    ensure!(first == Some(at), "{first:?} is not {at}");
    let bare = at.trim_end_matches('Z');
    for zone in ["%2B00:00", "+00:00", "-00:00", ""] {
        let found = bob.page("room", &format!("since={bare}{zone}&limit=200")).await?.0;
        ensure!(found == expected, "{zone}");
    }
    for (time, expected) in [("2020-01-01T02:00:00+05:30", "0"), ("1970-01-01T00:00:00Z", "0")] {
        let found = bob.page("room", &format!("since={time}&limit=1")).await?.0;
        ensure!(found[0]["body"] == expected, "{time}: {found:?}");
    }
    ensure!(bob.page("room", "since=2999-01-01T00:00:00Z").await? == (vec![], false), "nothing yet");
    Ok(())
}

#[tokio::test]
async fn counting_stops_at_a_hundred() -> Result<()> {
    let gateway = node().await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let nodes = [&gateway];
    let mut bob = Reader::new(&nodes, "bob")?;
    for n in 1..=102u64 {
        let body = json!({ "senderId": "alice", "body": "x" });
        gateway.call("POST", HISTORY, Some(&body)).await?;
        if n >= 99 {
            let listed = bob.listed("room").await?;
            let (unread, more) = (listed["unread"].as_u64(), listed["moreUnread"].as_bool());
            ensure!((unread, more) == (Some(n.min(100)), Some(n > 100)), "{n}: {listed}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_there_before_a_member_was_read_by_nobody() -> Result<()> {
    let gateway = node().await?;
    gateway.conversation("room", &["alice"]).await?;
    for n in 0..3 {
        let body = json!({ "senderId": "alice", "body": n.to_string() });
        gateway.call("POST", HISTORY, Some(&body)).await?;
    }
    gateway.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "addMembers": ["bob"] }))).await?;
    let body = json!({ "senderId": "alice", "body": "new", "clientId": "new" });
    gateway.call("POST", HISTORY, Some(&body)).await?;
    // Delivered, not read: a cursor of bob's stands where he came.
    let mut ws = gateway.connect("/sechat", "bob").await?;
    ws.expect("message:received").await?;
    ws.send(&json!({ "type": "receipt:delivered", "messageId": "new", "toUserId": "alice" })).await?;
    ws.send(&json!({ "type": "request_queued_events", "sessionId": "bob" })).await?;
    ws.expect("queued_events").await?;
    let nodes = [&gateway];
    let mut bob = Reader::new(&nodes, "bob")?;
    ensure!(bob.get(CURSORS).await? == json!({ "cursors": [] }), "he has read nothing");
    let listed = bob.listed("room").await?;
    ensure!(listed["unread"] == 1 && listed["lastRead"] == Value::Null, "{listed}");
    // He may read what was said before he came.
    let page = bob.get(HISTORY).await?;
    ensure!(page["messages"].as_array().is_some_and(|all| all.len() == 4), "members read all of it: {page}");
    Ok(())
}

#[tokio::test]
async fn markup_is_removed_as_from_the_history() -> Result<()> {
    let gateway = node().await?;
    let long = format!("<b>{}</b>", "é".repeat(300));
    for (room, body) in [("42", "<b>bold</b>"), ("room", "<b>bold</b>"), ("43", long.as_str())] {
        gateway.conversation(room, &["alice", "bob"]).await?;
        let body = json!({ "senderId": "alice", "body": body });
        gateway.call("POST", &format!("/api/v1/conversations/{room}/messages"), Some(&body)).await?;
    }
    let nodes = [&gateway];
    let mut bob = Reader::new(&nodes, "bob")?;
    for (query, room, body) in
        [("", "42", "bold"), ("", "room", "<b>bold</b>"), ("dialect=lingochat", "room", "bold")]
    {
        let page = bob.get(&format!("{LIST}?{query}")).await?;
        let all = page["conversations"].as_array().context("none")?;
        let last = &all.iter().find(|one| one["id"] == room).context("not listed")?["lastMessage"];
        ensure!(last["body"] == body && last["cut"] == false, "{query} {room}: {last}");
    }
    let last = &bob.listed("43").await?["lastMessage"];
    ensure!(last["cut"] == true && last["body"] == "é".repeat(256).as_str(), "{last}");
    Ok(())
}
