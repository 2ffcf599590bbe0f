//! Recovery in the middle of a stream: nothing lost, nothing doubled, every conversation in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::session::{Back, next_said, open};
use crate::support::{App, Cut, World, enter, options, said};
use anyhow::{Context, Result, ensure};
use parlance_tests::stock::Report;
use parlance_tests::{IoClient, StockSocket, Transports, Ws, token};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const ROOMS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];

/// Who speaks in a room, each in a dialect of its own.
enum Sender {
    Io(Box<IoClient>, App),
    Sechat(Box<Ws>),
    Api,
}

impl Sender {
    async fn of(world: &World, index: usize) -> Result<Self> {
        let auth = json!({ "token": token("alice")? });
        let io = async |app: App| {
            let client = IoClient::connect(&world.gateway.url(app.path()), &auth).await?;
            anyhow::Ok(Self::Io(Box::new(client), app))
        };
        match index {
            0 => io(App::Famly).await,
            1 => io(App::Lingochat).await,
            2 => io(App::Chatgenius).await,
            3 => Ok(Self::Sechat(Box::new(world.gateway.connect("/sechat", "alice").await?))),
            _ => Ok(Self::Api),
        }
    }

    /// Says it and waits until it is acknowledged.
    async fn say(&mut self, world: &World, room: &str, body: &str) -> Result<()> {
        let (client, app) = match self {
            Self::Io(client, app) => (client, *app),
            Self::Sechat(socket) => {
                let message = json!({
                    "type": "message:send", "messageId": body, "conversationId": room,
                    "fromUserId": "alice", "toUserIds": [], "body": body,
                });
                socket.send(&message).await?;
                return socket.expect("message:acked").await.map(drop);
            }
            Self::Api => return world.say(room, body).await,
        };
        let answer = match app {
            App::Famly => {
                let message = json!({ "chatId": room, "body": body, "clientId": body });
                client.ask("message:send", &[message]).await?
            }
            App::Chatgenius => {
                let message = json!({ "channelId": room, "content": body, "tempId": body });
                client.ask("message:send", &[message]).await?
            }
            App::Lingochat => {
                let message = json!({ "conversationId": room, "text": body, "clientMessageId": body });
                client.ask("message:send", &[message]).await?
            }
        };
        ensure!(answer[0]["ok"] == true || answer[0]["success"] == true, "{answer:?}");
        Ok(())
    }
}

/// Every room's sender says `m0`, `m1`, … while `listening` goes on.
async fn stream(world: &World, count: usize, pause: Duration) -> Result<()> {
    let one = async |index: usize| {
        let mut sender = Sender::of(world, index).await?;
        for n in 0..count {
            sender.say(world, ROOMS[index], &format!("{}-m{n:04}", ROOMS[index])).await?;
            tokio::time::sleep(pause).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(one(0), one(1), one(2), one(3), one(4)).map(drop)
}

/// What a listener was told, per room.
#[derive(Default)]
struct Heard {
    rooms: BTreeMap<String, Vec<String>>,
    total: usize,
    cuts: usize,
}

impl Heard {
    /// Notes a message told under the name that the dialect uses inside a room.
    fn note(&mut self, report: &Report, name: &str) {
        if let Report::Event(event) = report
            && let Some(told) = said(&event.name, &event.args).filter(|told| told.event == name)
        {
            let room = told.body.split('-').next().unwrap_or_default().to_owned();
            self.rooms.entry(room).or_default().push(told.body);
            self.total += 1;
        }
    }

    /// Every message of every room, once and in order.
    fn is_whole(&self, count: usize, what: &str) -> Result<()> {
        for room in ROOMS {
            let expected: Vec<String> = (0..count).map(|n| format!("{room}-m{n:04}")).collect();
            let heard = self.rooms.get(room).with_context(|| format!("{what}: nothing of {room}"))?;
            ensure!(*heard == expected, "{what}, {room}: {heard:?}");
        }
        Ok(())
    }
}

/// Listens to so many messages, cutting the transport when `cuts` says so: after so many messages were heard.
async fn listen(
    socket: &StockSocket,
    (name, total): (&str, usize),
    mut cuts: impl FnMut(usize) -> Option<Cut>,
) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut away = false;
    while heard.total < total {
        let report = socket.next().await.with_context(|| format!("after {} of {total}", heard.total))?;
        heard.note(&report, name);
        match report {
            Report::Disconnect { .. } => away = true,
            Report::Connect(connected) => {
                ensure!(connected.recovered, "cut {}", heard.cuts);
                away = false;
            }
            _ => {}
        }
        if !away && let Some(cut) = cuts(heard.total) {
            cut.cut(socket)?;
            heard.cuts += 1;
            // What was received before it broke is still told.
            away = true;
        }
    }
    Ok(heard)
}

async fn listener(world: &World, app: App, transports: Transports) -> Result<(StockSocket, &'static str)> {
    let socket = world.socket(app, "bob", transports).await?;
    let name = if app == App::Chatgenius { "message:created" } else { "message:new" };
    for room in ROOMS {
        match app {
            App::Famly => enter(&socket, app, "room:join", room).await?,
            App::Lingochat => enter(&socket, app, "conversation:join", room).await?,
            App::Chatgenius => {}
        }
    }
    Ok((socket, name))
}

async fn world() -> Result<World> {
    let world = World::start().await?;
    for room in ROOMS {
        world.room(room, &["alice", "bob"]).await?;
    }
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_three_hundred_messages_of_five_conversations_loses_none() -> Result<()> {
    const COUNT: usize = 60;
    for (app, transports) in [
        (App::Chatgenius, Transports::Websocket),
        (App::Famly, Transports::Polling),
        (App::Lingochat, Transports::Upgrade),
    ] {
        for cut in Cut::ALL {
            let world = world().await?;
            let (socket, name) = listener(&world, app, transports).await?;
            let mut left = Some(cut);
            let cuts = |heard: usize| if heard >= 100 { left.take() } else { None };
            let listening = listen(&socket, (name, COUNT * ROOMS.len()), cuts);
            let (heard, ()) = tokio::try_join!(listening, stream(&world, COUNT, Duration::from_millis(2)))?;
            heard.is_whole(COUNT, &format!("{app:?} {transports:?} {cut:?}"))?;
            ensure!(heard.cuts == 1, "there was no cut: this shows nothing");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_before_connect_and_live_after_it() -> Result<()> {
    const MISSED: usize = 60;
    let world = world().await?;
    for transports in Transports::ALL {
        let (socket, name) = listener(&world, App::Chatgenius, transports).await?;
        socket.drop_transport()?;
        socket.expect_disconnect().await?;
        stream(&world, MISSED, Duration::ZERO).await?;
        let mut heard = Heard::default();
        loop {
            let report = socket.next().await?;
            heard.note(&report, name);
            if let Report::Connect(connected) = report {
                ensure!(connected.recovered);
                break;
            }
        }
        // A client may have been faster than the senders; it never hears one of before after one of later.
        let cuts = |_: usize| None;
        let rest = listen(&socket, (name, MISSED * ROOMS.len() - heard.total), cuts).await?;
        for (room, bodies) in rest.rooms {
            heard.rooms.entry(room).or_default().extend(bodies);
        }
        for room in ROOMS {
            let told = &heard.rooms[room];
            ensure!(told.len() == MISSED && told.is_sorted(), "{transports:?} {room}: {told:?}");
        }
        socket.disconnect()?;
        socket.expect_disconnect().await?;
        reset(&world).await?;
    }
    Ok(())
}

/// Fresh conversations, so that client ids and counts begin again.
async fn reset(world: &World) -> Result<()> {
    for room in ROOMS {
        world.delete(room).await?;
        world.room(room, &["alice", "bob"]).await?;
    }
    Ok(())
}

/// Cuts come as the seed says, each as soon as the client is back from the one before and has heard a few more.
async fn thirty_random_drops(app: App, transports: Transports, seed: u64) -> Result<()> {
    const COUNT: usize = 240;
    const DROPS: usize = 30;
    let world = world().await?;
    let (socket, name) = listener(&world, app, transports).await?;
    let mut random = StdRng::seed_from_u64(seed);
    let (mut next, mut dropped) = (random.random_range(1..30), 0);
    let cuts = |heard: usize| {
        if heard < next || dropped == DROPS {
            return None;
        }
        next = heard + random.random_range(0..30);
        dropped += 1;
        Some(if random.random() { Cut::Abrupt } else { Cut::Close })
    };
    let listening = listen(&socket, (name, COUNT * ROOMS.len()), cuts);
    let (heard, ()) = tokio::try_join!(listening, stream(&world, COUNT, Duration::from_millis(12)))?;
    heard.is_whole(COUNT, &format!("seed {seed} {transports:?}"))?;
    ensure!(heard.cuts >= 20, "only {} drops: this shows nothing", heard.cuts);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_random_drops_over_a_websocket() -> Result<()> {
    thirty_random_drops(App::Chatgenius, Transports::Websocket, 7).await
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_random_drops_over_polling() -> Result<()> {
    thirty_random_drops(App::Famly, Transports::Polling, 11).await
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_random_drops_around_the_upgrade() -> Result<()> {
    thirty_random_drops(App::Lingochat, Transports::Upgrade, 13).await
}

/// A client cut in the middle of the replay names the same event again; a stock one keeps what it has got of the
/// replay and tells it twice, so this is about one that drops what came before the answer to CONNECT.
#[tokio::test]
async fn a_replay_that_was_cut_begins_again() -> Result<()> {
    let world = world().await?;
    let auth = json!({ "token": token("bob")? });
    let first = Back::join(open(&world, App::Chatgenius).await?, &auth).await?;
    drop(first.io);
    world.gateway.until_gone("bob").await?;
    for n in 0..400 {
        world.say(ROOMS[n % 5], &format!("m{n:04}")).await?;
    }
    let mut random = StdRng::seed_from_u64(3);
    let named = json!({ "token": token("bob")?, "pid": first.session.pid });
    for _ in 0..8 {
        let mut io = open(&world, App::Chatgenius).await?;
        io.send(&[format!("40{named}")]).await?;
        for _ in 0..random.random_range(0..300) {
            next_said(&mut io).await?;
        }
    }
    let back = Back::join(open(&world, App::Chatgenius).await?, &named).await?;
    ensure!(back.recovers(&first.session));
    let mut bodies = back.bodies();
    assert_eq!(bodies.len(), 400);
    for room in 0..5 {
        let of: Vec<&str> =
            bodies.iter().copied().filter(|b| b[1..].parse().is_ok_and(|n: usize| n % 5 == room)).collect();
        ensure!(of.is_sorted(), "{of:?}");
    }
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 400, "each once");
    Ok(())
}

#[tokio::test]
async fn several_clients_of_one_user_recover_independently() -> Result<()> {
    let world = world().await?;
    let mut all = Vec::new();
    for transports in [Transports::Websocket, Transports::Polling] {
        let socket =
            world.stock.connect(world.gateway.address(), options(App::Chatgenius, "bob", transports)?)?;
        socket.expect_connect().await?;
        all.push(socket);
    }
    all[0].drop_transport()?;
    all[0].expect_disconnect().await?;
    world.say("r0", "missed").await?;
    ensure!(all[0].expect_connect().await?.recovered);
    for socket in &all {
        assert_eq!(crate::support::bodies_until(socket, "missed").await?, ["missed"]);
    }
    Ok(())
}

/// Cuts come at any moment: during the handshake, between the missed events, before CONNECT is answered. A stock
/// client then shows what it had got of a replay twice; after it has been deduplicated by id, as every documented
/// client does, nothing lacks and nothing is out of order.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_again_while_coming_back_loses_nothing() -> Result<()> {
    const COUNT: usize = 120;
    let world = world().await?;
    // The library hears nothing of a transport that closes between the WebSocket's handshake and Engine.IO's: it
    // waits out this option of its own, 20 s by default, which is longer than a test waits.
    let options = options(App::Chatgenius, "bob", Transports::Websocket)?.set("timeout", json!(2000));
    let socket = world.opened(options, Transports::Websocket).await?;
    let name = "message:created";
    let mut random = StdRng::seed_from_u64(17);
    let listening = async {
        let (mut heard, mut cuts, mut seen) = (Heard::default(), 0, BTreeSet::new());
        while seen.len() < COUNT * ROOMS.len() {
            let report =
                socket.next().await.with_context(|| format!("after {} and {cuts} cuts", seen.len()))?;
            let chance = match &report {
                Report::Event(event) => {
                    if said(&event.name, &event.args).is_some_and(|told| seen.insert(told.body)) {
                        heard.note(&report, name);
                    }
                    0.05
                }
                Report::Connect(connected) => {
                    ensure!(connected.recovered, "after {cuts} cuts");
                    0.3
                }
                _ => 0.3,
            };
            if cuts < 60 && random.random_bool(chance) {
                cuts += 1;
                tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
                socket.drop_transport()?;
            }
        }
        ensure!(cuts > 15, "only {cuts} cuts: this shows nothing");
        Ok(heard)
    };
    let (heard, ()) = tokio::try_join!(listening, stream(&world, COUNT, Duration::from_millis(15)))?;
    heard.is_whole(COUNT, "seed 17")
}
