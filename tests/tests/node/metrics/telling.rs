//! What a node counts that tells the application's backend.

use anyhow::Result;
use parlance_tests::{Gateway, Options};
use serde_json::json;

use super::{Row, Seen, Watch};
use crate::remote::Remote;

const CALLS: &str = "parlance_webhook_calls_total";

pub const ROWS: &[Row] = &[
    ("a message is told", CALLS, &[("outcome", "taken")], Seen::By(1.0)),
    ("a message is told", "parlance_webhook_seconds", &[], Seen::By(1.0)),
    ("a message is told", "parlance_webhook_events_total", &[("event", "message.accepted")], Seen::By(1.0)),
    ("the backend is away", CALLS, &[("outcome", "away")], Seen::More),
    ("the backend is away", "parlance_webhook_backlog_events", &[], Seen::Positive),
    ("the backend is away", "parlance_webhook_lag_seconds", &[], Seen::Positive),
    ("the backend refuses", CALLS, &[("outcome", "refused")], Seen::More),
    ("the backend refuses", "parlance_webhook_given_up_total", &[], Seen::By(1.0)),
    ("the backend refuses", "parlance_webhook_aside_events", &[], Seen::Is(1.0)),
];

#[tokio::test]
async fn calls_are_counted() -> Result<()> {
    let backend = Remote::start(200, "{}").await?;
    let (url, events) = (backend.url("/"), "events = [\"message.accepted\"]\nattempts = 2");
    let config = format!("[webhooks]\nurl = \"{url}\"\nbackoff_ms = 20\nbackoff_max_ms = 50\n{events}\n");
    let gateway = Gateway::start(Options::brief().config(&config)).await?;
    gateway.conversation("numbat", &["zebra", "ibex"]).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let say = async |body: &str| {
        let message = json!({ "senderId": "zebra", "body": body });
        gateway.call("POST", "/api/v1/conversations/numbat/messages", Some(&message)).await
    };
    say("one").await?;
    watch.sees("a message is told").await?;
    backend.answer(503, "");
    say("two").await?;
    watch.sees("the backend is away").await?;
    backend.answer(422, "");
    watch.sees("the backend refuses").await?;
    watch.done()
}
