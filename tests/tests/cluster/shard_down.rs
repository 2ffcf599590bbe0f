//! One of five primaries of a Cluster is down, and nobody takes its place: what lies on the others goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Cluster;
use parlance_tests::chaos::shards::{lies_on, names_of, victim};
use parlance_tests::{Gateway, IoClient, Options, PATIENCE, Ws, gateway::until_status, token};
use serde_json::{Value, json};
use tokio::time::Instant;

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
