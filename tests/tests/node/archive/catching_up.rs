//! Clients that were away for longer than the engine keeps: they hear all of it, in order, once, as those did who were there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::io::Told;
use parlance_tests::metrics::until;
use parlance_tests::{Gateway, IoClient, Options, Postgres, Ws, token};
use serde_json::{Value, json};

use super::story::{MESSAGES, Reader, body, happens, is_archived, short};
use crate::webhooks::connect;

const MEMBERS: [&str; 7] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"];

fn bodies() -> Vec<String> {
    (0..MESSAGES).map(body).collect()
}

/// What a SeChat client hears up to the last message.
async fn heard(socket: &mut Ws) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let mut frame = socket.expect("message:received").await?;
        // Only who was away is told that it waited.
        if let Some(fields) = frame.as_object_mut() {
            fields.remove("wasQueued");
        }
        let last = frame["body"] == body(MESSAGES - 1);
        all.push(frame);
        if last {
            return Ok(all);
        }
    }
}

async fn famly(gateway: &Gateway, user: &str, more: Value) -> Result<IoClient> {
    let mut auth = json!({ "token": token(user)? });
    if let (Some(auth), Value::Object(more)) = (auth.as_object_mut(), more) {
        auth.extend(more);
    }
    IoClient::connect(&gateway.url("/socket.io/"), &auth).await
}

/// What a Famly client hears of a conversation's log up to the last message.
async fn heard_by(io: &mut IoClient) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    loop {
        let mut told = io.next().await?;
        let last =
            told.name == "message:notification" && told.args[0]["message"]["body"] == body(MESSAGES - 1);
        if told.name.starts_with("chat:") {
            // It says how things stand when it is told.
            told.args.clear();
        }
        if told.name.starts_with("message:") || told.name.starts_with("chat:") {
            all.push(told);
        }
        if last {
            return Ok(all);
        }
    }
}

/// One round of SocialHub's polling after another, until there is no more.
async fn polled(gateway: &Gateway, cursor: &mut u64) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let path = format!("/api/v1/realtime/poll?user_id=dave&last_poll_id={cursor}&timeout=0");
        let answer = gateway.read("dave", &path).await?;
        let events = answer["events"].as_array().context("no events")?;
        all.extend(events.iter().cloned());
        *cursor = answer["last_poll_id"].as_u64().context("no cursor")?;
        if events.is_empty() {
            return Ok(all);
        }
    }
}

/// Frank has read a message that the engine has no more, and that its author gave no id.
async fn is_read(gateway: &Gateway, frank: &mut Ws, message: &Value) -> Result<()> {
    let id = message["messageId"].as_str().filter(|id| id.starts_with("msg_")).context("an id")?;
    let read = json!({ "type": "receipt:read", "messageId": id, "conversationId": "room", "fromUserId": "frank", "toUserId": "carol" });
    frank.send(&read).await?;
    for _ in 0..100 {
        let page = gateway.read("frank", "/api/v1/conversations").await?;
        let last = &page["conversations"][0]["lastRead"];
        if !last.is_null() {
            let up_to = Reader::Member.page(gateway, &format!("limit=200&before={id}")).await?;
            // The conversation begins with its members and "hello".
            ensure!(up_to.bodies()? == ["hello".to_owned(), body(0)], "{up_to:?}");
            ensure!(last["sequence"].as_u64().is_some_and(|seq| seq < 20), "{last}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("nothing is read: {}", gateway.log())
}

/// Who is there while it happens, and who comes afterwards.
async fn all_hear_it(options: &Options, postgres: &Postgres) -> Result<()> {
    let gateway = Gateway::start(options.clone()).await?;
    gateway.conversation("room", &MEMBERS).await?;
    let mut cursor = 0;
    polled(&gateway, &mut cursor).await?;
    let mut there = connect(&gateway, "erin").await?;
    let (mut famly_there, mut famly_gone) =
        (famly(&gateway, "grace", json!({})).await?, famly(&gateway, "frank", json!({})).await?);
    let hello = json!({ "senderId": "alice", "body": "hello" });
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&hello)).await?;
    there.expect("message:received").await?;
    famly_there.expect("message:notification").await?;
    let offset = famly_gone.expect("message:notification").await?.args.last().cloned();
    let pid = famly_gone.joined["pid"].clone();
    drop(famly_gone);
    happens(&gateway).await?;
    is_archived(postgres, MESSAGES + 1).await?;

    let told = heard(&mut there).await?;
    let mut away = connect(&gateway, "frank").await?;
    ensure!(away.expect("message:received").await?["body"] == "hello");
    let late = heard(&mut away).await?;
    let other = late.iter().zip(&told).find(|(late, told)| late != told);
    ensure!(late == told, "{} and {}: {other:?}", late.len(), told.len());
    let texts: Vec<&str> = told.iter().filter_map(|frame| frame["body"].as_str()).collect();
    ensure!(texts == bodies(), "{texts:?}");
    is_read(&gateway, &mut away, &told[1]).await?;

    let told = heard_by(&mut famly_there).await?;
    let mut back = famly(&gateway, "frank", json!({ "pid": pid, "offset": offset })).await?;
    ensure!(back.joined["pid"] == pid, "{}", back.joined);
    let heard = heard_by(&mut back).await?;
    let other = heard.iter().zip(&told).find(|(heard, told)| heard != told);
    ensure!(heard == told, "{} and {}: {other:?}", heard.len(), told.len());

    let events = polled(&gateway, &mut cursor).await?;
    let texts: Vec<&str> = events.iter().filter_map(|event| event["payload"]["content"].as_str()).collect();
    ensure!(texts[0] == "hello" && texts[1..] == bodies(), "{texts:?}");
    ensure!(events.iter().all(|event| event["type"] != "error"), "{events:?}");
    // And once more, by the integers that they have now.
    ensure!(polled(&gateway, &mut 0).await? == events);
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_who_comes_back_hears_all_of_it() -> Result<()> {
    let postgres = Postgres::start().await?;
    all_hear_it(&short(&postgres, ""), &postgres).await
}

#[tokio::test]
async fn on_redis_who_comes_back_hears_all_of_it() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    all_hear_it(&short(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url()), &postgres).await
}

#[tokio::test]
async fn without_postgresql_history_is_refused_and_who_comes_back_is_told_and_goes_on() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, "")).await?;
    gateway.conversation("room", &MEMBERS).await?;
    let story = happens(&gateway).await?;
    is_archived(&postgres, MESSAGES).await?;
    ensure!(Reader::Member.back(&gateway, 200).await?.len() == MESSAGES);
    postgres.kill9()?;
    let old = format!("limit=20&before={}", story.ids[100]);
    for reader in [Reader::Member, Reader::Backend, Reader::In("sechat")] {
        for query in [&old, "limit=200", "limit=5&since=2001-01-01T00:00:00Z"] {
            let (status, answer) = reader.ask(&gateway, query).await?;
            ensure!(status == 503, "{reader:?} {query}: {status} {answer}");
        }
        ensure!(reader.page(&gateway, "limit=10").await?.messages.len() == 10, "what is kept is read");
    }
    let began = std::time::Instant::now();
    let mut away = connect(&gateway, "frank").await?;
    let told = away.expect("error").await?;
    ensure!(told["details"]["resync"] == true && told["details"]["conversationId"] == "room", "{told}");
    let live = json!({ "senderId": "alice", "body": "live" });
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&live)).await?;
    while away.expect("message:received").await?["body"] != "live" {}
    ensure!(began.elapsed() < Duration::from_secs(4), "nobody is held up: {:?}", began.elapsed());
    let away = "parlance_archive_reads_total";
    until(&gateway, |page| page.sum(away, &[("outcome", "away")]) >= 9.0).await?;
    let lines = gateway.log().lines().filter(|line| line.contains("archive cannot be read")).count();
    ensure!(lines == 1, "said once: {}", gateway.log());
    postgres.restart().await?;
    is_archived(&postgres, MESSAGES + 1).await?;
    for _ in 0..100 {
        if Reader::Backend.ask(&gateway, "limit=200").await?.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(Reader::Backend.back(&gateway, 50).await?.len() == MESSAGES + 1);
    ensure!(gateway.log().contains("can be read again"), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn where_postgresql_hangs_nobody_waits_for_long() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, "")).await?;
    gateway.conversation("room", &MEMBERS).await?;
    happens(&gateway).await?;
    is_archived(&postgres, MESSAGES).await?;
    let hangs = "BEGIN; LOCK TABLE parlance.messages IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(7); COMMIT";
    let asks = async {
        postgres.until("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'", 1).await?;
        let began = std::time::Instant::now();
        let (status, answer) = Reader::Member.ask(&gateway, "limit=200").await?;
        ensure!(status == 503 && began.elapsed() < Duration::from_secs(4), "{status} {answer}");
        // And the next one not at all.
        let (status, _) = Reader::Member.ask(&gateway, "limit=200").await?;
        ensure!(status == 503 && began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let began = std::time::Instant::now();
        let mut away = connect(&gateway, "frank").await?;
        ensure!(away.expect("error").await?["details"]["resync"] == true);
        ensure!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        Ok(())
    };
    let (locked, asked) = tokio::join!(postgres.rows(hangs), asks);
    locked?;
    asked?;
    for _ in 0..100 {
        if Reader::Backend.ask(&gateway, "limit=200").await?.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(Reader::Backend.back(&gateway, 200).await?.len() == MESSAGES);
    Ok(())
}
