//! A node is cut off from Redis while people come and go on another one: once it is back, its clients of every dialect
//! are told how things stand, once.

use std::time::Duration;

use crate::degraded_support::{io, node};
use anyhow::{Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::gateway::until_status;
use parlance_tests::{Gateway, IoClient, Ws};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

const MEMBERS: [&str; 6] = ["ann", "bea", "se", "so", "fa", "li"];

/// Who listens on the node that is cut off; all of them read all the time.
struct Watchers {
    sechat: Ws,
    socialhub: Ws,
    famly: IoClient,
    lingochat: IoClient,
}

/// Whose presence, and what it is said to be.
type Words = Vec<(String, String)>;

fn word(user: &Value, there: bool) -> Option<(String, String)> {
    let user = user.as_str()?;
    let word = if there { "online" } else { "offline" };
    ["ann", "bea"].contains(&user).then(|| (user.to_owned(), word.to_owned()))
}

async fn raw(ws: &mut Ws, until: Instant) -> Result<Words> {
    let mut words = Vec::new();
    while Instant::now() < until {
        // Shorter than the patience of a client that waits for what must come.
        let wait = until.min(Instant::now() + Duration::from_secs(4));
        let Ok(frame) = timeout_at(wait, ws.next()).await else { continue };
        let frame = frame?;
        words.extend(match frame["type"].as_str() {
            Some("presence:update") => word(&frame["sessionId"], frame["isOnline"] == true),
            Some("presence") => word(&frame["payload"]["user_id"], frame["payload"]["status"] != "offline"),
            _ => None,
        });
    }
    Ok(words)
}

async fn socket_io(io: &mut IoClient, until: Instant) -> Result<Words> {
    let mut words = Vec::new();
    while Instant::now() < until {
        let wait = until.min(Instant::now() + Duration::from_secs(4));
        let Ok(told) = timeout_at(wait, io.next()).await else { continue };
        let told = told?;
        words.extend(match told.name.as_str() {
            "presence:update" => word(&told.args[0]["userId"], told.args[0]["status"] == "online"),
            "user:online" => word(&told.args[0], true),
            "user:offline" => word(&told.args[0], false),
            _ => None,
        });
    }
    Ok(words)
}

/// A client inside of the room.
async fn inside(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let mut client = io(gateway, "/lingochat/socket.io/", user).await?;
    client.ask("conversation:join", &[json!("room")]).await?;
    Ok(client)
}

impl Watchers {
    async fn on(gateway: &Gateway) -> Result<Self> {
        let mut socialhub = gateway.connect("/ws", "so").await?;
        for user in ["ann", "bea"] {
            let payload = json!({ "channel": format!("presence:{user}") });
            socialhub.send(&json!({ "type": "subscribe", "payload": payload, "ack_id": user })).await?;
            ensure!(socialhub.expect("ack").await?["payload"]["success"] == true);
        }
        let mut sechat = gateway.connect("/sechat", "se").await?;
        sechat.send(&json!({ "type": "register_session", "sessionId": "se" })).await?;
        sechat.expect("session_registered").await?;
        let famly = io(gateway, "/socket.io/", "fa").await?;
        let lingochat = inside(gateway, "li").await?;
        Ok(Self { sechat, socialhub, famly, lingochat })
    }

    /// What each of them is told within a time, by dialect. Somebody else reads too, and so answers pings.
    async fn hear(&mut self, within: Duration, there: &mut IoClient) -> Result<[(&'static str, Words); 4]> {
        let until = Instant::now() + within;
        let (sechat, socialhub, famly, lingochat, _) = tokio::try_join!(
            raw(&mut self.sechat, until),
            raw(&mut self.socialhub, until),
            socket_io(&mut self.famly, until),
            socket_io(&mut self.lingochat, until),
            socket_io(there, until),
        )?;
        Ok([("sechat", sechat), ("socialhub", socialhub), ("famly", famly), ("lingochat", lingochat)])
    }
}

/// What was told of a user.
fn of<'a>(words: &'a Words, user: &str) -> Vec<&'a str> {
    words.iter().filter(|(of, _)| of == user).map(|(_, word)| word.as_str()).collect()
}

#[tokio::test]
async fn who_went_and_who_came_while_a_node_was_cut_off_is_told_there_once() -> Result<()> {
    let redis = Server::standalone().await?;
    let way = Proxy::start(redis.port(), 1).await?;
    let (a, b) = (node(&redis.url()).await?, node(&way.url()).await?);
    a.conversation("room", &MEMBERS).await?;
    let mut watchers = Watchers::on(&b).await?;
    let mut ann = inside(&a, "ann").await?;
    let bea = inside(&a, "bea").await?;
    for (dialect, words) in watchers.hear(Duration::from_secs(3), &mut ann).await? {
        ensure!(of(&words, "ann") == ["online"] && of(&words, "bea") == ["online"], "{dialect}: {words:?}");
    }
    bea.close().await?;
    // Longer than any offline is held back.
    for (dialect, words) in watchers.hear(Duration::from_secs(7), &mut ann).await? {
        ensure!(of(&words, "bea") == ["offline"], "{dialect}: {words:?}");
    }
    way.set(Faults { refuse: true, ..Faults::default() });
    way.cut_all();
    ann.close().await?;
    let mut bea = inside(&a, "bea").await?;
    a.until_presence("ann", "status", "offline").await?;
    a.until_presence("bea", "status", "online").await?;
    for (dialect, words) in watchers.hear(Duration::from_secs(2), &mut bea).await? {
        ensure!(words.is_empty(), "nobody can know yet, {dialect}: {words:?}");
    }
    way.heal();
    for (dialect, words) in watchers.hear(Duration::from_secs(15), &mut bea).await? {
        ensure!(of(&words, "ann") == ["offline"], "{dialect}: {words:?}");
        ensure!(of(&words, "bea") == ["online"], "{dialect}: {words:?}");
    }
    until_status(&b, "/readyz", 200).await
}
