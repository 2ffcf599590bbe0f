//! What a node counts that writes to the archive and reads there.

use anyhow::Result;
use parlance_tests::{Gateway, Options, Postgres};
use serde_json::json;

use super::{Row, Seen, Watch};

const BATCHES: &str = "parlance_archive_batches_total";
const READS: &str = "parlance_archive_reads_total";

pub const ROWS: &[Row] = &[
    ("a message is written", BATCHES, &[("outcome", "written")], Seen::More),
    ("a message is written", "parlance_archive_seconds", &[], Seen::More),
    ("a message is written", "parlance_archive_steps_total", &[], Seen::By(1.0)),
    ("PostgreSQL refuses", BATCHES, &[("outcome", "refused")], Seen::More),
    ("PostgreSQL refuses", "parlance_archive_given_up_total", &[], Seen::By(1.0)),
    ("PostgreSQL refuses", "parlance_archive_aside_steps", &[], Seen::Is(1.0)),
    ("history is read on", READS, &[("outcome", "answered")], Seen::More),
    ("history is read on", "parlance_archive_read_seconds", &[], Seen::More),
    ("PostgreSQL is away", READS, &[("outcome", "away")], Seen::More),
    ("PostgreSQL is away", BATCHES, &[("outcome", "away")], Seen::More),
    ("PostgreSQL is away", "parlance_archive_backlog_steps", &[], Seen::Positive),
    ("PostgreSQL is away", "parlance_archive_lag_seconds", &[], Seen::Positive),
];

#[tokio::test]
async fn batches_are_counted() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let config = format!("[archive]\nurl = \"{}\"\n[retention]\nentries = 2\n", postgres.url());
    let gateway = Gateway::start(Options::brief().config(&config)).await?;
    gateway.conversation("numbat", &["zebra", "ibex"]).await?;
    postgres.until("SELECT count(*) FROM parlance.memberships", 2).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let say = async |body: &str| {
        let message = json!({ "senderId": "zebra", "body": body });
        gateway.call("POST", "/api/v1/conversations/numbat/messages", Some(&message)).await
    };
    say("one").await?;
    watch.sees("a message is written").await?;
    postgres.rows("ALTER TABLE parlance.messages ADD CHECK (body <> 'two')").await?;
    say("two").await?;
    watch.sees("PostgreSQL refuses").await?;
    say("three").await?;
    // Below it is what was not kept: the page ends there.
    gateway.call("GET", "/api/v1/conversations/numbat/messages", None).await?;
    watch.sees("history is read on").await?;
    postgres.kill9()?;
    say("four").await?;
    let (status, _) = gateway.api("GET", "/api/v1/conversations/numbat/messages", None).await?;
    anyhow::ensure!(status == 503, "{status}");
    watch.sees("PostgreSQL is away").await?;
    watch.done()
}
