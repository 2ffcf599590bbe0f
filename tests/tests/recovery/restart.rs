//! Recovery over the end of the node: exact after SIGTERM, honest after kill -9.

use std::collections::BTreeSet;

use crate::support::session::{come, fresh};
use crate::support::{App, World, enter, said};
use anyhow::{Result, ensure};
use parlance_tests::stock::Report;
use parlance_tests::{Options, StockSocket, Transports};
use serde_json::json;

const ROOMS: [&str; 3] = ["r0", "r1", "r2"];

async fn world() -> Result<World> {
    let world = World::with(Options::default()).await?;
    for room in ROOMS {
        world.room(room, &["alice", "bob"]).await?;
    }
    Ok(world)
}

async fn say_all(world: &World, bodies: impl IntoIterator<Item = String>) -> Result<()> {
    for (index, body) in bodies.into_iter().enumerate() {
        world.say(ROOMS[index % ROOMS.len()], &body).await?;
    }
    Ok(())
}

fn numbered(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{what}{n:03}")).collect()
}

/// What a socket heard and whether it was recovered, up to a body.
struct Ear {
    name: &'static str,
    bodies: Vec<String>,
    connects: Vec<bool>,
}

impl Ear {
    fn new(app: App) -> Self {
        let name = if app == App::Chatgenius { "message:created" } else { "message:new" };
        Self { name, bodies: Vec::new(), connects: Vec::new() }
    }

    fn note(&mut self, report: &Report) {
        match report {
            Report::Connect(connected) => self.connects.push(connected.recovered),
            Report::Event(event) => {
                let told = said(&event.name, &event.args).filter(|told| told.event == self.name);
                self.bodies.extend(told.map(|told| told.body));
            }
            _ => {}
        }
    }

    async fn until(&mut self, socket: &StockSocket, last: &str) -> Result<()> {
        while !self.bodies.iter().any(|body| body == last) {
            let report = socket.next().await?;
            self.note(&report);
        }
        Ok(())
    }

    async fn until_connected(&mut self, socket: &StockSocket) -> Result<()> {
        let before = self.connects.len();
        while self.connects.len() == before {
            let report = socket.next().await?;
            self.note(&report);
        }
        Ok(())
    }
}

async fn sockets(world: &World) -> Result<Vec<(StockSocket, Ear)>> {
    let mut all = Vec::new();
    for (app, transports) in [
        (App::Chatgenius, Transports::Websocket),
        (App::Famly, Transports::Polling),
        (App::Lingochat, Transports::Upgrade),
        (App::Chatgenius, Transports::Polling),
    ] {
        let socket = world.socket(app, "bob", transports).await?;
        for room in ROOMS {
            match app {
                App::Famly => enter(&socket, app, "room:join", room).await?,
                App::Lingochat => enter(&socket, app, "conversation:join", room).await?,
                App::Chatgenius => {}
            }
        }
        all.push((socket, Ear::new(app)));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_a_restart_are_exact() -> Result<()> {
    let mut world = world().await?;
    let mut all = sockets(&world).await?;
    say_all(&world, numbered("a", 90)).await?;
    // Clients are in the middle of hearing it.
    ensure!(world.gateway.sigterm().await?.success());
    world.gateway.restart().await?;
    say_all(&world, numbered("b", 30)).await?;
    let expected: Vec<String> = numbered("a", 90).into_iter().chain(numbered("b", 30)).collect();
    for (socket, ear) in &mut all {
        ear.until_connected(socket).await?;
        for last in ["b027", "b028", "b029"] {
            ear.until(socket, last).await?;
        }
        let recovered: Vec<bool> = ear.connects.clone();
        ensure!(recovered == [true], "{recovered:?}");
        let mut bodies = ear.bodies.clone();
        for room in 0..ROOMS.len() {
            let of = |all: &[String]| -> Vec<String> {
                let in_room = |b: &&String| b[1..].parse::<usize>().is_ok_and(|n| n % ROOMS.len() == room);
                all.iter().filter(in_room).cloned().collect()
            };
            assert_eq!(of(&bodies), of(&expected), "room {room} {}", ear.name);
        }
        bodies.sort();
        assert_eq!(bodies, expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_and_a_restart_are_honest() -> Result<()> {
    let mut world = world().await?;
    let mut all = sockets(&world).await?;
    for round in 0..3 {
        let (before, after) = (format!("{round}a"), format!("{round}b"));
        say_all(&world, numbered(&before, 60)).await?;
        world.gateway.kill9()?;
        world.gateway.restart().await?;
        say_all(&world, numbered(&after, 30)).await?;
        for (socket, ear) in &mut all {
            ear.until_connected(socket).await?;
            let recovered = ear.connects.last().copied().unwrap_or_default();
            for last in ["027", "028", "029"] {
                ear.until(socket, &format!("{after}{last}")).await?;
            }
            // Recovered: nothing lacks. Otherwise what was said before is in the history, which it must read.
            let heard: BTreeSet<&String> = ear.bodies.iter().collect();
            let mut all = numbered(&before, 60);
            all.extend(numbered(&after, 30));
            let lacks: Vec<&String> = all.iter().filter(|body| !heard.contains(body)).collect();
            ensure!(!recovered || lacks.is_empty(), "recovered, and lacks {lacks:?}");
            let mut history = BTreeSet::new();
            for room in ROOMS {
                history.extend(world.history("bob", room).await?);
            }
            let lost: Vec<&String> = lacks.into_iter().filter(|body| !history.contains(*body)).collect();
            ensure!(lost.is_empty(), "neither told nor in the history: {lost:?}");
        }
    }
    // The kept state is there: a restart is no reason to refuse.
    for (socket, ear) in &all {
        let refused = ear.connects.iter().filter(|recovered| !**recovered).count();
        ensure!(refused == 0, "{:?} {:?}", ear.connects, socket.queued().await?);
    }
    Ok(())
}

#[tokio::test]
async fn after_kill_nine_only_other_conversations_since_the_checkpoint_are_repeated() -> Result<()> {
    let mut world = world().await?;
    let mut bob = fresh(&world, App::Chatgenius, "bob").await?;
    say_all(&world, numbered("m", 9)).await?;
    let mut offsets = Vec::new();
    for _ in 0..9 {
        offsets.push(bob.said().await?.offset);
    }
    // The last one heard is of r2; a client that has got all of it.
    world.gateway.kill9()?;
    world.gateway.restart().await?;
    world.say("r2", "missed").await?;
    let back = come(&world, App::Chatgenius, "bob", (&bob.session.pid, Some(&offsets[8]))).await?;
    ensure!(back.recovers(&bob.session));
    let of_r2: Vec<&str> =
        back.bodies().into_iter().filter(|b| ["m002", "m005", "m008", "missed"].contains(b)).collect();
    assert_eq!(of_r2, ["missed"], "its own conversation is exact");
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_two_seconds_old_makes_kill_nine_exact() -> Result<()> {
    let mut world = world().await?;
    let mut bob = fresh(&world, App::Chatgenius, "bob").await?;
    say_all(&world, numbered("m", 9)).await?;
    let mut offset = String::new();
    for _ in 0..9 {
        offset = bob.said().await?.offset;
    }
    // What a checkpoint is about: it comes by itself, without a ping or anything else of the client.
    tokio::time::sleep(std::time::Duration::from_millis(2600)).await;
    world.gateway.kill9()?;
    world.gateway.restart().await?;
    world.say("r0", "missed").await?;
    let back = come(&world, App::Chatgenius, "bob", (&bob.session.pid, Some(&offset))).await?;
    ensure!(back.recovers(&bob.session));
    assert_eq!(back.bodies(), ["missed"]);
    Ok(())
}

#[tokio::test]
async fn a_room_joined_a_moment_before_kill_nine_is_joined() -> Result<()> {
    let mut world = world().await?;
    let mut bob = fresh(&world, App::Lingochat, "bob").await?;
    let answer = bob.io.ask("conversation:join", &[json!("r1")]).await?;
    ensure!(answer[0]["success"] == true, "{answer:?}");
    world.gateway.kill9()?;
    world.gateway.restart().await?;
    say_all(&world, numbered("m", 3)).await?;
    let back = come(&world, App::Lingochat, "bob", (&bob.session.pid, None)).await?;
    ensure!(back.recovers(&bob.session));
    assert_eq!(back.bodies(), ["m001"]);
    Ok(())
}
