//! What a node counts that writes to the archive and reads there.

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Postgres};
use serde_json::json;

use crate::archive::old_message;

use super::{Row, Seen, Watch};

const BATCHES: &str = "parlance_archive_batches_total";
const ACKS: &str = "parlance_archive_ack_batches_total";
const READS: &str = "parlance_archive_reads_total";

pub const ROWS: &[Row] = &[
    ("a message is written", BATCHES, &[("outcome", "written")], Seen::More),
    ("a message is written", "parlance_archive_seconds", &[], Seen::More),
    ("a message is written", "parlance_archive_steps_total", &[], Seen::By(1.0)),
    ("a message is written", "parlance_trail_dropped_steps", &[], Seen::There),
    ("PostgreSQL refuses", BATCHES, &[("outcome", "refused")], Seen::More),
    ("PostgreSQL refuses", "parlance_archive_given_up_total", &[], Seen::By(1.0)),
    ("PostgreSQL refuses", "parlance_archive_aside_steps", &[], Seen::Is(1.0)),
    ("a message is written", ACKS, &[("outcome", "written")], Seen::More),
    ("a message is written", "parlance_archive_acks_total", &[], Seen::By(1.0)),
    ("a message is written", "parlance_archive_ack_seconds", &[], Seen::More),
    ("PostgreSQL refuses", ACKS, &[("outcome", "refused")], Seen::More),
    ("PostgreSQL is away", ACKS, &[("outcome", "away")], Seen::More),
    ("old messages go", "parlance_archive_removed_rows_total", &[("table", "messages")], Seen::Positive),
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
    old_message(&postgres).await?;
    let config = format!("[archive]\nurl = \"{}\"\ndays = 30\n[retention]\nentries = 2\n", postgres.url());
    let gateway =
        Gateway::start(Options::brief().config(&config).env("PARLANCE_ACK_LEVEL", "archived")).await?;
    gateway.conversation("numbat", &["zebra", "ibex"]).await?;
    postgres.until("SELECT count(*) FROM parlance.memberships", 2).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let say = async |body: &str| {
        let message = json!({ "senderId": "zebra", "body": body });
        let (status, _) =
            gateway.api("POST", "/api/v1/conversations/numbat/messages", Some(&message)).await?;
        anyhow::Ok(status)
    };
    ensure!(say("one").await? == 201);
    watch.sees("a message is written").await?;
    watch.sees("old messages go").await?;
    postgres.rows("ALTER TABLE parlance.messages ADD CHECK (body <> 'two')").await?;
    ensure!(say("two").await? == 503);
    watch.sees("PostgreSQL refuses").await?;
    ensure!(say("three").await? == 201);
    // Below it is what was not kept: the page ends there.
    gateway.call("GET", "/api/v1/conversations/numbat/messages", None).await?;
    watch.sees("history is read on").await?;
    postgres.kill9()?;
    ensure!(say("four").await? == 503);
    let (status, _) = gateway.api("GET", "/api/v1/conversations/numbat/messages", None).await?;
    ensure!(status == 503, "{status}");
    watch.sees("PostgreSQL is away").await?;
    watch.done()
}
