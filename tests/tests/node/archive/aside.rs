//! What PostgreSQL refused is shown, and written when it is asked for.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::metrics::until;
use parlance_tests::{API_KEY, Gateway, Postgres};

use super::command::said;
use super::{are_whole, kept_in};
use crate::webhooks::{connect, say};

async fn is_written_when_it_is_asked_for(gateway: &Gateway, postgres: &Postgres) -> Result<()> {
    let mut alice = connect(gateway, "alice").await?;
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    postgres.until("SELECT count(*) FROM parlance.messages", 1).await?;
    postgres.rows("ALTER TABLE parlance.messages ADD CONSTRAINT mine CHECK (body <> 'm-1')").await?;
    for id in ["m-1", "m-2"] {
        say(&mut alice, id, "c", &["bob"]).await?;
    }
    are_whole(postgres, 2).await?;
    until(gateway, |page| page.sum("parlance_archive_given_up_total", &[]) == 1.0).await?;
    let asked = |what: &str| {
        said(
            &format!("{what} --url {}", "http://".to_owned() + gateway.internal_address()),
            &[("PARLANCE_API_KEY", API_KEY)],
        )
    };
    let listed = asked("list")?;
    ensure!(
        listed.starts_with("waiting: 0\ngiven up: 1\n") && listed.contains("message.accepted"),
        "{listed}"
    );
    ensure!(!listed.contains("m-1") && asked("list --json")?.contains("\"body\":\"m-1\""), "{listed}");
    postgres.rows("ALTER TABLE parlance.messages DROP CONSTRAINT mine").await?;
    ensure!(asked("retry")? == "written again: 1\n");
    are_whole(postgres, 3).await?;
    let order = postgres.rows("SELECT client_id FROM parlance.messages ORDER BY seq").await?;
    ensure!(order == [["m-0"], ["m-1"], ["m-2"]], "{order:?}");
    ensure!(asked("retry")? == "written again: 0\n");
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_it_is_written_when_it_is_asked_for() -> Result<()> {
    let postgres = Postgres::start().await?;
    is_written_when_it_is_asked_for(&Gateway::start(kept_in(&postgres, "")).await?, &postgres).await
}

#[tokio::test]
async fn on_redis_it_is_written_when_it_is_asked_for() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = kept_in(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url());
    is_written_when_it_is_asked_for(&Gateway::start(options).await?, &postgres).await
}
