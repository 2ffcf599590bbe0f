//! Recovery after a dropped transport, seen by stock clients: what comes back, what does not, what is honest.

use crate::support::session::{Back, open};
use crate::support::{App, Cut, World, away, back, bodies_until, enter, heard_until, options, waiting};
use anyhow::{Result, ensure};
use parlance_tests::{ConnectOptions, Options, Transports, token};
use serde_json::json;

#[tokio::test]
async fn a_drop_before_any_event_is_recovered_from_on_every_transport() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    world.say("a", "old").await?;
    for transports in Transports::ALL {
        for cut in Cut::ALL {
            // In no room, and without waiting for anything: chatgenius is in its channels by itself.
            let socket =
                world.stock.connect(world.gateway.address(), options(App::Chatgenius, "bob", transports)?)?;
            let first = socket.expect_connect().await?;
            let second = away(&socket, cut, async || Ok(())).await?;
            ensure!(second.recovered && second.sid == first.sid, "{transports:?} {cut:?}: {second:?}");
            let third = away(&socket, cut, async || world.say("a", "away").await).await?;
            ensure!(third.recovered && third.sid == first.sid, "{transports:?} {cut:?}: {third:?}");
            assert_eq!(waiting(&socket).await?, ["message:created away"], "before connect");
            world.say("a", "later").await?;
            assert_eq!(bodies_until(&socket, "later").await?, ["away", "later"], "{transports:?} {cut:?}");
            socket.disconnect()?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn everything_said_after_connect_is_heard_also_by_who_is_cut_at_once() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    for round in 0..20 {
        let options = options(App::Chatgenius, "bob", Transports::Websocket)?;
        let socket = world.stock.connect(world.gateway.address(), options)?;
        socket.expect_connect().await?;
        socket.drop_transport()?;
        let body = format!("m{round}");
        world.say("a", &body).await?;
        ensure!(back(&socket).await?.recovered, "round {round}");
        assert_eq!(bodies_until(&socket, &body).await?, [body], "nothing of before, and that once");
        socket.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn rooms_and_roles_come_back_without_being_joined_again() -> Result<()> {
    let world = World::start().await?;
    for room in ["in", "group", "out"] {
        world.room(room, &["alice", "bob"]).await?;
        world.say(room, "history").await?;
    }
    let all = async |body: &str| {
        for room in ["out", "group", "in"] {
            world.say(room, &format!("{body}-{room}")).await?;
        }
        anyhow::Ok(())
    };
    for cut in Cut::ALL {
        let famly = world.socket(App::Famly, "bob", Transports::Upgrade).await?;
        enter(&famly, App::Famly, "room:join", "in").await?;
        let lingo = world.socket(App::Lingochat, "bob", Transports::Upgrade).await?;
        // What was said before the join is not missed, however long the socket was connected.
        all("early").await?;
        // As long as its node has not told it, whoever joins hears it as something new.
        let mut heard_by_famly = heard_until(&famly, "early-in").await?;
        enter(&lingo, App::Lingochat, "conversation:join", "in").await?;
        enter(&lingo, App::Lingochat, "room:join", "group").await?;
        ensure!(away(&famly, cut, async || all("one").await).await?.recovered, "{cut:?}");
        ensure!(away(&lingo, cut, async || all("two").await).await?.recovered, "{cut:?}");
        all("three").await?;
        let heard = heard_until(&lingo, "three-in").await?;
        let of = |room: &str| -> Vec<&str> {
            heard.iter().filter(|said| said.ends_with(room)).map(String::as_str).collect()
        };
        let twin = ["one", "two", "three"].map(|body| format!("room:message {body}-group"));
        let plain = ["one", "two", "three"].map(|body| format!("message:new {body}-in"));
        assert_eq!(
            (of("-group"), of("-in"), heard.len()),
            (refs(&twin), refs(&plain), 6),
            "{cut:?} {heard:?}"
        );
        heard_by_famly.extend(heard_until(&famly, "three-in").await?);
        heard_by_famly.extend(heard_until(&famly, "three-in").await?);
        // From outside a room its messages are notified of; from inside they are told too.
        for body in ["early", "one", "two", "three"] {
            let count = |event: &str, room: &str| {
                let wanted = format!("{event} {body}-{room}");
                heard_by_famly.iter().filter(|said| **said == wanted).count()
            };
            let notified = ["in", "group", "out"].map(|room| count("message:notification", room));
            let told = ["in", "group", "out"].map(|room| count("message:new", room));
            assert_eq!((notified, told), ([1, 1, 1], [1, 0, 0]), "{cut:?} {body} {heard_by_famly:?}");
        }
        famly.disconnect()?;
        lingo.disconnect()?;
    }
    Ok(())
}

fn refs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_room_that_was_left_stays_left() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    world.room("b", &["alice", "bob"]).await?;
    let lingo = world.socket(App::Lingochat, "bob", Transports::Websocket).await?;
    for room in ["a", "b"] {
        enter(&lingo, App::Lingochat, "conversation:join", room).await?;
    }
    enter(&lingo, App::Lingochat, "conversation:leave", "a").await?;
    let meanwhile = async || {
        world.say("a", "unheard").await?;
        world.say("b", "heard").await
    };
    ensure!(away(&lingo, Cut::Abrupt, meanwhile).await?.recovered);
    assert_eq!(bodies_until(&lingo, "heard").await?, ["heard"]);
    Ok(())
}

#[tokio::test]
async fn after_the_window_the_client_is_told_the_truth_and_hears_what_comes() -> Result<()> {
    let world = World::with(Options::brief().env("PARLANCE_TIMINGS_RECOVERY_MS", "400")).await?;
    world.room("a", &["alice", "bob"]).await?;
    let slow = options(App::Chatgenius, "bob", Transports::Websocket)?
        .set("reconnectionDelay", json!(1500))
        .set("reconnectionDelayMax", json!(1500))
        .set("randomizationFactor", json!(0));
    let socket = world.opened(slow, Transports::Websocket).await?;
    world.say("a", "before").await?;
    bodies_until(&socket, "before").await?;
    let late = away(&socket, Cut::Abrupt, async || world.say("a", "gone").await).await?;
    ensure!(!late.recovered, "the window is over");
    ensure!(waiting(&socket).await?.is_empty(), "nothing is replayed without recovery");
    world.say("a", "live").await?;
    assert_eq!(bodies_until(&socket, "live").await?, ["live"], "normal delivery goes on");
    Ok(())
}

#[tokio::test]
async fn a_client_that_was_refused_recovers_the_next_time_without_an_event_in_between() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    let socket = world.socket(App::Chatgenius, "bob", Transports::Websocket).await?;
    world.say("a", "before").await?;
    bodies_until(&socket, "before").await?;
    // A goodbye ends the session; the client goes on naming its last event all the same.
    socket.disconnect()?;
    socket.expect_disconnect().await?;
    world.say("a", "unheard").await?;
    socket.reconnect()?;
    let fresh = socket.expect_connect().await?;
    ensure!(!fresh.recovered, "an explicit goodbye is final");
    let again = away(&socket, Cut::Abrupt, async || world.say("a", "missed").await).await?;
    ensure!(again.recovered && again.sid == fresh.sid, "{again:?}");
    world.say("a", "live").await?;
    assert_eq!(bodies_until(&socket, "live").await?, ["missed", "live"]);
    Ok(())
}

#[tokio::test]
async fn without_recovery_there_is_neither_private_id_nor_offset() -> Result<()> {
    let mount = "[[mounts]]\nname = \"c\"\npath = \"/api/socket.io/\"\ndialect = \"chatgenius\"\n\
                 framing = \"socketio\"\nrecovery = false\n";
    let world = World::with(Options::brief().config(mount)).await?;
    world.room("a", &["alice", "bob"]).await?;
    let auth = json!({ "token": token("bob")?, "pid": "x", "offset": "1-1" });
    let back = Back::join(open(&world, App::Chatgenius).await?, &auth).await?;
    assert_eq!(back.session.pid, "");
    let socket = world.socket(App::Chatgenius, "bob", Transports::Upgrade).await?;
    socket.expect("connection:success").await?;
    world.say("a", "m").await?;
    assert_eq!(socket.expect("message:created").await?.len(), 1, "no offset");
    ensure!(!away(&socket, Cut::Abrupt, async || Ok(())).await?.recovered);
    Ok(())
}

#[tokio::test]
async fn a_string_at_an_events_end_is_not_taken_for_an_offset() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob", "carol"]).await?;
    for first in [false, true] {
        let bob = world.socket(App::Lingochat, "bob", Transports::Websocket).await?;
        enter(&bob, App::Lingochat, "conversation:join", "a").await?;
        if first {
            world.say("a", "first").await?;
            bodies_until(&bob, "first").await?;
        }
        let carol = world.socket(App::Lingochat, "carol", Transports::Websocket).await?;
        enter(&carol, App::Lingochat, "conversation:join", "a").await?;
        assert_eq!(bob.expect("user:online").await?[0], "carol");
        ensure!(away(&bob, Cut::Abrupt, async || world.say("a", "missed").await).await?.recovered, "{first}");
        world.say("a", "live").await?;
        assert_eq!(bodies_until(&bob, "live").await?, ["missed", "live"], "{first}");
        carol.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn two_namespaces_of_one_connection_recover_each() -> Result<()> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    let token = json!({ "token": token("bob")? });
    for cut in Cut::ALL {
        let famly = world.socket(App::Famly, "bob", Transports::Upgrade).await?;
        enter(&famly, App::Famly, "room:join", "a").await?;
        let over = ConnectOptions::new(Transports::Upgrade).namespace("/api/socket.io").auth(token.clone());
        let genius = world.stock.connect_over(&famly, world.gateway.address(), over)?;
        genius.expect_connect().await?;
        genius.expect("connection:success").await?;
        world.say("a", "before").await?;
        bodies_until(&genius, "before").await?;
        let connected = away(&famly, cut, async || world.say("a", "missed").await).await?;
        ensure!(connected.recovered, "famly {cut:?}");
        ensure!(back(&genius).await?.recovered, "chatgenius {cut:?}");
        world.say("a", "live").await?;
        assert_eq!(bodies_until(&genius, "live").await?, ["missed", "live"]);
        let inside = heard_until(&famly, "live").await?;
        let told = inside.iter().filter(|said| said.starts_with("message:new ")).count();
        ensure!(
            (2..=3).contains(&told) && inside.iter().filter(|s| s.ends_with(" missed")).count() == 2,
            "{inside:?}"
        );
        famly.disconnect()?;
        genius.disconnect()?;
    }
    Ok(())
}
