//! Each call does what it does over HTTP: what clients hear is compared field by field.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Postgres, Ws};
use serde_json::{Value, json};

use super::{WAITING, add, insert, of_stream, of_table, table, until_empty};

/// How the application says something.
enum Way {
    Http,
    Table(Postgres),
    Stream(Server),
}

impl Way {
    async fn say(&self, gateway: &Gateway, call: &Said) -> Result<()> {
        let (name, target, body) = (call.name, call.target, call.body.as_ref());
        match self {
            Self::Http => drop(gateway.call(call.method, call.path, body).await?),
            Self::Table(postgres) => {
                postgres.rows(&insert(name, target, body)).await?;
                postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
            }
            Self::Stream(redis) => {
                add(redis, name, target, body).await?;
                until_empty(redis).await?;
            }
        }
        Ok(())
    }
}

/// One call, both ways.
struct Said {
    method: &'static str,
    path: &'static str,
    name: &'static str,
    target: Option<&'static str>,
    body: Option<Value>,
}

fn said(
    (method, path): (&'static str, &'static str),
    name: &'static str,
    target: Option<&'static str>,
    body: Value,
) -> Said {
    Said { method, path, name, target, body: Some(body).filter(|body| !body.is_null()) }
}

const TEAM: &str = "/api/v1/conversations/team";

fn conversation(members: &Value) -> Said {
    let body =
        json!({ "id": "team", "type": "group", "title": "Team", "members": members, "createdBy": "alice" });
    said(("POST", "/api/v1/conversations"), "conversation", None, body)
}

fn publish(body: Value) -> Said {
    said(("POST", "/api/v1/publish"), "publish", None, body)
}

/// Times and ids differ, and whether a client is inside already; where they stand does not.
fn masked(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("20") && text.ends_with('Z') => json!("a time"),
        Value::String(text) if text.starts_with("msg_") => json!("an id"),
        Value::String(text) if text.len() == 36 && text.matches('-').count() == 4 => json!("a uuid"),
        Value::String(text) if text.len() == 24 && text.chars().all(|c| c.is_ascii_hexdigit()) => {
            json!("an id")
        }
        Value::Array(all) => all.into_iter().map(masked).collect(),
        Value::Object(mut all) => {
            all.remove("wasQueued");
            all.into_iter().map(|(name, value)| (name, masked(value))).collect()
        }
        other => other,
    }
}

/// What a client hears until this, but for others that come.
async fn until(socket: &mut Ws, kind: &str, heard: &mut Vec<Value>) -> Result<()> {
    loop {
        let frame = socket.next().await?;
        let is_it = frame["type"] == kind;
        if !frame["type"].as_str().is_some_and(|kind| kind.starts_with("presence")) {
            heard.push(masked(frame));
        }
        if is_it {
            return Ok(());
        }
    }
}

async fn until_closed(socket: &mut Ws, heard: &mut Vec<Value>) -> Result<()> {
    heard.push(json!({ "closed": socket.closed().await? }));
    Ok(())
}

/// Everything that can be said, and everything that is heard and found.
async fn heard(way: &Way, options: Options) -> Result<Vec<Value>> {
    let gateway = Gateway::start(options).await?;
    let mut all = Vec::new();
    let say = async |call: Said| way.say(&gateway, &call).await;
    say(conversation(&json!(["alice", "bob", "carol"]))).await?;
    all.push(masked(gateway.call("GET", TEAM, None).await?));
    let (mut bob, mut carol) =
        (gateway.connect("/sechat", "bob").await?, gateway.connect("/ws", "carol").await?);
    for channel in ["conversation:team", "feed:news"] {
        carol
            .send(&json!({ "type": "subscribe", "ack_id": channel, "payload": { "channel": channel } }))
            .await?;
        carol.expect("ack").await?;
    }
    let message = json!({ "senderId": "alice", "body": "Hellö", "clientId": "m-1", "metadata": { "b": 1, "a": [2.50] } });
    say(said(("POST", "/api/v1/conversations/team/messages"), "message", Some("team"), message)).await?;
    until(&mut bob, "message:received", &mut all).await?;
    until(&mut carol, "message", &mut all).await?;
    say(publish(json!({ "channel": "notifications", "type": "notification", "payload": { "n": 1 }, "user_id": "carol" }))).await?;
    until(&mut carol, "notification", &mut all).await?;
    say(publish(json!({ "channel": "feed:news", "type": "feed_update", "payload": [1, "two"] }))).await?;
    until(&mut carol, "feed_update", &mut all).await?;
    let change = json!({ "title": "Another", "addMembers": ["dave"], "removeMembers": ["carol"] });
    say(said(("PATCH", TEAM), "change", Some("team"), change)).await?;
    all.push(masked(gateway.call("GET", TEAM, None).await?));
    all.push(masked(gateway.call("GET", "/api/v1/conversations/team/messages", None).await?));
    say(said(
        ("POST", "/api/v1/users/bob/disconnect"),
        "disconnect",
        Some("bob"),
        json!({ "reason": "out", "reconnect": false }),
    ))
    .await?;
    until_closed(&mut bob, &mut all).await?;
    say(said(("POST", "/api/v1/tokens/revoke"), "revoke", None, json!({ "user": "carol" }))).await?;
    until_closed(&mut carol, &mut all).await?;
    say(said(("DELETE", TEAM), "delete", Some("team"), Value::Null)).await?;
    let (status, answer) = gateway.api("GET", TEAM, None).await?;
    all.push(json!([status, answer["error"]["code"]]));
    Ok(all)
}

#[tokio::test]
async fn a_row_of_the_table_does_what_the_call_does() -> Result<()> {
    let postgres = table().await?;
    let options = of_table(&postgres);
    let over_http = heard(&Way::Http, Options::brief()).await?;
    ensure!(over_http.len() >= 9, "{over_http:#?}");
    let found = heard(&Way::Table(postgres), options).await?;
    ensure!(found == over_http, "{found:#?}\ninstead of\n{over_http:#?}");
    Ok(())
}

#[tokio::test]
async fn an_entry_of_the_stream_does_what_the_call_does() -> Result<()> {
    let redis = Server::standalone().await?;
    let options = of_stream(&redis).env("PARLANCE_ACK_LEVEL", "memory");
    let over_http = heard(&Way::Http, Options::brief()).await?;
    let found = heard(&Way::Stream(redis), options).await?;
    ensure!(found == over_http, "{found:#?}\ninstead of\n{over_http:#?}");
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published_and_what_is_committed_later_is() -> Result<()> {
    let postgres = table().await?;
    let gateway = Gateway::start(of_table(&postgres)).await?;
    gateway.conversation("c", &["alice"]).await?;
    let message =
        |text: &str| insert("message", Some("c"), Some(&json!({ "senderId": "alice", "body": text })));
    // Its number is lower than those of what is published before it.
    let late = format!("BEGIN; {} SELECT pg_sleep(1.5); COMMIT;", message("late"));
    let early = async {
        postgres.until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1).await?;
        postgres.rows(&format!("BEGIN; {} ROLLBACK;", message("never"))).await?;
        postgres.rows(&message("early")).await?;
        postgres.until(WAITING, 0).await
    };
    let (slept, done) = tokio::join!(postgres.rows(&late), early);
    slept?;
    done?;
    postgres.rows(&message("last")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(super::bodies(&gateway, "c").await? == ["early", "late", "last"]);
    Ok(())
}

#[tokio::test]
async fn a_conversation_without_an_id_has_that_of_its_event_and_a_key_counts_over_http_too() -> Result<()> {
    let postgres = table().await?;
    let gateway = Gateway::start(of_table(&postgres)).await?;
    let row = "INSERT INTO parlance.outbox (key, call, body) VALUES";
    postgres
        .rows(&format!(
            "{row} ('order-1', 'conversation', '{{\"type\":\"dm\",\"members\":[\"alice\",\"bob\"]}}')"
        ))
        .await?;
    let publication = json!({ "channel": "feed:news", "type": "feed_update", "payload": 1 });
    postgres.rows(&format!("{row} ('order-2', 'publish', '{publication}')")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    let made = gateway.call("GET", "/api/v1/conversations/order-1", None).await?;
    ensure!(made["members"] == json!(["alice", "bob"]), "{made}");
    // The same event once more.
    postgres.rows(&format!("{row} ('order-2', 'publish', '{publication}')")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    let page = parlance_tests::metrics::Samples::of(&gateway).await?;
    let of =
        |outcome| page.sum("parlance_app_outbox_events_total", &[("call", "publish"), ("outcome", outcome)]);
    ensure!((of("published"), of("repeated")) == (1.0, 1.0));
    Ok(())
}
