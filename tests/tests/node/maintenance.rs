//! The maintenance switch, for those who are there and those who come.

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};

fn message(id: &str) -> Value {
    json!({"type": "message:send", "messageId": id, "conversationId": "c", "toUserIds": ["bob"], "body": id})
}

async fn switch(gateway: &Gateway, enabled: bool) -> Result<()> {
    let body = json!({"enabled": enabled, "message": "back at noon", "retryAfter": 30});
    let (status, answer) = gateway.api("PUT", "/api/v1/maintenance", Some(&body)).await?;
    ensure!((200..300).contains(&status), "{status} {answer}");
    Ok(())
}

#[tokio::test]
async fn new_messages_are_refused_resends_acknowledged_and_newcomers_told() -> Result<()> {
    let gateway = Gateway::start(Options::default()).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    alice.send(&message("m-1")).await?;
    alice.expect("message:acked").await?;
    switch(&gateway, true).await?;
    let notice = alice.expect("maintenance").await?;
    ensure!(notice["message"] == "back at noon" && notice["retryAfter"] == 30, "{notice}");

    let mut carol = gateway.connect("/sechat", "carol").await?;
    ensure!(carol.expect("maintenance").await?["message"] == "back at noon", "who comes is told as well");
    alice.send(&message("m-2")).await?;
    let refusal = alice.expect("error").await?;
    ensure!(
        refusal["code"] == "SERVICE_UNAVAILABLE" && refusal["details"]["messageId"] == "m-2",
        "{refusal}"
    );
    alice.send(&message("m-1")).await?;
    ensure!(alice.expect("message:acked").await?["messageId"] == "m-1", "a resend is no new message");

    switch(&gateway, false).await?;
    // The switch reaches the node over the bus: the client tries again, as it was told to.
    for attempt in 0.. {
        alice.send(&message("m-2")).await?;
        let answer = alice.next().await?;
        if answer["type"] == "message:acked" {
            ensure!(answer["messageId"] == "m-2", "{answer}");
            break;
        }
        ensure!(attempt < 50, "still refused: {answer}");
    }
    Ok(())
}
