//! What is read at once is bounded, by number and by bytes; and everything is published.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Postgres};
use serde_json::{Value, json};

use super::{STREAM, add, bodies, insert, of_stream, of_table, table, until_empty};

const SMALL: usize = 40;
/// How many of them are read at once.
const BATCH: usize = 7;
const LARGE: usize = 20;
/// Of a large one.
const BYTES: usize = 900_000;
/// What is read at once, and the event with which that is reached.
const BUDGET: usize = (8 << 20) + BYTES + 100;

/// So many of this size, which is made of blanks.
fn events(count: usize, bytes: usize) -> Vec<String> {
    let blanks = " ".repeat(bytes);
    let event = |n: usize| format!(r#"{{"senderId":"alice","body":"{n}"{blanks}}}"#);
    (0..count).map(event).collect()
}

/// Where they are said; it comes before all of them.
fn made() -> Value {
    json!({ "id": "c", "type": "group", "members": ["alice"] })
}

/// A node that reads so many at once.
async fn node(options: Options, batch: usize) -> Result<Gateway> {
    let options = options.env("PARLANCE_ACK_LEVEL", "memory").env("PARLANCE_LIMITS_RATES", "false");
    Gateway::start(options.env("PARLANCE_OUTBOX_BATCH", &batch.to_string())).await
}

async fn is_told(node: &Gateway, expected: usize) -> Result<()> {
    let told = bodies(node, "c").await?;
    ensure!(told == (0..expected).map(|n| n.to_string()).collect::<Vec<_>>(), "{told:?}");
    Ok(())
}

/// Events and bytes of the largest page: what is settled together was read together.
async fn largest(postgres: &Postgres) -> Result<(usize, usize)> {
    let of = async |column: &str| -> Result<usize> {
        Ok(usize::try_from(postgres.number(&format!("SELECT max({column}) FROM pages")).await?)?)
    };
    Ok((of("events").await?, of("bytes").await?))
}

#[tokio::test]
async fn a_page_of_the_table_is_bounded_by_events_and_by_bytes() -> Result<()> {
    let noted = "CREATE TABLE pages (events bigint, bytes bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO pages SELECT count(*), sum(octet_length(body::text)) FROM gone;
            RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER DELETE ON parlance.outbox REFERENCING OLD TABLE AS gone
            FOR EACH STATEMENT EXECUTE FUNCTION note();";
    for (all, batch) in [(events(SMALL, 0), BATCH), (events(LARGE, BYTES), 1_000)] {
        let postgres = table().await?;
        postgres.rows(noted).await?;
        let row = |body: &String| {
            format!("INSERT INTO parlance.outbox (call, target, body) VALUES ('message', 'c', '{body}');")
        };
        let rows: String = all.iter().map(row).collect();
        let made = insert("conversation", None, Some(&made()));
        postgres.rows(&format!("BEGIN; {made} {rows} COMMIT;")).await?;
        let node = node(of_table(&postgres), batch).await?;
        postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
        is_told(&node, all.len()).await?;
        let (events, bytes) = largest(&postgres).await?;
        ensure!(events > 1 && events <= batch && events < all.len() && bytes < BUDGET, "{events} {bytes}");
    }
    Ok(())
}

/// The most events that were settled together, as Redis has noted it of the script that does so.
async fn most_settled(redis: &Server) -> Result<usize> {
    let noted = redis.command(&["SLOWLOG", "GET", "10000"]).await?;
    let lines: Vec<&str> = noted.lines().collect();
    // How many are kept of those that are put aside comes first.
    let counts = lines.windows(2).filter(|pair| pair[0] == "100000").map(|pair| pair[1].parse());
    let counts = counts.collect::<Result<Vec<usize>, _>>()?;
    counts.into_iter().max().context("nothing was settled")
}

#[tokio::test]
async fn a_page_of_the_stream_is_bounded_by_events_and_by_bytes() -> Result<()> {
    for (all, batch, most) in
        [(events(SMALL, 0), BATCH, BATCH), (events(LARGE, BYTES), 1_000, BUDGET / BYTES)]
    {
        let redis = Server::standalone().await?;
        for setting in [["slowlog-max-len", "10000"], ["slowlog-log-slower-than", "0"]] {
            redis.command(&["CONFIG", "SET", setting[0], setting[1]]).await?;
        }
        add(&redis, "conversation", None, Some(&made())).await?;
        for body in &all {
            redis.command(&["XADD", STREAM, "*", "call", "message", "target", "c", "body", body]).await?;
        }
        let node = node(of_stream(&redis), batch).await?;
        until_empty(&redis).await?;
        is_told(&node, all.len()).await?;
        let events = most_settled(&redis).await?;
        ensure!(events > 1 && events <= most, "{events}");
    }
    Ok(())
}
