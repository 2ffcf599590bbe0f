//! Recovery by hand: taking over a live session, and everything that must not be recovered.

use std::time::Duration;

use crate::support::session::{Back, come, fresh, open};
use crate::support::{App, World, bodies_until, enter};
use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Options, SECRET, Transports, token};
use serde_json::{Value, json};

const APP: App = App::Chatgenius;

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.room("a", &["alice", "bob"]).await?;
    world.room("b", &["alice", "carol"]).await?;
    Ok(world)
}

/// Says it and reads it; the offset.
async fn hears(world: &World, back: &mut Back, body: &str) -> Result<String> {
    world.say("a", body).await?;
    let said = back.said().await?;
    ensure!(said.body == body, "{said:?} instead of {body}");
    Ok(said.offset)
}

/// Not recovered, nothing told before CONNECT is answered, and normal delivery from then on.
async fn is_fresh(world: &World, mut back: Back, what: &str) -> Result<()> {
    ensure!(back.missed.is_empty(), "{what}: {:?}", back.missed);
    world.say("a", what).await?;
    let said = back.said().await.with_context(|| what.to_owned())?;
    ensure!(said.body == what, "{what}: {said:?}");
    Ok(())
}

#[tokio::test]
async fn a_live_session_is_taken_over_again_and_again() -> Result<()> {
    let world = world().await?;
    for named in [false, true] {
        let mut first = fresh(&world, APP, "bob").await?;
        let session = first.session.clone();
        let mut offset = None;
        if named {
            offset = Some(hears(&world, &mut first, "one").await?);
        }
        // On its way to a client that is no longer there.
        world.say("a", "two").await?;
        let mut second = come(&world, APP, "bob", (&session.pid, offset.as_deref())).await?;
        ensure!(second.recovers(&session), "{:?}", second.session);
        assert_eq!(second.bodies(), ["two"], "before CONNECT was answered");
        first.io.closed().await?;
        let last = hears(&world, &mut second, "three").await?;
        world.say("a", "four").await?;
        let mut third = come(&world, APP, "bob", (&session.pid, Some(&last))).await?;
        ensure!(third.recovers(&session), "{:?}", third.session);
        assert_eq!(third.bodies(), ["four"]);
        second.io.closed().await?;
        let last = hears(&world, &mut third, "five").await?;
        // A client that did not get everything the last time, and names what it has.
        let fourth = come(&world, APP, "bob", (&session.pid, Some(&last))).await?;
        ensure!(fourth.recovers(&session) && fourth.missed.is_empty(), "{:?}", fourth.missed);
    }
    Ok(())
}

#[tokio::test]
async fn a_stock_client_that_stopped_reading_is_taken_over_from() -> Result<()> {
    let world = world().await?;
    for transports in Transports::ALL {
        // What the stock client has is not known to the test; the session is one by hand, the other device stock.
        let stock = world.socket(APP, "bob", transports).await?;
        let mut first = fresh(&world, APP, "bob").await?;
        stock.pause()?;
        let offset = hears(&world, &mut first, "one").await?;
        world.say("a", "two").await?;
        let back = come(&world, APP, "bob", (&first.session.pid, Some(&offset))).await?;
        assert_eq!(back.bodies(), ["two"]);
        stock.resume()?;
        assert_eq!(bodies_until(&stock, "two").await?, ["one", "two"], "the other device lacks nothing");
        stock.disconnect()?;
        stock.expect_disconnect().await?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_recovers_what_belongs_to_another() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, APP, "bob").await?;
    let offset = hears(&world, &mut bob, "for bob").await?;
    world.say("a", "missed").await?;
    for _ in 0..2 {
        let mut carol = come(&world, APP, "carol", (&bob.session.pid, Some(&offset))).await?;
        ensure!(carol.session.pid != bob.session.pid && carol.session.sid != bob.session.sid);
        ensure!(carol.missed.is_empty(), "{:?}", carol.missed);
        world.say("b", "for carol").await?;
        assert_eq!(carol.said().await?.body, "for carol");
        // Neither from a live connection nor from what is kept of it.
        drop(carol);
        ensure!(bob.said().await.is_ok_and(|said| said.body == "missed"), "the session goes on undisturbed");
        world.say("a", "missed").await?;
    }
    let Back { io, session, .. } = bob;
    drop(io);
    world.gateway.until_gone("bob").await?;
    let carol = come(&world, APP, "carol", (&session.pid, Some(&offset))).await?;
    ensure!(carol.missed.is_empty() && !carol.recovers(&session), "{:?}", carol.missed);
    let bob = come(&world, APP, "bob", (&session.pid, Some(&offset))).await?;
    ensure!(bob.recovers(&session), "its owner still can");
    // The same user in another dialect is another session, too.
    let famly = come(&world, App::Famly, "bob", (&session.pid, Some(&offset))).await?;
    ensure!(!famly.recovers(&session) && famly.missed.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_token_is_looked_at_before_the_session() -> Result<()> {
    let world = world().await?;
    for app in [App::Famly, App::Lingochat] {
        let mut bob = fresh(&world, app, "bob").await?;
        if app == App::Famly {
            world.say("a", "one").await?;
            bob.said().await?;
        }
        world.say("a", "missed").await?;
        let expired = sign(&json!({ "sub": "bob", "exp": expiry(Duration::ZERO) - 3600 }), SECRET)?;
        let forged = sign(&json!({ "sub": "bob", "exp": expiry(Duration::from_secs(60)) }), &"x".repeat(40))?;
        for token in [json!(expired), json!(forged), json!(""), Value::Null] {
            let mut io = open(&world, app).await?;
            io.send(&[format!("40{}", json!({ "token": token, "pid": bob.session.pid }))]).await?;
            let answer = io.packet().await?;
            ensure!(answer.starts_with("44{"), "{app:?} {token}: {answer}");
        }
        let back = come(&world, app, "bob", (&bob.session.pid, None)).await?;
        ensure!(app == App::Famly || back.recovers(&bob.session), "what was refused has disturbed nothing");
    }
    Ok(())
}

#[tokio::test]
async fn who_was_sent_away_for_good_recovers_nothing() -> Result<()> {
    let world = world().await?;
    let bob = fresh(&world, App::Famly, "bob").await?;
    world.say("a", "missed").await?;
    let revoked = world
        .gateway
        .api("POST", "/api/v1/users/bob/disconnect", Some(&json!({ "reconnect": false })))
        .await?;
    ensure!((200..300).contains(&revoked.0), "{revoked:?}");
    let Back { mut io, session, .. } = bob;
    while !io.packet().await?.starts_with("41") {}
    io.closed().await?;
    let back = come(&world, App::Famly, "bob", (&session.pid, None)).await?;
    ensure!(!back.recovers(&session) && back.missed.is_empty(), "sent away for good: {:?}", back.missed);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_recovered_is_refused_honestly_and_live_goes_on() -> Result<()> {
    let world = world().await?;
    let foreign = {
        let mut carol = fresh(&world, APP, "carol").await?;
        world.say("b", "for carol").await?;
        carol.said().await?.offset
    };
    let invented = [("AAAAAAAAAAAAAAAAAAAAAA", Some("1-1")), ("", None), ("../recovery", None)];
    for (pid, offset) in invented {
        let back = come(&world, APP, "bob", (pid, offset)).await?;
        ensure!(back.session.pid != pid);
        is_fresh(&world, back, &format!("invented {pid}")).await?;
    }
    let long = "9".repeat(3000);
    for offset in [
        "",
        "x",
        "1",
        "-1-1",
        "1-x",
        "4294967296-1",
        "1073741824-99999999999999999999",
        &long,
        &foreign,
        "1073741824-999999",
    ] {
        for dead in [false, true] {
            let mut bob = fresh(&world, APP, "bob").await?;
            hears(&world, &mut bob, "one").await?;
            let Back { io, session, .. } = bob;
            let keep = (!dead).then_some(io);
            if dead {
                world.gateway.until_gone("bob").await?;
            }
            let back = come(&world, APP, "bob", (&session.pid, Some(offset))).await?;
            ensure!(!back.recovers(&session), "{offset} {dead}");
            is_fresh(&world, back, &format!("garbage {} {dead}", &offset[..offset.len().min(30)])).await?;
            drop(keep);
            world.gateway.until_gone("bob").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_offset_older_than_what_is_remembered_is_refused() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, APP, "bob").await?;
    let old = hears(&world, &mut bob, "one").await?;
    for n in 0..600 {
        hears(&world, &mut bob, &format!("m{n}")).await?;
    }
    let session = bob.session.clone();
    let back = come(&world, APP, "bob", (&session.pid, Some(&old))).await?;
    ensure!(!back.recovers(&session));
    is_fresh(&world, back, "too old").await
}

#[tokio::test]
async fn of_two_that_name_one_session_at_once_only_one_goes_on_with_it() -> Result<()> {
    let world = world().await?;
    for round in 0..10 {
        let mut bob = fresh(&world, APP, "bob").await?;
        let offset = hears(&world, &mut bob, &format!("r{round}")).await?;
        let Back { io, session, .. } = bob;
        drop(io);
        world.gateway.until_gone("bob").await?;
        world.say("a", "missed").await?;
        let named = (session.pid.as_str(), Some(offset.as_str()));
        let (one, two) = tokio::join!(come(&world, APP, "bob", named), come(&world, APP, "bob", named));
        // The slower one takes over; the other may not even have been answered.
        let both = [one, two];
        let alive: Vec<&Back> = both.iter().flatten().filter(|back| back.recovers(&session)).collect();
        ensure!(!alive.is_empty(), "round {round}: nobody recovered");
        ensure!(alive.iter().any(|back| back.bodies() == ["missed"]));
        drop(both);
        world.gateway.until_gone("bob").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_window_begins_with_the_cut() -> Result<()> {
    let quiet = Options::brief().env("PARLANCE_TIMINGS_RECOVERY_MS", "1000");
    let world = World::with(quiet).await?;
    world.room("a", &["alice", "bob"]).await?;
    let mut bob = fresh(&world, APP, "bob").await?;
    let stays = fresh(&world, App::Famly, "bob").await?;
    let mut offset = hears(&world, &mut bob, "one").await?;
    // Much longer than the window: it is about the time a client is away, not about the age of a session.
    let began = tokio::time::Instant::now();
    let mut count = 0;
    while began.elapsed() < Duration::from_millis(2500) {
        count += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        offset = hears(&world, &mut bob, &format!("m{count}")).await?;
    }
    let Back { io, session, .. } = bob;
    drop(io);
    let back = come(&world, APP, "bob", (&session.pid, Some(&offset))).await?;
    ensure!(back.recovers(&session), "{:?}", back.session);
    let back = come(&world, App::Famly, "bob", (&stays.session.pid, None)).await?;
    ensure!(back.recovers(&stays.session), "as for one that got nothing");
    assert_eq!(back.missed.len(), count + 1, "it is told all of it again");
    Ok(())
}

#[tokio::test]
async fn a_goodbye_is_final_however_fast_the_client_returns() -> Result<()> {
    let world = world().await?;
    for _ in 0..10 {
        let bob = fresh(&world, APP, "bob").await?;
        let Back { mut io, session, .. } = bob;
        io.send(&["41"]).await?;
        let auth = json!({ "token": token("bob")?, "pid": session.pid });
        let back = Back::join(io, &auth).await?;
        ensure!(!back.recovers(&session) && back.missed.is_empty());
        let other = come(&world, APP, "bob", (&session.pid, None)).await?;
        ensure!(!other.recovers(&session));
    }
    Ok(())
}

#[tokio::test]
async fn a_room_joined_a_moment_before_the_take_over_is_joined() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, App::Lingochat, "bob").await?;
    bob.io.ask("conversation:join", &[json!("a")]).await?;
    let mut back = come(&world, App::Lingochat, "bob", (&bob.session.pid, None)).await?;
    ensure!(back.recovers(&bob.session));
    hears(&world, &mut back, "heard").await?;
    let stock = world.socket(App::Lingochat, "alice", Transports::Polling).await?;
    enter(&stock, App::Lingochat, "conversation:join", "a").await?;
    assert_eq!(stock.expect("user:online").await?[0], "bob", "present without joining again");
    Ok(())
}

/// Whatever the node was about to do for it: a client that is gone leaves neither a connection nor its session's
/// place behind.
#[tokio::test]
async fn who_vanishes_while_being_let_in_leaves_nothing_and_can_come_back() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, APP, "bob").await?;
    let offset = hears(&world, &mut bob, "one").await?;
    let Back { io, session, .. } = bob;
    drop(io);
    world.say("a", "two").await?;
    let auth = json!({ "token": token("bob")?, "pid": session.pid, "offset": offset });
    for _ in 0..60 {
        let mut io = open(&world, APP).await?;
        io.send(&[format!("40{auth}")]).await?;
    }
    world.gateway.until_gone("bob").await?;
    let back = come(&world, APP, "bob", (&session.pid, Some(&offset))).await?;
    ensure!(back.recovers(&session));
    assert_eq!(back.bodies(), ["two"]);
    drop(back);
    world.gateway.until_gone("bob").await?;
    assert_eq!(world.connections().await?, 0);
    Ok(())
}
