//! Recovery when the user's conversations changed meanwhile.

use crate::support::session::{come, fresh};
use crate::support::{App, Cut, World, away, bodies_until, enter, heard_until};
use anyhow::{Result, ensure};
use parlance_tests::Transports;
use serde_json::json;

async fn world() -> Result<World> {
    let world = World::start().await?;
    for room in ["a", "b"] {
        world.room(room, &["alice", "bob"]).await?;
    }
    Ok(world)
}

#[tokio::test]
async fn of_a_conversation_the_user_was_removed_from_nothing_is_replayed() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, App::Chatgenius, "bob").await?;
    world.say("b", "before").await?;
    let offset = bob.said().await?.offset;
    let session = bob.session.clone();
    drop(bob);
    world.gateway.until_gone("bob").await?;
    world.say("b", "SECRET one").await?;
    world.change("b", "removeMembers", "bob").await?;
    world.say("b", "SECRET two").await?;
    world.say("a", "missed").await?;
    // The last event is of the very conversation that is gone.
    let mut back = come(&world, App::Chatgenius, "bob", (&session.pid, Some(&offset))).await?;
    ensure!(back.recovers(&session));
    assert_eq!(back.bodies(), ["missed"]);
    world.say("b", "SECRET three").await?;
    world.say("a", "live").await?;
    assert_eq!(back.said().await?.body, "live");
    Ok(())
}

#[tokio::test]
async fn removed_while_the_server_still_held_the_dead_connection() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, App::Famly, "bob").await?;
    world.say("b", "before").await?;
    let offset = bob.said().await?.offset;
    world.change("b", "removeMembers", "bob").await?;
    world.say("b", "SECRET").await?;
    world.say("a", "missed").await?;
    let back = come(&world, App::Famly, "bob", (&bob.session.pid, Some(&offset))).await?;
    ensure!(back.recovers(&bob.session));
    assert_eq!(back.bodies(), ["missed"]);
    Ok(())
}

#[tokio::test]
async fn a_conversation_the_user_was_added_to_is_told_from_there_on() -> Result<()> {
    let world = world().await?;
    world.room("c", &["alice", "carol"]).await?;
    world.say("c", "SECRET before bob").await?;
    let bob = world.socket(App::Chatgenius, "bob", Transports::Websocket).await?;
    bob.expect("connection:success").await?;
    let meanwhile = async || {
        world.change("c", "addMembers", "bob").await?;
        world.say("c", "welcome").await?;
        world.room("d", &["alice", "bob"]).await?;
        world.say("d", "new").await
    };
    ensure!(away(&bob, Cut::Abrupt, meanwhile).await?.recovered);
    world.say("a", "live").await?;
    let mut heard = bodies_until(&bob, "live").await?;
    heard.sort();
    assert_eq!(heard, ["live", "new", "welcome"]);
    // And they are there from now on, also for the next time.
    ensure!(away(&bob, Cut::Close, async || world.say("c", "again").await).await?.recovered);
    assert_eq!(bodies_until(&bob, "again").await?, ["again"]);
    Ok(())
}

#[tokio::test]
async fn of_the_time_between_a_removal_and_a_return_nothing_is_told() -> Result<()> {
    let world = world().await?;
    for app in [App::Famly, App::Chatgenius] {
        let bob = world.socket(app, "bob", Transports::Websocket).await?;
        if app == App::Famly {
            enter(&bob, app, "room:join", "b").await?;
        }
        let meanwhile = async || {
            world.change("b", "removeMembers", "bob").await?;
            world.say("b", "SECRET").await?;
            world.change("b", "addMembers", "bob").await?;
            world.say("b", "back").await
        };
        ensure!(away(&bob, Cut::Abrupt, meanwhile).await?.recovered);
        // A removal takes out of the room, also who was not there.
        let expected = if app == App::Famly { "message:notification back" } else { "message:created back" };
        assert_eq!(heard_until(&bob, "back").await?, [expected]);
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_conversation_is_gone_and_its_successor_is_another() -> Result<()> {
    let world = world().await?;
    for again in [false, true] {
        let room = if again { "x" } else { "y" };
        world.room(room, &["alice", "bob"]).await?;
        let bob = world.socket(App::Chatgenius, "bob", Transports::Websocket).await?;
        for n in 0..5 {
            world.say(room, &format!("m{n}")).await?;
        }
        bodies_until(&bob, "m4").await?;
        let meanwhile = async || {
            world.say(room, "SECRET").await?;
            world.delete(room).await?;
            if again {
                world.room(room, &["alice", "bob"]).await?;
                world.say(room, "successor").await?;
            }
            world.say("a", "missed").await
        };
        ensure!(away(&bob, Cut::Abrupt, meanwhile).await?.recovered, "{again}");
        world.say("a", "live").await?;
        let mut heard = bodies_until(&bob, "live").await?;
        heard.sort();
        let expected: &[&str] = if again { &["live", "missed", "successor"] } else { &["live", "missed"] };
        assert_eq!(heard, expected);
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn notifications_of_rooms_one_is_not_in_are_replayed_once() -> Result<()> {
    let world = world().await?;
    let bob = world.socket(App::Famly, "bob", Transports::Polling).await?;
    world.say("a", "before").await?;
    heard_until(&bob, "before").await?;
    for round in ["one", "two"] {
        let meanwhile = async || {
            world.say("b", &format!("{round} b")).await?;
            world.say("a", &format!("{round} a")).await
        };
        ensure!(away(&bob, Cut::Abrupt, meanwhile).await?.recovered);
        world.say("a", &format!("{round} live")).await?;
        let mut heard = heard_until(&bob, &format!("{round} live")).await?;
        heard.sort();
        let expected = ["a", "b", "live"].map(|what| format!("message:notification {round} {what}"));
        assert_eq!(heard, expected);
    }
    Ok(())
}

/// However an entering and the removal meet: whoever is no member is not shown as present.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_while_entering_is_not_present() -> Result<()> {
    let world = world().await?;
    let mut bob = fresh(&world, App::Lingochat, "bob").await?;
    bob.io.ask("conversation:join", &[json!("a")]).await?;
    for round in 0..15 {
        let room = format!("race{round}");
        world.room(&room, &["alice", "bob", "carol"]).await?;
        let named = [json!(room)];
        let entering = bob.io.ask("conversation:join", &named);
        let (answer, removed) = tokio::join!(entering, world.change(&room, "removeMembers", "bob"));
        answer?;
        removed?;
        // Whoever hears this has heard of the removal; what had to be done is done when it answers again.
        world.say("a", &room).await?;
        while bob.said().await?.body != room {}
        bob.io.ask("conversation:join", &[json!("a")]).await?;
        let carol = world.socket(App::Lingochat, "carol", Transports::Websocket).await?;
        enter(&carol, App::Lingochat, "conversation:join", &room).await?;
        let alice = world.socket(App::Lingochat, "alice", Transports::Websocket).await?;
        enter(&alice, App::Lingochat, "conversation:join", &room).await?;
        assert_eq!(alice.expect("user:online").await?[0], "carol", "round {round}");
        world.say(&room, "end").await?;
        alice.expect("message:new").await?;
        alice.assert_none("user:online").await?;
        carol.disconnect()?;
        alice.disconnect()?;
    }
    Ok(())
}
