//! One of five primaries of a Cluster is down: polls go on with what the others have, and pass over nothing.

use std::time::{Duration, Instant};

use crate::poll_support::{Poller, say};
use anyhow::{Result, ensure};
use parlance_redis_rig::Cluster;
use parlance_tests::chaos::shards::{lies_on, names_of, victim};
use parlance_tests::gateway::until_status;
use parlance_tests::{Gateway, Options, PATIENCE};
use serde_json::json;

/// The first of many users or conversations of whom everything (or nothing) lies on this primary.
async fn named(cluster: &Cluster, stem: &str, on: usize, wanted: bool) -> Result<String> {
    for number in 0..100 {
        let name = format!("{stem}{number}");
        let mut of_it = vec![format!("c:{name}"), format!("poll:{name}")];
        if wanted {
            of_it.truncate(1);
        } else {
            of_it.extend(names_of(&name));
        }
        let mut all = true;
        for part in of_it {
            all &= (lies_on(cluster, &part).await? == on) == wanted;
        }
        if all {
            return Ok(name);
        }
    }
    anyhow::bail!("no such name")
}

#[tokio::test]
async fn a_primary_that_is_down_holds_up_only_what_it_has_and_nothing_is_passed_over() -> Result<()> {
    let mut cluster = Cluster::with(5, 0).await?;
    let options = Options::default().env("PARLANCE_REDIS_URL", &cluster.url());
    let node = Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await?;
    let dead = victim(&cluster).await?;
    let user = named(&cluster, "alice", dead, false).await?;
    let friend = named(&cluster, "bob", dead, false).await?;
    let well = named(&cluster, "well", dead, false).await?;
    let away = named(&cluster, "away", dead, true).await?;
    for room in [&well, &away] {
        node.conversation(room, &[&user, &friend]).await?;
    }
    say(&node, &well, &friend, "one").await?;
    let mut alice = Poller::new(&user)?;
    alice.until(node.address(), 1).await?;
    say(&node, &away, &friend, "two").await?;
    // Another client of the user has it already; this one has not.
    let mut other = alice.clone();
    other.until(node.address(), 2).await?;
    cluster.server_mut(dead).kill9()?;
    until_status(&node, "/readyz", 200).await?;
    say(&node, &well, &friend, "three").await?;
    // Who has everything before goes on.
    let until = Instant::now() + PATIENCE;
    while other.texts().len() < 3 {
        let answer = other.ask(node.address(), 1.0).await?;
        ensure!(Instant::now() < until, "it does not go on: {answer:?}; {}", node.log());
        if answer.status == 200 {
            other.take(&answer)?;
        }
    }
    ensure!(other.texts() == ["one", "two", "three"], "{:?}", other.texts());
    // Nobody waits longer than the while after which it may be back.
    let begun = Instant::now();
    ensure!(other.poll(node.address(), 30.0).await?.is_empty(), "{:?}", other.events.last());
    ensure!(begun.elapsed() < Duration::from_secs(9), "it waited {:?}", begun.elapsed());
    // What comes next for this one is out of reach.
    let refused = alice.ask(node.address(), 1.0).await?;
    ensure!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    ensure!(refused.json()?["code"] == "INTERNAL_ERROR", "{refused:?}");
    // From further back: what lies before it is told.
    let mut begin = Poller { cursor: 0, events: Vec::new(), ..alice.clone() };
    let answer = begin.ask(node.address(), 1.0).await?;
    ensure!(answer.json()?["has_more"] == true, "{answer:?}");
    begin.take(&answer)?;
    ensure!(begin.texts() == ["one"], "{:?}", begin.texts());
    cluster.server_mut(dead).restart().await?;
    cluster.wait_ok().await?;
    let until = Instant::now() + PATIENCE;
    while alice.texts().len() < 3 {
        let answer = alice.ask(node.address(), 1.0).await?;
        ensure!(Instant::now() < until, "it does not heal: {answer:?}");
        if answer.status == 200 {
            alice.take(&answer)?;
        }
    }
    ensure!(alice.texts() == ["one", "two", "three"] && alice.ids() == [1, 2, 3], "{:?}", alice.events);
    let update = json!({ "title": "back" });
    node.call("PATCH", &format!("/api/v1/conversations/{away}"), Some(&update)).await?;
    Ok(())
}
