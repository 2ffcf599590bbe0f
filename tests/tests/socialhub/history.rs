//! History over HTTP with a user's token: what a client that was away reads when it comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Client, conversation};
use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, Response, SECRET, token};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chats/room/messages";
const CURSORS: &str = "/v1/chats/room/cursors";
const CONVERSATION: &str = "/api/v1/conversations/room/messages";

async fn gateway(more: &[(&str, &str)]) -> Result<Gateway> {
    let options = Options::brief().env("PARLANCE_NO_LIMITS", "true");
    let options = more.iter().fold(options, |options, (name, value)| options.env(name, value));
    let gateway = Gateway::start(options).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    Ok(gateway)
}

async fn get(gateway: &Gateway, user: &str, path: &str) -> Result<Response> {
    gateway.public("GET", path, Some(&token(user)?)).await
}

async fn page(gateway: &Gateway, path: &str) -> Result<Value> {
    let answer = get(gateway, "bob", path).await?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    answer.json()
}

/// Sends on alice's behalf and returns what the gateway says of each message.
async fn send(gateway: &Gateway, numbers: std::ops::Range<usize>) -> Result<Vec<Value>> {
    let mut sent = Vec::new();
    for n in numbers {
        let body = json!({ "senderId": "alice", "body": n.to_string(), "clientId": format!("k{n}") });
        let (status, answer) = gateway.api("POST", CONVERSATION, Some(&body)).await?;
        ensure!(status == 201, "{answer}");
        sent.push(answer);
    }
    Ok(sent)
}

fn id(message: &Value) -> Result<String> {
    let id = message.get("_id").or_else(|| message.get("id")).and_then(Value::as_str);
    id.map(str::to_owned).with_context(|| format!("no id: {message}"))
}

fn messages(page: &Value) -> &[Value] {
    page["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bodies(page: &Value) -> Vec<&str> {
    messages(page).iter().filter_map(|message| message["body"].as_str()).collect()
}

#[tokio::test]
async fn pages_cover_everything_exactly_once_in_both_directions() -> Result<()> {
    let gateway = gateway(&[]).await?;
    let sent = send(&gateway, 0..250).await?;
    let expected: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    for (path, more) in [(CHAT, "hasMore"), (CONVERSATION, "has_more")] {
        let (mut back, mut query, mut pages) = (Vec::new(), "?limit=40".to_owned(), 0);
        loop {
            let found = page(&gateway, &format!("{path}{query}")).await?;
            back.splice(0..0, bodies(&found).into_iter().map(str::to_owned));
            pages += 1;
            if found[more] == false {
                break;
            }
            query = format!("?limit=40&before={}", id(&messages(&found)[0])?);
        }
        assert_eq!((&back, pages), (&expected, 7), "{path} backward");

        let (mut on, mut query, mut pages) = (Vec::new(), "?limit=60&since=2020-01-01".to_owned(), 0);
        query.push_str("T00:00:00Z");
        loop {
            let found = page(&gateway, &format!("{path}{query}")).await?;
            on.extend(bodies(&found).into_iter().map(str::to_owned));
            pages += 1;
            if found[more] == false {
                break;
            }
            query = format!("?limit=60&after={}", id(messages(&found).last().context("empty")?)?);
        }
        assert_eq!((&on, pages), (&expected, 5), "{path} forward");
        assert_eq!(bodies(&page(&gateway, path).await?), expected[200..], "without a question the newest");
    }
    let since = id(&sent[240])?;
    let found = page(&gateway, &format!("{CONVERSATION}?since={since}")).await?;
    assert_eq!(bodies(&found), expected[241..], "after the message that was named");
    assert_eq!(found["lastSequence"].as_u64(), sent[249]["seq"].as_u64());
    let ids: BTreeSet<String> =
        messages(&page(&gateway, &format!("{CHAT}?limit=200")).await?).iter().flat_map(id).collect();
    assert_eq!(ids.len(), 200, "ids are unique");
    Ok(())
}

#[tokio::test]
async fn since_takes_a_time_which_is_included() -> Result<()> {
    let gateway = gateway(&[]).await?;
    let first = send(&gateway, 0..3).await?;
    // The next one must not be of the same millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let later = send(&gateway, 3..6).await?;
    let at = later[0]["createdAt"].as_str().context("no time")?;
    assert!(first.iter().all(|message| message["createdAt"].as_str() < Some(at)));
    let found = page(&gateway, &format!("{CONVERSATION}?since={at}")).await?;
    assert_eq!(bodies(&found), ["3", "4", "5"]);
    Ok(())
}

#[tokio::test]
async fn both_shapes_and_every_rendering_of_an_id_mean_the_same_message() -> Result<()> {
    let gateway = gateway(&[]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(alice.say("room", text).await?);
    }
    let (chat, own) = (page(&gateway, CHAT).await?, page(&gateway, CONVERSATION).await?);
    assert_eq!(bodies(&chat), bodies(&own));
    for (n, uuid) in ids.iter().enumerate() {
        let (chat, own) = (id(&messages(&chat)[n])?, id(&messages(&own)[n])?);
        for rendering in [uuid, &chat, &own] {
            for path in [CHAT, CONVERSATION] {
                let found = page(&gateway, &format!("{path}?after={rendering}")).await?;
                assert_eq!(bodies(&found), ["one", "two", "three"][n + 1..], "{path} {rendering}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_members_read_and_only_with_a_good_token() -> Result<()> {
    let gateway = gateway(&[]).await?;
    send(&gateway, 0..2).await?;
    let claims =
        |span: i64| json!({ "sub": "alice", "exp": expiry(Duration::ZERO).saturating_add_signed(span) });
    let (old, foreign) = (sign(&claims(-60), SECRET)?, sign(&claims(60), &"x".repeat(32))?);
    for path in [CHAT, CURSORS, CONVERSATION] {
        for token in [None, Some("nonsense"), Some(old.as_str()), Some(foreign.as_str())] {
            let answer = gateway.public("GET", path, token).await?;
            assert_eq!(answer.status, 401, "{path} {token:?}");
            assert!(!answer.body.contains("messages") && !answer.body.contains("cursors"));
        }
        assert_eq!(get(&gateway, "mallory", path).await?.status, 403, "{path}");
        assert_eq!(get(&gateway, "bob", path).await?.status, 200, "{path}");
    }
    let change = json!({ "removeMembers": ["bob"] });
    assert_eq!(gateway.api("PATCH", "/api/v1/conversations/room", Some(&change)).await?.0, 200);
    for path in [CHAT, CURSORS, CONVERSATION] {
        assert_eq!(get(&gateway, "bob", path).await?.status, 403, "removed: {path}");
        assert_eq!(get(&gateway, "alice", path).await?.status, 200, "{path}");
    }
    let answer = get(&gateway, "bob", CHAT).await?.json()?;
    assert_eq!((&answer["ok"], &answer["error"]), (&json!(false), &json!("FORBIDDEN")));
    assert!(!gateway.log().contains(&old), "no token in the log");
    Ok(())
}

#[tokio::test]
async fn a_read_receipt_moves_the_cursor_to_the_message_as_famly_knows_it() -> Result<()> {
    let gateway = gateway(&[]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(alice.say("room", text).await?);
    }
    assert_eq!(page(&gateway, CURSORS).await?, json!({ "cursors": [] }));
    let chat = page(&gateway, CHAT).await?;
    // The last receipt is of an older message: the cursor stays.
    for (read, expected) in [(1, 1), (2, 2), (0, 2)] {
        let payload = json!({ "conversation_id": "room", "message_ids": [ids[read]] });
        bob.accepted(json!({ "type": "read_receipt", "payload": payload })).await?;
        let found = page(&gateway, CURSORS).await?;
        let cursors = found["cursors"].as_array().context("no cursors")?;
        assert_eq!(cursors.len(), 1, "{found}");
        let expected = &messages(&chat)[expected];
        assert_eq!((&cursors[0]["userId"], &cursors[0]["messageId"]), (&json!("bob"), &expected["_id"]));
        assert!(cursors[0]["readAt"].as_str() >= expected["createdAt"].as_str(), "{found}");
    }
    // What follows is no message: the cursor still stands at the newest one read.
    let change = json!({ "title": "A title", "addMembers": ["carol"] });
    assert_eq!(gateway.api("PATCH", "/api/v1/conversations/room", Some(&change)).await?.0, 200);
    let found = page(&gateway, CURSORS).await?;
    assert_eq!(found["cursors"][0]["messageId"], messages(&chat)[2]["_id"]);
    Ok(())
}

#[tokio::test]
async fn what_is_kept_no_more_is_said_to_be_gone() -> Result<()> {
    let gateway = gateway(&[("PARLANCE_RETENTION_ENTRIES", "20")]).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let sent = send(&gateway, 0..10).await?;
    let payload = json!({ "conversation_id": "room", "message_ids": [id(&sent[4])?] });
    bob.accepted(json!({ "type": "read_receipt", "payload": payload })).await?;
    let read = page(&gateway, CURSORS).await?["cursors"][0]["messageId"].clone();
    assert_eq!(read, messages(&page(&gateway, CHAT).await?)[4]["_id"]);
    send(&gateway, 10..200).await?;

    let own = page(&gateway, CONVERSATION).await?;
    let kept = messages(&own).len();
    assert!((1..200).contains(&kept), "nothing was given up");
    assert_eq!((&own["has_more"], &own["truncated"]), (&json!(false), &json!(true)));
    assert_eq!(own["firstSequence"], messages(&own)[0]["seq"]);
    let after = format!("?after={}", id(&sent[4])?);
    for (path, more) in [(CHAT, "hasMore"), (CONVERSATION, "has_more")] {
        let found = page(&gateway, &format!("{path}{after}")).await?;
        assert_eq!(
            (messages(&found).len(), &found[more], &found["truncated"]),
            (kept, &json!(false), &json!(true))
        );
        let newest = id(&messages(&page(&gateway, &format!("{path}?limit=2")).await?)[0])?;
        let found = page(&gateway, &format!("{path}?after={newest}")).await?;
        assert!(found["truncated"] != true, "nothing of this is gone: {found}");
    }
    // The cursor's message is gone too: it is still below everything that is kept.
    let cursor = page(&gateway, CURSORS).await?["cursors"][0]["messageId"].clone();
    let oldest = messages(&page(&gateway, CHAT).await?)[0]["_id"].clone();
    assert!(
        cursor.as_str() < oldest.as_str() && cursor.as_str() >= read.as_str(),
        "{read} {cursor} {oldest}"
    );
    assert_eq!(cursor.as_str().map(|id| &id[8..]), read.as_str().map(|id| &id[8..]), "the same message");
    Ok(())
}
