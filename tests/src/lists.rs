//! What the HTTP calls of clients promise about histories and lists of chats, as scenarios on any number of nodes.
//!
//! Must not know: which engine is behind the nodes.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::reader::{dense, seq};
use crate::{Gateway, IoClient, Reader, Ws, token};

/// Messages the writers of a walk append.
const WRITTEN: usize = 400;
const WRITERS: usize = 4;

async fn say(node: &Gateway, conversation: &str, sender: &str, client_id: &str) -> Result<Value> {
    let body = json!({ "senderId": sender, "body": client_id, "clientId": client_id });
    node.call("POST", &format!("/api/v1/conversations/{conversation}/messages"), Some(&body)).await
}

fn id(message: &Value) -> Result<&str> {
    message["id"].as_str().with_context(|| format!("no id: {message}"))
}

/// Several writers append at all nodes, while readers walk through the log in both directions, from every node.
///
/// # Errors
/// When a message is missing, comes twice, or a page is not as documented.
pub async fn walks_meet_every_message_once(nodes: &[&Gateway], seed: u64) -> Result<()> {
    let first = nodes.first().context("no nodes")?;
    first.conversation("walk", &["alice", "bob"]).await?;
    for n in 0..60 {
        say(first, "walk", "alice", &format!("early-{n}")).await?;
    }
    let written = AtomicUsize::new(0);
    let write = |writer: usize| {
        let (node, written) = (nodes[writer % nodes.len()], &written);
        async move {
            for n in 0..WRITTEN / WRITERS {
                say(node, "walk", "alice", &format!("w{writer}-{n}")).await?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        }
    };
    let writers = async { tokio::try_join!(write(0), write(1), write(2), write(3)) };
    let forward = async {
        let mut walked = forwards(nodes, seed, || written.load(Ordering::Relaxed) == WRITTEN).await?;
        ensure!(walked.len() == WRITTEN + 60, "{} messages, seed {seed}", walked.len());
        let mut texts: Vec<String> = walked.drain(..).map(|message| message["body"].to_string()).collect();
        texts.sort();
        texts.dedup();
        ensure!(texts.len() == WRITTEN + 60, "some are the same, seed {seed}");
        Ok(())
    };
    let mut backs = 0;
    let backward = async {
        while written.load(Ordering::Relaxed) < WRITTEN || backs == 0 {
            backwards(nodes, seed + backs).await?;
            backs += 1;
        }
        Ok(())
    };
    tokio::try_join!(writers, forward, backward)?;
    windows(nodes, seed).await
}

/// From the beginning to an end after which nothing is written any more.
async fn forwards(nodes: &[&Gateway], seed: u64, finished: impl Fn() -> bool) -> Result<Vec<Value>> {
    let (mut reader, mut dice) = (Reader::new(nodes, "bob")?, StdRng::seed_from_u64(seed));
    let mut walked: Vec<Value> = Vec::new();
    loop {
        let was_finished = finished();
        let limit = dice.random_range(1..=40);
        let from = match walked.last() {
            None => "since=1970-01-01T00:00:00Z".to_owned(),
            Some(last) => format!("{}={}", if dice.random() { "after" } else { "since" }, id(last)?),
        };
        let (page, more) = reader.page("walk", &format!("{from}&limit={limit}")).await?;
        ensure!(
            page.len() <= limit && (page.len() == limit || !more),
            "{} of {limit}, more {more}",
            page.len()
        );
        walked.extend(page);
        ensure!(dense(&walked), "a hole or a repetition between pages, seed {seed}");
        if !more && was_finished {
            return Ok(walked);
        }
    }
}

/// From the end, wherever it is, to the beginning.
async fn backwards(nodes: &[&Gateway], seed: u64) -> Result<()> {
    let (mut reader, mut dice) = (Reader::new(nodes, "bob")?, StdRng::seed_from_u64(seed));
    let (mut walked, mut more): (Vec<Value>, bool) = (Vec::new(), true);
    while more {
        let limit = dice.random_range(5..=60);
        let before =
            walked.first().map(id).transpose()?.map(|id| format!("&before={id}")).unwrap_or_default();
        let page;
        (page, more) = reader.page("walk", &format!("limit={limit}{before}")).await?;
        ensure!(
            page.len() <= limit && (page.len() == limit || !more),
            "{} of {limit}, more {more}",
            page.len()
        );
        walked.splice(0..0, page);
        ensure!(dense(&walked), "a hole or a repetition between pages, seed {seed}");
    }
    ensure!(
        walked.first().is_some_and(|first| first["body"] == "early-0"),
        "not the first: {:?}",
        walked.first()
    );
    Ok(())
}

/// Whatever lies between two messages is what a window of them shows.
async fn windows(nodes: &[&Gateway], seed: u64) -> Result<()> {
    let (mut reader, mut dice) = (Reader::new(nodes, "bob")?, StdRng::seed_from_u64(seed));
    let all = forwards(nodes, seed, || true).await?;
    for _ in 0..20 {
        let (from, to) = (dice.random_range(0..all.len()), dice.random_range(0..all.len()));
        let limit = dice.random_range(1..=200);
        let query = format!("after={}&before={}&limit={limit}", id(&all[from])?, id(&all[to])?);
        let (page, more) = reader.page("walk", &query).await?;
        let between = all.get(from + 1..to).unwrap_or_default();
        let expected = &between[..between.len().min(limit)];
        ensure!(page == expected && more == (between.len() > limit), "{query}, seed {seed}: {page:?}");
        let at = all[from]["createdAt"].as_str().context("no time")?;
        let (page, _) =
            reader.page("walk", &format!("since={at}&before={}&limit={limit}", id(&all[to])?)).await?;
        let since =
            all.iter().filter(|one| one["createdAt"].as_str() >= Some(at) && seq(one) < seq(&all[to]));
        let expected: Vec<Value> = since.take(limit).cloned().collect();
        ensure!(page == expected, "since {at}, seed {seed}");
    }
    Ok(())
}

/// Every dialect's receipt, sent to any node, is what every node then calls read.
///
/// # Errors
/// When something else is unread than should be.
pub async fn unread_follows_receipts_of_every_dialect(nodes: &[&Gateway]) -> Result<()> {
    let (first, last) = (nodes.first().context("no nodes")?, nodes.last().context("no nodes")?);
    first.conversation("room", &["alice", "bob"]).await?;
    let mut bob = Reader::new(nodes, "bob")?;
    let (none, empty) = (Value::Null, bob.listed("room").await?);
    ensure!(empty["unread"] == 0 && empty["lastRead"] == none && empty["lastMessage"] == none, "{empty}");
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(id(&say(first, "room", "alice", &format!("m{n}")).await?)?.to_owned());
    }
    let own = say(last, "room", "bob", "own").await?;
    for reader in 0..nodes.len() * 2 {
        let listed = bob.listed("room").await?;
        ensure!(listed["unread"] == 6 && listed["moreUnread"] == false, "call {reader}: {listed}");
        ensure!(
            listed["lastMessage"]["id"] == own["id"] && listed["lastMessage"]["senderId"] == "bob",
            "{listed}"
        );
        ensure!(listed["members"] == json!(["alice", "bob"]) && listed["type"] == "group", "{listed}");
    }
    let integer =
        &bob.get("/api/v1/conversations/room/messages?dialect=lingochat").await?["messages"][4]["id"];
    let chat = bob.get("/v1/chats/room/messages").await?;
    let receipts = Receipts { node: last, ids: &ids, integer, hex: &chat["messages"][1]["_id"] };
    for (read, dialect) in ["sechat", "famly", "chatgenius", "socialhub", "lingochat"].into_iter().enumerate()
    {
        receipts.send(dialect).await.with_context(|| dialect.to_owned())?;
        let unread = 5 - u64::try_from(read)?;
        let listed = bob.until_unread("room", unread).await.with_context(|| dialect.to_owned())?;
        ensure!(listed["lastRead"]["messageId"] == ids[read].as_str(), "{dialect}: {listed}");
        ensure!(listed["lastRead"]["at"].is_string(), "{dialect}: {listed}");
    }
    // Whoever wrote them has nothing unread but what the other one said.
    let listed = Reader::new(nodes, "alice")?.listed("room").await?;
    ensure!(listed["unread"] == 1 && listed["lastRead"] == none, "{listed}");
    Ok(())
}

/// bob's receipts in the words of each dialect: of the first message in sechat's, of the second in famly's, and so on.
struct Receipts<'a> {
    node: &'a Gateway,
    ids: &'a [String],
    integer: &'a Value,
    hex: &'a Value,
}

impl Receipts<'_> {
    async fn send(&self, dialect: &str) -> Result<()> {
        let node = self.node;
        match dialect {
            "sechat" => {
                let mut ws = node.connect("/sechat", "bob").await?;
                ws.send(&json!({ "type": "receipt:read", "messageId": "m0", "toUserId": "alice" })).await?;
                self.kept(&mut ws).await
            }
            "famly" => {
                let mut io = self.io("/socket.io/").await?;
                let receipt = json!({ "chatId": "room", "messageId": self.hex });
                let ack = io.ask("receipt:read", &[receipt]).await?;
                ensure!(ack[0]["ok"] == true, "{ack:?}");
                Ok(())
            }
            "chatgenius" => {
                let mut io = self.io("/api/socket.io/").await?;
                let ack = io.ask("message:read", &[json!({ "messageId": self.ids[2] })]).await?;
                ensure!(ack[0]["success"] == true, "{ack:?}");
                Ok(())
            }
            "socialhub" => {
                let mut ws = node.connect("/ws", "bob").await?;
                let payload = json!({ "conversation_id": "room", "message_ids": [self.ids[3]] });
                ws.send(&json!({ "type": "read_receipt", "payload": payload, "ack_id": "r" })).await?;
                let ack = ws.expect("ack").await?;
                ensure!(ack["payload"]["success"] == true, "{ack}");
                Ok(())
            }
            _ => {
                let mut io = self.io("/lingochat/socket.io/").await?;
                let ack = io.ask("message:read", std::slice::from_ref(self.integer)).await?;
                ensure!(ack[0]["success"] == true, "{ack:?}");
                Ok(())
            }
        }
    }

    /// A socket that closes may take with it what it has just sent: what is answered comes behind.
    async fn kept(&self, ws: &mut Ws) -> Result<()> {
        ws.send(&json!({ "type": "request_queued_events", "sessionId": "bob" })).await?;
        ws.expect("queued_events").await.map(drop)
    }

    async fn io(&self, path: &str) -> Result<IoClient> {
        IoClient::connect(&self.node.url(path), &json!({ "token": token("bob")? })).await
    }
}

/// A client without a socket says over HTTP how far it has read, and others hear it.
///
/// # Errors
/// When the cursor goes elsewhere, or nobody hears of it.
pub async fn reading_over_http_is_heard(nodes: &[&Gateway]) -> Result<()> {
    let (first, last) = (nodes.first().context("no nodes")?, nodes.last().context("no nodes")?);
    let number = first.conversation("polled", &["alice", "bob"]).await?;
    let auth = json!({ "token": token("alice")? });
    let mut alice = IoClient::connect(&first.url("/socket.io/"), &auth).await?;
    alice.ask("room:join", &[json!({ "chatId": "polled" })]).await?;
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(say(last, "polled", "alice", &format!("p{n}")).await?);
    }
    let mut bob = Reader::new(nodes, "bob")?;
    let hex = bob.get("/v1/chats/polled/messages").await?["messages"][1]["_id"].clone();
    let listed = bob.mark("polled", &json!({ "messageId": sent[1]["id"] })).await?;
    ensure!(listed["id"] == "polled" && listed["unread"] == 2, "{listed}");
    ensure!(listed["lastRead"]["sequence"] == sent[1]["seq"], "{listed}");
    let heard = alice.expect("receipt:update").await?;
    ensure!(heard.args[0]["userId"] == "bob" && heard.args[0]["messageId"] == hex, "{heard:?}");
    // Again, and back: it stays, and nobody hears of it.
    for body in [json!({ "messageId": hex }), json!({ "messageId": sent[0]["id"] }), json!({ "sequence": 1 })]
    {
        let again = bob.mark("polled", &body).await?;
        ensure!(again == listed, "{body}: {again}");
    }
    // By its number, as lingochat knows it, and with an id that is an integer there.
    let path = format!("/api/v1/conversations/{number}/messages?dialect=lingochat");
    let integer = bob.get(&path).await?["messages"][2]["id"].clone();
    ensure!(integer.is_u64(), "{integer}");
    let listed = bob.mark(&number.to_string(), &json!({ "messageId": integer })).await?;
    ensure!(listed["id"] == "polled" && listed["unread"] == 1, "{listed}");
    let heard = alice.expect("receipt:update").await?;
    let cursors = bob.get("/v1/chats/polled/cursors").await?;
    ensure!(heard.args[0]["messageId"] == cursors["cursors"][0]["messageId"], "{heard:?} {cursors}");
    let listed = bob.mark("polled", &json!({ "sequence": 1u64 << 60 })).await?;
    ensure!(listed["unread"] == 0 && listed["lastRead"]["sequence"] == listed["lastSequence"], "{listed}");
    Ok(())
}

/// Pages of a list while conversations are written to: each one once, from any node.
///
/// # Errors
/// When one is missing, foreign or there twice.
pub async fn lists_page_over_what_is_written_meanwhile(nodes: &[&Gateway]) -> Result<()> {
    let first = nodes.first().context("no nodes")?;
    for n in 0..25 {
        let members: &[&str] = if n % 5 == 4 { &["alice", "carol"] } else { &["alice", "bob"] };
        first.conversation(&format!("list-{n:02}"), members).await?;
    }
    let writing = async {
        for n in 0..100 {
            say(nodes[n % nodes.len()], &format!("list-{:02}", (n * 7) % 25), "alice", &format!("l{n}"))
                .await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let reading = async {
        for limit in [1, 3, 7, 20, 200] {
            let all = Reader::new(nodes, "bob")?.list(limit).await?;
            let expected = (0..25).filter(|n| n % 5 != 4).map(|n| format!("list-{n:02}"));
            ensure!(all.iter().map(|listed| listed["id"].clone()).eq(expected), "{limit} a page: {all:?}");
        }
        Ok(())
    };
    tokio::try_join!(writing, reading)?;
    let all = Reader::new(nodes, "bob")?.list(200).await?;
    let unread: u64 = all.iter().filter_map(|listed| listed["unread"].as_u64()).sum();
    ensure!(unread == 80, "{unread} unread of 80");
    Ok(())
}
