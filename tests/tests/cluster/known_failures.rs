//! Failures that other gateways of this kind are known for, each brought about against the real program: none of them
//! may be Parlance's.

use std::time::Duration;

use crate::balanced_support::{Client, Talk, numbered};
use crate::degraded_support::{QUICK, node_with, sechat_message, two, until_acked};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use parlance_redis_rig::{Cluster, Sentinels, Server};
use parlance_tests::gateway::until_status;
use parlance_tests::stock::Report;
use parlance_tests::{Balancer, Gateway, Options, Stock, Transports, Ws};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// What a question to a node that is well may take: the bound on a command, and what a busy machine adds.
const ANSWERED: Duration = Duration::from_millis(3_500);

async fn node(url: &str) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", url);
    Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await
}

async fn registered(gateway: &Gateway, user: &str) -> Result<Ws> {
    let mut ws = gateway.connect("/sechat", user).await?;
    ws.send(&json!({ "type": "register_session", "sessionId": user })).await?;
    ws.expect("session_registered").await?;
    Ok(ws)
}

fn message(room: &str, id: &str) -> Value {
    let mut message = sechat_message(id);
    message["conversationId"] = room.into();
    message
}

/// Says something in each room and sees it accepted.
async fn say(ws: &mut Ws, rooms: &[String], id: &str) -> Result<()> {
    for room in rooms {
        let id = format!("{id}-{room}");
        ws.send(&message(room, &id)).await?;
        let acked = ws.expect("message:acked").await?;
        ensure!(acked["messageId"] == id.as_str(), "{acked}");
    }
    Ok(())
}

/// Hears it in each room, in whatever order the rooms come.
async fn hear(ws: &mut Ws, rooms: &[String], id: &str) -> Result<()> {
    let mut left: Vec<String> = rooms.iter().map(|room| format!("{id}-{room}")).collect();
    while !left.is_empty() {
        let told = ws.expect("message:received").await.with_context(|| format!("never heard {left:?}"))?;
        let at = left.iter().position(|id| told["messageId"] == id.as_str());
        left.swap_remove(at.with_context(|| format!("{told} is none of {left:?}"))?);
    }
    Ok(())
}

/// The slots that a conversation's keys lie in, as Redis itself says.
async fn slots_of(cluster: &Cluster, room: &str) -> Result<Vec<u16>> {
    let mut slots = Vec::new();
    for index in cluster.primaries().await? {
        let server = cluster.server(index);
        for key in server.command(&["KEYS", &format!("*{room}*")]).await?.lines() {
            slots.push(server.command(&["CLUSTER", "KEYSLOT", key]).await?.parse()?);
        }
    }
    slots.sort_unstable();
    slots.dedup();
    ensure!(!slots.is_empty(), "no key of {room}");
    Ok(slots)
}

/// Elsewhere: a client library subscribes to a sharded channel, the slot moves, Redis ends the subscription with a
/// push that nobody minds, and the node is silent in that conversation until it is restarted.
#[tokio::test]
async fn subscriptions_lost_after_slot_migration() -> Result<()> {
    let cluster = Cluster::with(3, 0).await?;
    let (a, b) = (node(&cluster.url()).await?, node(&cluster.url()).await?);
    let rooms: Vec<String> = (0..6).map(|n| format!("moving-{n}")).collect();
    for room in &rooms {
        a.conversation(room, &["alice", "bob"]).await?;
    }
    let (mut alice, mut bob) = (registered(&a, "alice").await?, registered(&b, "bob").await?);
    say(&mut alice, &rooms, "before").await?;
    hear(&mut bob, &rooms, "before").await?;
    let mut moved = 0;
    for room in &rooms {
        for slot in slots_of(&cluster, room).await? {
            let from = cluster.primary_of_slot(slot).await?;
            let to = cluster.primaries().await?.into_iter().find(|it| *it != from).context("no other")?;
            cluster.migrate([slot], from, to).await?;
            moved += 1;
        }
    }
    ensure!(moved >= 2, "only {moved} slots moved");
    for round in 0..5 {
        let id = format!("after{round}");
        say(&mut alice, &rooms, &id).await?;
        hear(&mut bob, &rooms, &id).await?;
        say(&mut bob, &rooms, &format!("{id}-too")).await?;
        hear(&mut alice, &rooms, &format!("{id}-too")).await?;
    }
    Ok(())
}

/// Sends until one is accepted, then sees that the other hears what is said from then on.
async fn flows(from: &mut Ws, to: &mut Ws, id: &str) -> Result<()> {
    until_acked(from, Duration::from_secs(10)).await?;
    let room = ["room".to_owned()];
    say(from, &room, id).await?;
    let last = format!("{id}-room");
    while to.expect("message:received").await?["messageId"] != last.as_str() {}
    Ok(())
}

/// Elsewhere: the primary under Sentinel is replaced, a node publishes to the new one and still listens to the old one,
/// says that it is well, and its clients hear nothing any more.
#[tokio::test]
async fn silent_pod_after_sentinel_failover() -> Result<()> {
    let mut sentinels = Sentinels::start().await?;
    let (a, b) = (node(&sentinels.url()).await?, node(&sentinels.url()).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    let (mut alice, mut bob) = (registered(&a, "alice").await?, registered(&b, "bob").await?);
    flows(&mut alice, &mut bob, "before").await?;
    for round in 0..2 {
        let old = sentinels.kill_primary().await?;
        sentinels.wait_failover(old).await?;
        flows(&mut alice, &mut bob, &format!("there{round}")).await?;
        flows(&mut bob, &mut alice, &format!("back{round}")).await?;
        until_status(&a, "/readyz", 200).await?;
        until_status(&b, "/readyz", 200).await?;
        sentinels.server_mut(old).restart().await?;
        sentinels.wait_ok().await?;
    }
    Ok(())
}

/// Counts how often each user is said to be gone.
async fn farewells(ws: &mut Ws, users: &[String], until: Instant) -> Result<Vec<usize>> {
    let mut counts = vec![0; users.len()];
    while Instant::now() < until {
        // Shorter than the patience of a client that waits for what must come.
        let wait = until.min(Instant::now() + Duration::from_secs(5));
        let Ok(frame) = timeout_at(wait, ws.next()).await else { continue };
        let frame = frame?;
        if frame["type"] == "presence:update" && frame["isOnline"] == false {
            let at = users.iter().position(|user| frame["sessionId"] == user.as_str());
            counts[at.with_context(|| format!("{frame}"))?] += 1;
        }
    }
    Ok(counts)
}

/// Elsewhere: a node is killed and does not take its users off the list that all nodes share: they are there for ever,
/// or are said to be gone once by every node that is left.
#[tokio::test]
async fn ghost_users() -> Result<()> {
    let redis = Server::standalone().await?;
    let url = redis.url();
    let (mut a, b, c) =
        tokio::try_join!(node_with(&url, QUICK), node_with(&url, QUICK), node_with(&url, QUICK))?;
    let users: Vec<String> = (0..5).map(|n| format!("ghost{n}")).collect();
    let mut members = users.clone();
    members.extend(["bob".to_owned(), "carol".to_owned()]);
    b.conversation("room", &members).await?;
    let (mut bob, mut carol) = (registered(&b, "bob").await?, registered(&c, "carol").await?);
    let mut ghosts = Vec::new();
    for user in &users {
        ghosts.push(registered(&a, user).await?);
        while bob.expect("presence:update").await?["sessionId"] != user.as_str() {}
    }
    a.kill9()?;
    // A lease of five seconds, the sweep, and time to hear what must not be said twice.
    let until = Instant::now() + Duration::from_secs(13);
    let (of_bob, of_carol) =
        tokio::join!(farewells(&mut bob, &users, until), farewells(&mut carol, &users, until));
    ensure!(of_bob? == [1; 5] && of_carol? == [1; 5], "each is said to be gone once");
    for user in &users {
        let said = c.call("GET", &format!("/api/v1/users/{user}/presence"), None).await?;
        ensure!(said["status"] == "offline" && said["devices"] == 0, "{said}");
    }
    drop(ghosts);
    Ok(())
}

/// A stock client of some dialect over some transport, and what it has heard.
async fn stays(
    client: &Client,
    stock: &Stock,
    balancer: &Balancer,
    go: impl Future<Output = Result<()>>,
) -> Result<()> {
    let socket = stock.connect(balancer.address(), client.options()?)?;
    socket.expect_connect().await?;
    client.settle(&socket).await?;
    go.await?;
    let (mut heard, mut returns) = (Vec::new(), Vec::new());
    let expected = numbered("m", DEPLOY);
    while heard.last() != expected.last() {
        let report = socket.next().await.with_context(|| format!("{client:?} {heard:?} {returns:?}"))?;
        match &report {
            Report::Connect(connected) => returns.push(connected.recovered),
            report => heard.extend(client.talk.body(report).map(str::to_owned)),
        }
    }
    ensure!(heard == expected, "{client:?} heard {heard:?}");
    ensure!(!returns.is_empty() && returns.iter().all(|recovered| *recovered), "{client:?}: {returns:?}");
    Ok(())
}

/// Messages said while both nodes are replaced.
const DEPLOY: usize = 60;

/// One node after the other is told to stop and is started again, while carol goes on talking through whichever runs.
async fn deploy(nodes: &mut [Gateway; 2], rooms: &[String]) -> Result<()> {
    let bodies = numbered("m", DEPLOY);
    let (early, late) = bodies.split_at(DEPLOY / 2);
    for bodies in [early, late] {
        nodes.swap(0, 1);
        let [staying, going] = &mut *nodes;
        let staying = &*staying;
        let restart = async {
            ensure!(going.sigterm().await?.success(), "{}", going.log());
            going.restart().await?;
            until_status(going, "/readyz", 200).await
        };
        let talk = async {
            for body in bodies {
                let message = json!({ "senderId": "carol", "body": body });
                try_join_all(rooms.iter().map(|room| {
                    let path = format!("/api/v1/conversations/{room}/messages");
                    let message = &message;
                    async move { staying.call("POST", &path, Some(message)).await }
                }))
                .await?;
            }
            Ok(())
        };
        tokio::try_join!(restart, talk)?;
    }
    Ok(())
}

/// Elsewhere: sessions live in the memory of a node; every deploy logs everybody out of their rooms, and what was said
/// meanwhile is lost to them.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_lost_on_deploy() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut nodes = [node(&redis.url()).await?, node(&redis.url()).await?];
    let balancer = Balancer::start(nodes.iter().map(Gateway::address)).await?;
    let stock = Stock::start()?;
    let mut clients = Vec::new();
    for (n, talk) in Talk::ALL.into_iter().enumerate() {
        let transports = if n % 2 == 0 { Transports::Polling } else { Transports::Websocket };
        let (user, room) = (format!("user{n}"), (9000 + n).to_string());
        nodes[0].conversation(&room, &[user.as_str(), "carol"]).await?;
        clients.push(Client { talk, transports, user, room });
    }
    let rooms: Vec<String> = clients.iter().map(|client| client.room.clone()).collect();
    let there = tokio::sync::Barrier::new(clients.len() + 1);
    let deployed = async {
        there.wait().await;
        deploy(&mut nodes, &rooms).await
    };
    let all = try_join_all(clients.iter().map(|client| {
        let arrived = async {
            there.wait().await;
            Ok(())
        };
        stays(client, &stock, &balancer, arrived)
    }));
    tokio::try_join!(deployed, async { timeout(Duration::from_secs(50), all).await.context("never")? })?;
    Ok(())
}

/// Elsewhere: the connection that subscribes breaks, comes back by itself, and has forgotten its channels; the node
/// looks well and hears nothing.
#[tokio::test]
async fn subscriber_reconnects_without_its_channels() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    let rooms: Vec<String> = (0..4).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        a.conversation(room, &["alice", "bob"]).await?;
    }
    let (mut alice, mut bob) = (registered(&a, "alice").await?, registered(&b, "bob").await?);
    let mut killed = 0;
    for round in 0..15 {
        killed += redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?.parse::<usize>()?;
        let id = format!("m{round}");
        say(&mut alice, &rooms, &id).await?;
        hear(&mut bob, &rooms, &id).await?;
        say(&mut bob, &rooms, &format!("{id}-too")).await?;
        hear(&mut alice, &rooms, &format!("{id}-too")).await?;
    }
    ensure!(killed >= 15, "only {killed} connections were killed");
    Ok(())
}

/// A node that stands still, and goes on when this is dropped: it could not be told to stop otherwise.
struct Still<'a>(&'a Gateway);

impl<'a> Still<'a> {
    fn of(gateway: &'a Gateway) -> Result<Self> {
        gateway.signal(Signal::STOP)?;
        Ok(Self(gateway))
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        // A node that is gone needs nothing.
        let _ = self.0.signal(Signal::CONT);
    }
}

async fn in_time<T>(what: &str, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let began = Instant::now();
    let answer = timeout(ANSWERED, asked).await.with_context(|| format!("{what}: no answer"))?;
    println!("{what}: {:?}", began.elapsed());
    answer.with_context(|| what.to_owned())
}

/// A request that a node has to pass on; its whole answer, however long that takes.
async fn passed_on(
    gateway: &Gateway,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, Value, Duration)> {
    use tokio::io::AsyncWriteExt;
    let began = Instant::now();
    let mut stream = tokio::net::TcpStream::connect(gateway.address()).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n");
    let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    let (head, rest) = parlance_tests::http::read_head(&mut stream).await?;
    let answer = parlance_tests::http::read_body(&mut stream, head, rest).await?;
    println!("{method} for a node that stands still: {} after {:?}", answer.status, began.elapsed());
    Ok((answer.status, answer.json()?, began.elapsed()))
}

/// Elsewhere: nodes ask each other who is there, and wait for every one of them to answer: one that hangs takes the
/// questions of all others with it.
#[tokio::test]
async fn peer_questions_that_hang_when_a_node_is_dead() -> Result<()> {
    let (redis, a, b) = two().await?;
    let c = node(&redis.url()).await?;
    let path = "/socket.io/?EIO=4&transport=polling";
    let mut sids = Vec::new();
    for _ in 0..2 {
        let open: Value =
            serde_json::from_str(a.public("GET", path, None).await?.body.trim_start_matches('0'))?;
        sids.push(open["sid"].as_str().context("no sid")?.to_owned());
    }
    let (mut bob, mut carol) = (registered(&b, "bob").await?, registered(&c, "alice").await?);
    let _alice = registered(&a, "alice").await?;
    let still = Still::of(&a)?;
    let (poll, payload) = (format!("{path}&sid={}", sids[0]), format!("{path}&sid={}", sids[1]));
    let asked = async {
        for n in 0..8 {
            let presence = b.call("GET", "/api/v1/users/alice/presence", None);
            let presence = in_time("presence", presence).await?;
            ensure!(presence["status"] == "online", "{presence}");
            let nodes = in_time("nodes", b.call("GET", "/api/v1/nodes", None)).await?;
            ensure!(nodes["nodes"].as_array().is_some_and(|all| all.len() >= 2), "{nodes}");
            let room = ["room".to_owned()];
            in_time("a message", say(&mut bob, &room, &format!("m{n}"))).await?;
            in_time("hearing it", hear(&mut carol, &room, &format!("m{n}"))).await?;
            in_time("a user who connects", registered(&c, "dan")).await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    };
    let (asked, polled, posted) =
        tokio::join!(asked, passed_on(&b, "GET", &poll, ""), passed_on(&b, "POST", &payload, "40"));
    asked?;
    let unknown = json!({ "code": 1, "message": "Session ID unknown" });
    for ((status, answer, took), bound) in [(polled?, 14), (posted?, 5)] {
        ensure!(status == 400 && answer == unknown, "{status} {answer}");
        ensure!(took < Duration::from_secs(bound), "{took:?}");
    }
    drop(still);
    Ok(())
}

/// Elsewhere: a node that stops hands a newcomer to one that is gone by now, and the newcomer is told that its session,
/// of which it has none, is unknown.
#[tokio::test]
async fn newcomers_told_of_a_session_they_do_not_have() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, mut b, c) = (node(&redis.url()).await?, node(&redis.url()).await?, node(&redis.url()).await?);
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = c.public("GET", path, None).await?;
    let open: Value = serde_json::from_str(open.body.trim_start_matches('0'))?;
    let poll = format!("{path}&sid={}", open["sid"].as_str().context("no sid")?);
    // A poll that it passed on keeps the node from ending at once: the owner stands still before it answers.
    let owed = passed_on(&a, "GET", &poll, "");
    let leaving = async {
        until_passed_on(&c).await?;
        b.kill9()?;
        let _still = Still::of(&c)?;
        a.signal(Signal::TERM)?;
        until_status(&a, "/readyz", 503).await?;
        let answer = a.public("GET", path, None).await?;
        ensure!(answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
        Ok(())
    };
    tokio::select! {
        left = leaving => left,
        answer = owed => anyhow::bail!("answered too early: {answer:?}"),
    }
}

/// Waits until another node has a connection to this one, beside the one that asks.
async fn until_passed_on(owner: &Gateway) -> Result<()> {
    let passed = async {
        loop {
            let metrics = owner.internal("GET", "/metrics", None, None).await?.body;
            let line =
                metrics.lines().find(|line| line.starts_with("parlance_sockets{listener=\"internal\"}"));
            let open = line.and_then(|line| line.rsplit(' ').next()).and_then(|open| open.parse().ok());
            if open.is_some_and(|open: u32| open >= 2) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), passed).await.context("the poll is never passed on")?
}
