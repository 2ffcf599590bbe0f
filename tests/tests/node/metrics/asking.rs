//! What a node counts that asks the application's backend.

use anyhow::Result;
use parlance_tests::{Gateway, Options, Ws, token};

use super::{Row, Seen, Watch};
use crate::remote::Remote;

const QUESTIONS: &str = "parlance_authoriser_questions_total";

pub const ROWS: &[Row] = &[
    ("somebody may", QUESTIONS, &[("action", "connect"), ("outcome", "allowed")], Seen::By(1.0)),
    ("somebody may", "parlance_authoriser_seconds", &[], Seen::By(1.0)),
    ("the same again", QUESTIONS, &[("action", "connect"), ("outcome", "cached")], Seen::By(1.0)),
    ("the same again", "parlance_authoriser_seconds", &[], Seen::By(0.0)),
    ("somebody may not", QUESTIONS, &[("action", "connect"), ("outcome", "denied")], Seen::By(1.0)),
    ("there is no answer", QUESTIONS, &[("action", "connect"), ("outcome", "failed")], Seen::By(1.0)),
    ("there is no answer", "parlance_authoriser_breaker_open", &[], Seen::Is(1.0)),
    ("nobody asks", QUESTIONS, &[("action", "connect"), ("outcome", "breaker")], Seen::By(1.0)),
];

#[tokio::test]
async fn questions_are_counted() -> Result<()> {
    let backend = Remote::start(200, r#"{"allow":true}"#).await?;
    let config = format!("[authoriser]\nurl = \"{}\"\nbreaker_failures = 1\n", backend.url("/"));
    let gateway = Gateway::start(Options::brief().config(&config)).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let _zebra = gateway.connect("/ws", "zebra").await?;
    watch.sees("somebody may").await?;
    let _again = gateway.connect("/ws", "zebra").await?;
    watch.sees("the same again").await?;
    let refused = async |user: &str| Ws::refused(&gateway.url(&format!("/ws?token={}", token(user)?))).await;
    backend.answer(200, r#"{"allow":false}"#);
    refused("ibex").await?;
    watch.sees("somebody may not").await?;
    backend.answer(500, "");
    refused("okapi").await?;
    watch.sees("there is no answer").await?;
    refused("okapi").await?;
    watch.sees("nobody asks").await?;
    watch.done()
}
