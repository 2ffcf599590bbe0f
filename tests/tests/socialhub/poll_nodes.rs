//! SocialHub's polling over several nodes: each poll at another one, one of them killed in between.
#![allow(clippy::disallowed_methods, reason = "a poll waits beside what it waits for, and is awaited")]

use crate::poll_support::{Poller, nodes, say, unlimited, until_listening};
use crate::support::{Client, notify};
use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use parlance_redis_rig::Server;
use parlance_tests::gateway::until_status;
use parlance_tests::{Balancer, Options};
use serde_json::json;

#[tokio::test]
async fn polls_that_hop_from_node_to_node_lose_and_double_nothing_though_one_dies() -> Result<()> {
    let redis = Server::standalone().await?;
    let [mut a, b, c] = nodes::<3>(&redis, &unlimited()).await?;
    let balancer = Balancer::start([a.address(), b.address(), c.address()]).await?;
    for id in ["c1", "c2"] {
        b.conversation(id, &["alice", "bob"]).await?;
    }
    let mut alice = Poller::new("alice")?;
    let mut dave = Poller::new("alice")?;
    let talk = async {
        for n in 0..120 {
            let room = if n % 2 == 0 { "c1" } else { "c2" };
            say(if n % 3 == 0 { &b } else { &c }, room, "bob", &format!("m{n}")).await?;
            if n == 60 {
                a.kill9()?;
            }
        }
        anyhow::Ok(())
    };
    // The poll that the dead node had open is asked again, as a browser would.
    let listen = async {
        while alice.texts().len() < 120 {
            let answer = alice.ask(balancer.address(), 3.0).await?;
            if answer.status == 502 {
                continue;
            }
            alice.take(&answer)?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(talk, listen)?;
    for room in [0, 1] {
        let expected: Vec<String> = (0..120).filter(|n| n % 2 == room).map(|n| format!("m{n}")).collect();
        let told = |text: &&&str| expected.iter().any(|e| e == **text);
        let heard: Vec<&str> = alice.texts().iter().filter(told).copied().collect();
        ensure!(heard == expected, "{heard:?}");
    }
    ensure!(alice.ids() == (1..=120).collect::<Vec<_>>(), "{:?}", alice.ids());
    // From the beginning again, elsewhere: the same integers.
    dave.until(c.address(), 120).await?;
    ensure!(dave.events == alice.events, "{:?} is not {:?}", dave.ids(), alice.ids());
    Ok(())
}

#[tokio::test]
async fn sockets_and_polls_of_one_user_at_different_nodes_agree_on_integers() -> Result<()> {
    let redis = Server::standalone().await?;
    let [a, b, c] = nodes::<3>(&redis, &unlimited()).await?;
    a.conversation("c", &["alice", "bob"]).await?;
    let mut sockets =
        [Client::on(&a, "alice", "conversation:c").await?, Client::on(&b, "alice", "conversation:c").await?];
    let mut pollers = [Poller::new("alice")?, Poller::new("alice")?];
    let talk = async {
        for n in 0..60 {
            say(&c, "c", "bob", &format!("m{n}")).await?;
            if n % 10 == 0 {
                notify(&b, "alice", "note", &json!({ "n": n })).await?;
            }
        }
        anyhow::Ok(())
    };
    let [first, second] = &mut pollers;
    tokio::try_join!(talk, first.until(b.address(), 60), second.until(c.address(), 60))?;
    for poller in &mut pollers {
        while poller.cursor < 66 {
            poller.poll(a.address(), 2.0).await?;
        }
        ensure!(poller.ids() == (1..=66).collect::<Vec<_>>(), "{:?}", poller.ids());
    }
    ensure!(pollers[0].events == pollers[1].events);
    let polled: Vec<_> = pollers[0].events.iter().filter(|e| e["type"] == "message").collect();
    for socket in &mut sockets {
        for event in &polled {
            let frame = socket.hear("message").await?;
            ensure!(
                frame["payload"] == event["payload"] && frame["seq"] == event["id"],
                "{frame} is not {event}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn thirty_polls_a_minute_are_allowed_over_all_nodes_together() -> Result<()> {
    let redis = Server::standalone().await?;
    let nodes = nodes::<3>(&redis, &Options::default()).await?;
    let alice = Poller::new("alice")?;
    let asked = (0..60).map(|n| alice.ask(nodes[n % 3].address(), 0.0));
    let answers = try_join_all(asked).await?;
    let allowed = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    ensure!((allowed, refused) == (30, 30), "{allowed} allowed, {refused} refused");
    ensure!(answers.iter().all(|answer| answer.header("x-ratelimit-remaining").is_some()));
    Ok(())
}

#[tokio::test]
async fn a_waiting_poll_wakes_for_what_another_node_was_told() -> Result<()> {
    let redis = Server::standalone().await?;
    let [a, b] = nodes::<2>(&redis, &unlimited()).await?;
    a.conversation("c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    let (poller, address) = (alice.clone(), a.address().to_owned());
    let waiting = tokio::spawn(async move { poller.ask(&address, 8.0).await });
    until_listening(&a).await?;
    let mut bob = Client::on(&b, "bob", "conversation:c").await?;
    bob.say("c", "over there").await?;
    alice.take(&waiting.await??)?;
    ensure!(alice.texts() == ["over there"], "{:?}", alice.events);
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_answers_at_once_and_the_next_poll_goes_on_elsewhere() -> Result<()> {
    let redis = Server::standalone().await?;
    let [mut a, b] = nodes::<2>(&redis, &unlimited()).await?;
    b.conversation("c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    say(&b, "c", "bob", "before").await?;
    alice.poll(a.address(), 0.0).await?;
    let (poller, address) = (alice.clone(), a.address().to_owned());
    let waiting = tokio::spawn(async move { poller.ask(&address, 9.0).await });
    until_listening(&a).await?;
    ensure!(a.sigterm().await?.success());
    ensure!(alice.take(&waiting.await??)?.is_empty(), "{:?}", alice.events);
    say(&b, "c", "bob", "after").await?;
    alice.poll(b.address(), 8.0).await?;
    ensure!(alice.texts() == ["before", "after"] && alice.ids() == [1, 2], "{:?}", alice.events);
    Ok(())
}

#[tokio::test]
async fn while_redis_is_away_polls_are_refused_for_the_moment_and_nothing_is_lost() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let [a] = nodes::<1>(&redis, &unlimited()).await?;
    a.conversation("c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    say(&a, "c", "bob", "before").await?;
    redis.kill9()?;
    let refused = alice.ask(a.address(), 0.0).await?;
    ensure!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    until_status(&a, "/readyz", 503).await?;
    redis.restart().await?;
    until_status(&a, "/readyz", 200).await?;
    say(&a, "c", "bob", "after").await?;
    alice.until(a.address(), 2).await?;
    ensure!(alice.texts() == ["before", "after"] && alice.ids() == [1, 2], "{:?}", alice.events);
    Ok(())
}
