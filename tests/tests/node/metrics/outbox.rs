//! What a node counts that publishes what an application wrote down.

use anyhow::Result;
use parlance_tests::{Gateway, Options};
use serde_json::json;

use super::{Row, Seen, Watch};
use crate::outbox::{insert, table};

const EVENTS: &str = "parlance_app_outbox_events_total";

pub const ROWS: &[Row] = &[
    (
        "an event is published",
        EVENTS,
        &[("source", "table"), ("call", "message"), ("outcome", "published")],
        Seen::By(1.0),
    ),
    ("an event is published", "parlance_app_outbox_seconds", &[], Seen::More),
    ("an event is published", "parlance_app_outbox_leads", &[("source", "table")], Seen::Is(1.0)),
    ("an event is refused", EVENTS, &[("call", "message"), ("outcome", "refused")], Seen::By(1.0)),
    ("an event is refused", "parlance_app_outbox_aside_events", &[("source", "table")], Seen::Is(1.0)),
    ("maintenance is on", EVENTS, &[("call", "message"), ("outcome", "later")], Seen::More),
    ("maintenance is on", "parlance_app_outbox_waiting_events", &[("source", "table")], Seen::Is(1.0)),
    ("maintenance is on", "parlance_app_outbox_lag_seconds", &[("source", "table")], Seen::Positive),
];

#[tokio::test]
async fn events_are_counted() -> Result<()> {
    let postgres = table().await?;
    let gateway = Gateway::start(Options::brief().env("PARLANCE_OUTBOX_URL", &postgres.url())).await?;
    gateway.conversation("numbat", &["zebra"]).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let say =
        |user: &str| insert("message", Some("numbat"), Some(&json!({ "senderId": user, "body": "one" })));
    postgres.rows(&say("zebra")).await?;
    watch.sees("an event is published").await?;
    postgres.rows(&say("ibex")).await?;
    watch.sees("an event is refused").await?;
    gateway.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": true }))).await?;
    postgres.rows(&say("zebra")).await?;
    watch.sees("maintenance is on").await?;
    watch.done()
}
