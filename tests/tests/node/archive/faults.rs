//! Nothing is lost or doubled while PostgreSQL or a node is killed; what PostgreSQL does not take holds up nothing else.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::metrics::until;
use parlance_tests::million::{Plan, run};
use parlance_tests::{Gateway, Postgres};

use super::{are_whole, kept_in};
use crate::webhooks::{connect, say};

const MESSAGES: usize = 2_000;
const PLACES: usize = 10;

#[tokio::test]
async fn two_thousand_messages_are_there_once_after_postgresql_and_a_node_were_killed() -> Result<()> {
    let (mut postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = || kept_in(&postgres, "batch = 20").env("PARLANCE_REDIS_URL", &redis.url());
    let mut a = Gateway::start(options()).await?;
    let b = Gateway::start(options()).await?;
    let mut alice = connect(&a, "alice").await?;
    for n in 0..MESSAGES {
        match n {
            300 | 1_300 => postgres.kill9()?,
            700 | 1_700 => postgres.restart().await?,
            1_000 => a.kill9()?,
            _ => {}
        }
        let (id, place) = (format!("m-{n}"), format!("c-{}", n % PLACES));
        // What the killed node did not acknowledge is sent again.
        while say(&mut alice, &id, &place, &["bob"]).await.is_err() {
            alice = connect(&b, "alice").await?;
        }
    }
    are_whole(&postgres, 2_000).await?;
    until(&b, |page| page.sum("parlance_archive_backlog_steps", &[]) == 0.0).await?;
    let each = "SELECT count(*) FROM (SELECT FROM parlance.messages GROUP BY conversation HAVING count(*) = 200) AS whole";
    ensure!(postgres.number(each).await? == 10);
    Ok(())
}

/// `cargo xtask archive`, in small.
#[tokio::test]
async fn what_is_sent_while_everything_is_killed_is_there_once_in_its_place_and_as_it_was() -> Result<()> {
    let outcome = run(&Plan { messages: 4_000, conversations: 10, senders: 2, batch: 20 }).await?;
    ensure!(outcome.broken.is_empty() && outcome.sent == 4_000, "{outcome}\n{:?}", outcome.broken);
    ensure!(outcome.repeated > 0 && outcome.failed > 0, "{outcome}");
    Ok(())
}

#[tokio::test]
async fn what_a_killed_embedded_node_had_not_written_it_writes_when_it_is_back() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let mut gateway = Gateway::start(kept_in(&postgres, "batch = 7")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for n in 0..60 {
        if n == 20 {
            postgres.kill9()?;
        }
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    gateway.kill9()?;
    postgres.restart().await?;
    gateway.restart().await?;
    are_whole(&postgres, 60).await
}

#[tokio::test]
async fn what_postgresql_refuses_is_put_aside_and_holds_up_nothing_else() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(kept_in(&postgres, "")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    postgres.until("SELECT count(*) FROM parlance.messages", 1).await?;
    postgres.rows("ALTER TABLE parlance.messages ADD CHECK (body <> 'm-3')").await?;
    for n in 1..8 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    are_whole(&postgres, 7).await?;
    until(&gateway, |page| page.sum("parlance_archive_given_up_total", &[]) == 1.0).await?;
    ensure!(gateway.log().contains("put aside") && !gateway.log().contains("m-3"), "{}", gateway.log());
    Ok(())
}
