//! One of five primaries of a Cluster is down, and nobody takes its place: what lies on the others goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Cluster;
use parlance_tests::chaos::shards::{lies_on, names_of, victim};
use parlance_tests::{Gateway, IoClient, Options, PATIENCE, Ws, gateway::until_status, token};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

/// How quickly what lies on the dead primary is refused.
const QUICK: Duration = Duration::from_secs(5);

/// The first of many names that lies (or does not lie) on this primary.
async fn named(cluster: &Cluster, (kind, stem): (&str, &str), on: usize, wanted: bool) -> Result<String> {
    for number in 0..100 {
        let name = format!("{stem}{number}");
        let mut places = vec![lies_on(cluster, &format!("{kind}{name}")).await?];
        if kind == "u:" {
            // What is asked at every login besides.
            for name in names_of(&name) {
                places.push(lies_on(cluster, &name).await?);
            }
        }
        if places.iter().all(|place| (*place == on) == wanted) {
            return Ok(name);
        }
    }
    anyhow::bail!("no such name")
}

/// A connection of a dialect.
enum Line {
    Famly(Box<IoClient>),
    Sechat(Ws),
    Socialhub(Ws),
}

const WAYS: [&str; 3] = ["famly", "sechat", "socialhub"];

impl Line {
    async fn open(way: &str, node: &Gateway, user: &str) -> Result<Self> {
        Ok(match way {
            "famly" => {
                let auth = json!({ "token": token(user)? });
                Self::Famly(Box::new(IoClient::connect(&node.url("/socket.io/"), &auth).await?))
            }
            "sechat" => Self::Sechat(node.connect("/sechat", user).await?),
            _ => Self::Socialhub(node.connect("/ws", user).await?),
        })
    }

    /// What is kept under a session's random name may lie on the dead primary: another attempt has another.
    async fn connect(way: &str, node: &Gateway, user: &str) -> Result<Self> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::open(way, node, user).await {
                Ok(line) => return Ok(line),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Whether a message was accepted, and the answer.
    async fn send(&mut self, room: &str, id: &str) -> Result<(bool, Value)> {
        match self {
            Self::Famly(io) => {
                let asked = json!({ "chatId": room, "body": id, "clientId": id });
                let answer = io.ask("message:send", &[asked]).await?.pop().context("an empty answer")?;
                Ok((answer["ok"] == true, answer))
            }
            Self::Sechat(ws) => {
                ws.send(&json!({
                    "type": "message:send", "messageId": id, "conversationId": room, "toUserIds": [], "body": id,
                }))
                .await?;
                loop {
                    let frame = ws.next().await?;
                    let of = [&frame["messageId"], &frame["details"]["messageId"]];
                    if of.into_iter().any(|it| it == id) && frame["type"] != "message:new" {
                        return Ok((frame["type"] == "message:acked", frame));
                    }
                }
            }
            Self::Socialhub(ws) => {
                let payload = json!({ "conversation_id": room, "content": id, "client_id": id });
                ws.send(&json!({ "type": "message", "payload": payload, "ack_id": id })).await?;
                loop {
                    let frame = ws.next().await?;
                    if frame["type"] == "ack" && frame["ack_id"] == id {
                        return Ok((frame["payload"]["success"] == true, frame));
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_lies_on_the_other_primaries_goes_on() -> Result<()> {
    let mut cluster = Cluster::with(5, 0).await?;
    let options = Options::default().env("PARLANCE_REDIS_URL", &cluster.url());
    let first = Gateway::start(options.clone()).await?;
    let dead = victim(&cluster).await?;
    let user = named(&cluster, ("u:", "alice"), dead, false).await?;
    let friend = named(&cluster, ("u:", "bob"), dead, false).await?;
    let well = named(&cluster, ("c:", "well"), dead, false).await?;
    let away = named(&cluster, ("c:", "away"), dead, true).await?;
    for room in [&well, &away] {
        first.conversation(room, &[&user, &friend]).await?;
    }
    cluster.server_mut(dead).kill9()?;
    let second = Gateway::start(options).await?;
    let mut lines = Vec::new();
    for node in [&first, &second] {
        until_status(node, "/readyz", 200).await?;
        for way in WAYS {
            let context = || format!("{way} with a primary down; {}", node.log());
            let mut line = Line::connect(way, node, &user).await.with_context(context)?;
            let id = format!("{way}-{}", node.address());
            let (taken, answer) = line.send(&well, &id).await.with_context(context)?;
            ensure!(taken, "{way}: {answer}");
            let begun = Instant::now();
            let (taken, answer) = line.send(&away, &format!("{id}-away")).await.with_context(context)?;
            ensure!(!taken && begun.elapsed() < QUICK, "{way} after {:?}: {answer}", begun.elapsed());
            lines.push((way, id, line));
        }
    }
    cluster.server_mut(dead).restart().await?;
    cluster.wait_ok().await?;
    for (way, id, line) in &mut lines {
        let until = Instant::now() + PATIENCE;
        while let (false, answer) = line.send(&away, &format!("{id}-away")).await? {
            ensure!(Instant::now() < until, "{way} does not heal: {answer}");
        }
    }
    Ok(())
}

/// Whether a subscription was accepted; the messages that came before the answer are put to the others.
async fn subscribes(ws: &mut Ws, room: &str, heard: &mut Vec<String>) -> Result<bool> {
    let channel = format!("conversation:{room}");
    ws.send(&json!({ "type": "subscribe", "payload": { "channel": channel }, "ack_id": "s" })).await?;
    loop {
        let frame = ws.next().await?;
        if frame["type"] == "ack" && frame["ack_id"] == "s" {
            return Ok(frame["payload"]["success"] == true);
        }
        note(&frame, heard);
    }
}

/// A message counts once, as clients show it: what may not have come is told again with its id.
fn note(frame: &Value, heard: &mut Vec<String>) {
    let text = frame["payload"]["content"].as_str().unwrap_or_default().to_owned();
    if frame["type"] == "message" && !heard.contains(&text) {
        heard.push(text);
    }
}

#[tokio::test]
async fn who_subscribes_again_while_a_part_is_away_misses_nothing() -> Result<()> {
    let mut cluster = Cluster::with(5, 0).await?;
    let node = Gateway::start(Options::default().env("PARLANCE_REDIS_URL", &cluster.url())).await?;
    let dead = victim(&cluster).await?;
    let user = named(&cluster, ("u:", "alice"), dead, false).await?;
    let room = named(&cluster, ("c:", "away"), dead, true).await?;
    node.conversation(&room, &[&user, "bob"]).await?;
    let say = async |text: String| {
        let body = json!({ "senderId": "bob", "body": text });
        node.call("POST", &format!("/api/v1/conversations/{room}/messages"), Some(&body)).await.map(drop)
    };
    let address = node.url(&format!("/ws?token={}", token(&user)?));
    let mut heard = Vec::new();
    let mut alice = Ws::connect(&address).await?;
    ensure!(subscribes(&mut alice, &room, &mut heard).await?, "not subscribed");
    alice.close(1000).await?;
    node.until_presence(&user, "devices", 0).await?;
    for n in 0..20 {
        say(format!("missed {n}")).await?;
    }
    cluster.server_mut(dead).kill9()?;
    let mut alice = Ws::connect(&address).await?;
    // Where what is kept for her lies there too, the answer comes when that is back.
    if let Ok(taken) = timeout(QUICK, subscribes(&mut alice, &room, &mut heard)).await {
        ensure!(!taken?, "its part is away");
    }
    cluster.server_mut(dead).restart().await?;
    let until = Instant::now() + PATIENCE;
    while !subscribes(&mut alice, &room, &mut heard).await? {
        ensure!(Instant::now() < until, "it does not heal");
    }
    say("live".to_owned()).await?;
    while heard.last().is_none_or(|text| text != "live") {
        note(&alice.next().await?, &mut heard);
    }
    let mut expected: Vec<String> = (0..20).map(|n| format!("missed {n}")).collect();
    expected.push("live".to_owned());
    ensure!(heard == expected, "{heard:?}");
    Ok(())
}
