//! `parlance explain`: what became of a message and of a refused command, asked afterwards at any node; and the log lines
//! that carry the ids clients get.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{API_KEY, Gateway, IoClient, Options, PATIENCE, built_binary, token};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

/// What nobody may find in an answer or a log line.
const SECRET: &str = "nobody-else-may-read-this";

async fn node(redis: &Server) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
    Gateway::start(options.env("PARLANCE_LOG_FORMAT", "json")).await
}

/// Runs the command against a node.
async fn run(gateway: &Gateway, args: &[&str]) -> Result<Output> {
    let url = format!("http://{}", gateway.internal_address());
    let mut command = Command::new(built_binary()?);
    command.arg("explain").args(args).args(["--url", &url, "--api-key", API_KEY]).kill_on_drop(true);
    Ok(timeout(PATIENCE, command.output()).await.context("it does not end")??)
}

/// Its answer for programs.
async fn explain(gateway: &Gateway, args: &[&str]) -> Result<Value> {
    let output = run(gateway, &[args, &["--json"]].concat()).await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains(SECRET), "the message itself is told: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// The same, again and again until it says what is waited for: a node may still be writing.
async fn until(gateway: &Gateway, id: &str, says: impl Fn(&Value) -> bool) -> Result<Value> {
    let asked = async {
        loop {
            let answer = explain(gateway, &[id]).await?;
            if says(&answer) {
                return Ok::<_, anyhow::Error>(answer);
            }
        }
    };
    // A node that died is listed for some seconds more, and remembered as gone after that.
    match timeout(PATIENCE * 3, asked).await {
        Ok(answer) => answer,
        Err(_) => anyhow::bail!("it does not come to say so: {:#}", explain(gateway, &[id]).await?),
    }
}

async fn famly(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let auth = json!({ "token": token(user)? });
    let mut io = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    let ack = io.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(io)
}

async fn say(io: &mut IoClient, chat: &str, client_id: &str) -> Result<Value> {
    let message = json!({ "chatId": chat, "body": SECRET, "clientId": client_id });
    let ack = io.ask("message:send", &[message]).await?;
    ack.into_iter().next().context("an empty answer")
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn users(socket_lists: &[Value]) -> Vec<&str> {
    let sockets = socket_lists.iter().flat_map(|one| list(one, "connections"));
    let mut users: Vec<&str> = sockets.filter_map(|socket| socket["user"].as_str()).collect();
    users.sort_unstable();
    users
}

/// The log line with a correlation id, which may come a moment after the answer.
async fn line(gateway: &Gateway, id: &str) -> Result<Value> {
    let written = async {
        loop {
            let log = gateway.log();
            if let Some(line) = log.lines().find(|line| line.contains(id)) {
                return serde_json::from_str(line).context("no JSON");
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, written).await.with_context(|| format!("{id} is not in\n{}", gateway.log()))?
}

/// Everything is told of the message that alice said and bob read, on three nodes.
fn is_whole(answer: &Value) -> Result<()> {
    ensure!(answer["found"] == true && list(answer, "missing").is_empty(), "{answer:#}");
    let accepted = list(answer, "accepted");
    ensure!(accepted.len() == 1, "{answer:#}");
    let accepted = &accepted[0];
    ensure!(accepted["connection"]["dialect"] == "famly" && accepted["sender"] == "alice", "{accepted:#}");
    ensure!(accepted["clientId"] == "m-1" && accepted["duplicate"] == false, "{accepted:#}");
    ensure!(answer["logged"]["state"] == "kept" && answer["logged"]["sender"] == "alice", "{answer:#}");
    ensure!(answer["logged"]["place"]["name"] == "room", "{answer:#}");
    let delivered = list(answer, "delivered");
    // In this dialect the sender's own socket hears it too.
    ensure!(users(delivered) == ["alice", "bob", "carol"], "{delivered:#?}");
    let dialects: Vec<_> = delivered.iter().flat_map(|one| list(one, "byDialect")).collect();
    for dialect in ["famly", "chatgenius", "sechat"] {
        ensure!(dialects.iter().any(|of| of["dialect"] == dialect && of["sockets"] == 1), "{dialects:?}");
    }
    let receipts = &answer["receipts"];
    ensure!(receipts["read"][0]["user"] == "bob", "{receipts:#}");
    ensure!(receipts["none"] == json!(["carol", "dave"]), "{receipts:#}");
    let nodes = list(answer, "nodes");
    ensure!(nodes.len() == 3 && nodes.iter().all(|node| node["answered"] == true), "{nodes:#?}");
    Ok(())
}

/// What people read.
fn is_readable(output: &[u8]) -> Result<()> {
    let page = str::from_utf8(output)?;
    for said in [
        "Accepted",
        "Logged",
        "Delivered",
        "Receipts",
        "Nodes asked",
        "read by bob",
        "no word of carol, dave",
    ] {
        ensure!(page.contains(said), "{said}: {page}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_is_followed_across_nodes_and_dialects() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b, mut c) = (node(&redis).await?, node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice", "bob", "carol", "dave"]).await?;
    let mut alice = famly(&a, "alice").await?;
    let auth = json!({ "token": token("bob")? });
    let mut bob = IoClient::connect(&b.url("/api/socket.io/"), &auth).await?;
    bob.expect("connection:success").await?;
    let mut carol = c.connect("/sechat", "carol").await?;
    // Whoever has just come may still be reading the log.
    say(&mut alice, "room", "m-0").await?;
    bob.expect("message:created").await?;
    carol.expect("message:received").await?;
    let ack = say(&mut alice, "room", "m-1").await?;
    let id = ack["data"]["serverId"].as_str().context("no id")?.to_owned();
    let told = bob.expect("message:created").await?;
    carol.expect("message:received").await?;
    let read = bob.ask("message:read", &[json!({ "messageId": told.args[0]["message"]["id"] })]).await?;
    ensure!(read[0]["success"] == true, "{read:?}");

    for at in [&a, &b, &c] {
        let written = |answer: &Value| {
            let delivered = list(answer, "delivered");
            delivered.len() == 3 && delivered.iter().all(|one| one["writtenAt"].is_string())
        };
        let answer = until(at, &id, written).await?;
        is_whole(&answer)?;
        // By the sender's own id too.
        let by_own = explain(at, &["m-1"]).await?;
        ensure!(by_own["logged"] == answer["logged"], "{by_own:#}");
        ensure!(list(&by_own, "delivered").len() == 3 && list(&by_own, "accepted").len() == 1, "{by_own:#}");
    }

    // A resend is told as one; who was away reads it from the log.
    say(&mut alice, "room", "m-1").await?;
    let mut dave = b.connect("/sechat", "dave").await?;
    while dave.expect("message:received").await?["messageId"] != "m-1" {}
    let answer = until(&a, &id, |answer| !list(answer, "caughtUp").is_empty()).await?;
    ensure!(answer["caughtUp"][0]["connection"]["user"] == "dave", "{answer:#}");
    let again: Vec<_> = list(&answer, "accepted").iter().map(|one| one["duplicate"].clone()).collect();
    ensure!(again == [json!(false), json!(true)], "{answer:#}");

    is_readable(&run(&a, &[&id]).await?.stdout)?;

    // A node that died is named, at once and later, and the others still tell what they know.
    let dead = accepted_at(&a, &c).await?;
    c.kill9()?;
    let answer = explain(&a, &[&id]).await?;
    ensure!(named(&answer, &dead) == Some(false), "{answer:#}");
    ensure!(list(&answer, "delivered").len() == 2, "{answer:#}");
    let answer = until(&b, &id, |answer| {
        let nodes = list(answer, "nodes");
        nodes.iter().any(|node| node["why"].as_str().is_some_and(|why| why.contains("it is gone")))
    });
    ensure!(named(&answer.await?, &dead) == Some(false));
    Ok(())
}

/// The id that `other` has among the nodes, as `gateway` lists them.
async fn accepted_at(gateway: &Gateway, other: &Gateway) -> Result<String> {
    let (_, listed) = gateway.api("GET", "/api/v1/nodes", None).await?;
    let found = list(&listed, "nodes").iter().find(|node| node["address"] == other.internal_address());
    Ok(found.and_then(|node| node["id"].as_str()).with_context(|| format!("not among {listed}"))?.to_owned())
}

/// Whether a node answered; `None`: it is not named.
fn named(answer: &Value, id: &str) -> Option<bool> {
    list(answer, "nodes").iter().find(|node| node["id"] == id)?["answered"].as_bool()
}

#[tokio::test]
async fn a_refusal_is_found_by_the_id_its_client_got_and_stands_in_the_log() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice"]).await?;
    a.conversation("others", &["bob"]).await?;
    let mut alice = famly(&a, "alice").await?;
    let ack = say(&mut alice, "others", "m-2").await?;
    ensure!(ack["ok"] == false, "{ack}");
    let id = ack["correlationId"].as_str().context("no correlation id")?;
    let logged = line(&a, id).await?;
    ensure!(logged["correlationId"] == id && logged["level"] == "INFO", "{logged}");
    ensure!(
        logged["dialect"] == "famly" && logged["mount"] == "famly" && logged["code"] == "forbidden",
        "{logged}"
    );
    ensure!(logged["command"] == "message:send" && logged["conversation"] == "others", "{logged}");
    ensure!(logged["connection"].as_str().is_some_and(|connection| connection.contains('/')), "{logged}");
    // From the other node, and by the client's own id too.
    for asked in [id, "m-2"] {
        let answer = explain(&b, &[asked]).await?;
        let refused = &answer["refused"][0];
        ensure!(refused["correlationId"] == id && refused["code"] == "forbidden", "{answer:#}");
        ensure!(refused["command"] == "message:send" && refused["conversation"] == "others", "{answer:#}");
        ensure!(refused["connection"]["user"] == "alice" && refused["clientId"] == "m-2", "{answer:#}");
        ensure!(answer.get("logged").is_none(), "{answer:#}");
    }
    let output = run(&b, &[id]).await?;
    let page = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && page.contains("Refused") && page.contains("forbidden: "), "{page}");

    // A call of the server API.
    let (status, refusal) = a.api("GET", "/api/v1/conversations/nowhere", None).await?;
    let id = refusal["error"]["correlationId"].as_str().context("no correlation id")?;
    ensure!(status == 404);
    let logged = line(&a, id).await?;
    ensure!(
        logged["correlationId"] == id && logged["code"] == "NOT_FOUND" && logged["status"] == 404,
        "{logged}"
    );
    let answer = explain(&b, &[id]).await?;
    ensure!(answer["refused"][0]["command"] == "GET /api/v1/conversations/nowhere", "{answer:#}");
    // History over HTTP, in a dialect's words.
    let refusal = a.public("GET", "/v1/chats/others/messages", Some(&token("alice")?)).await?.json()?;
    let id = refusal["correlationId"].as_str().context("no correlation id")?;
    ensure!(line(&a, id).await?["code"] == "forbidden");
    ensure!(explain(&b, &[id]).await?["refused"][0]["code"] == "forbidden");
    ensure!(!a.log().contains(SECRET) && !b.log().contains(SECRET), "no text of a message is logged");
    Ok(())
}

#[tokio::test]
async fn refusals_cannot_fill_the_log() -> Result<()> {
    let gateway = Gateway::start(Options::brief().env("PARLANCE_LOG_FORMAT", "json")).await?;
    gateway.conversation("room", &["alice"]).await?;
    let mut alice = famly(&gateway, "alice").await?;
    let mut last = String::new();
    for n in 0..100 {
        let ack = say(&mut alice, "nowhere", &format!("m-{n}")).await?;
        ack["correlationId"].as_str().context("no correlation id")?.clone_into(&mut last);
    }
    let lines = gateway.log().lines().filter(|line| line.contains("correlationId")).count();
    ensure!((1..100).contains(&lines), "{lines} lines");
    // Nevertheless it is known.
    ensure!(explain(&gateway, &[&last]).await?["refused"][0]["clientId"] == "m-99");
    Ok(())
}

#[tokio::test]
async fn one_node_on_the_embedded_engine_explains_too_and_says_what_it_does_not_know() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let mut alice = famly(&gateway, "alice").await?;
    let mut bob = gateway.connect("/sechat", "bob").await?;
    // Whoever has just come may still be reading the log.
    say(&mut alice, "room", "m-0").await?;
    bob.expect("message:received").await?;
    let ack = say(&mut alice, "room", "m-1").await?;
    let id = ack["data"]["serverId"].as_str().context("no id")?;
    bob.expect("message:received").await?;
    let written = |answer: &Value| answer["delivered"][0]["writtenAt"].is_string();
    let answer = until(&gateway, id, written).await?;
    ensure!(users(list(&answer, "delivered")) == ["alice", "bob"], "{answer:#}");
    ensure!(list(&answer, "nodes").len() == 1, "{answer:#}");
    // A connection that has ended is still known by name.
    drop(bob);
    let ended = |answer: &Value| {
        let sockets = list(&answer["delivered"][0], "connections");
        sockets.iter().any(|socket| socket["user"] == "bob" && socket["endedAt"].is_string())
    };
    until(&gateway, id, ended).await?;
    // Over the server API.
    let message = json!({ "senderId": "bob", "body": SECRET, "clientId": "of-the-backend" });
    gateway.api("POST", "/api/v1/conversations/room/messages", Some(&message)).await?;
    let answer = explain(&gateway, &["of-the-backend"]).await?;
    ensure!(answer["accepted"][0].get("connection").is_none(), "{answer:#}");

    let unknown = run(&gateway, &["nobody-knows-this"]).await?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    ensure!(String::from_utf8(unknown.stdout)?.contains("answered"), "who was asked is said all the same");
    let nothing = run(&gateway, &[""]).await?;
    ensure!(nothing.status.code() == Some(2), "{nothing:?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_remembers_nothing_says_so_and_the_log_is_told() -> Result<()> {
    let gateway = Gateway::start(Options::brief().env("PARLANCE_LOG_JOURNAL", "0")).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let mut alice = famly(&gateway, "alice").await?;
    say(&mut alice, "room", "m-1").await?;
    let unknown = run(&gateway, &["m-1"]).await?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    let answer = explain(&gateway, &["m-1", "--sender", "alice"]).await?;
    ensure!(answer["logged"]["sender"] == "alice" && list(&answer, "delivered").is_empty(), "{answer:#}");
    let why = answer["nodes"][0]["why"].as_str().unwrap_or_default();
    ensure!(why.contains("log.journal"), "{answer:#}");
    Ok(())
}
