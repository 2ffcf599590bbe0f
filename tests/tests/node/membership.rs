//! Nobody is told what they are no member for: removals, absences and quick reconnects at bad moments.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Ws, token};
use serde_json::json;
use tokio::time::timeout;

async fn room(gateway: &Gateway, members: &[&str]) -> Result<()> {
    // Created already, it is answered with what there is.
    let body = json!({"id": "room", "type": "group", "members": members});
    gateway.call("POST", "/api/v1/conversations", Some(&body)).await.map(drop)
}

async fn say(gateway: &Gateway, text: &str) -> Result<()> {
    let body = json!({"senderId": "alice", "body": text});
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&body)).await.map(drop)
}

async fn change(gateway: &Gateway, what: &str, user: &str) -> Result<()> {
    gateway.call("PATCH", "/api/v1/conversations/room", Some(&json!({what: [user]}))).await.map(drop)
}

/// Everything that comes until nothing has come for a second.
async fn all_text(socket: &mut Ws) -> String {
    let mut all = String::new();
    while let Ok(Ok(message)) = timeout(Duration::from_secs(1), socket.next()).await {
        all.push_str(&message.to_string());
        all.push('\n');
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_removed_in_the_middle_of_the_backlog_reads_no_further() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    room(&gateway, &["alice", "bob"]).await?;
    let filler = "x".repeat(16_000);
    for _ in 0..900 {
        say(&gateway, &filler).await?;
    }
    // More than the socket and the outbox hold: the replay waits for a reader that does not read.
    let mut bob = gateway.connect("/sechat", "bob").await?;
    ensure!(bob.expect("message:received").await?["wasQueued"] == true, "the backlog has begun");
    change(&gateway, "removeMembers", "bob").await?;
    say(&gateway, "SECRET after the removal").await?;
    let heard = all_text(&mut bob).await;
    ensure!(!heard.contains("SECRET"), "a removed member heard what was said after the removal");
    ensure!(
        heard.matches("message:received").count() < 899,
        "the whole backlog went out: this shows nothing"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_said_while_a_user_was_out_is_not_told_on_return() -> Result<()> {
    let gateway = Gateway::start(Options::default()).await?;
    room(&gateway, &["alice", "bob"]).await?;
    let bob_again = gateway.url(&format!("/ws?token={}", token("bob")?));
    let mut bob = Ws::connect(&bob_again).await?;
    let channel = json!({"type": "subscribe", "payload": {"channel": "conversation:room"}, "ack_id": "1"});
    bob.send(&channel).await?;
    ensure!(bob.expect("ack").await?["payload"]["success"] == true, "subscribed");
    bob.close(1000).await?;
    change(&gateway, "removeMembers", "bob").await?;
    say(&gateway, "SECRET while bob is out").await?;
    change(&gateway, "addMembers", "bob").await?;
    say(&gateway, "welcome back").await?;
    let mut bob = Ws::connect(&bob_again).await?;
    let first = bob.expect("message").await?;
    ensure!(first["payload"]["content"] == "welcome back", "{first}");
    let rest = all_text(&mut bob).await;
    ensure!(!rest.contains("SECRET"), "{rest}");
    Ok(())
}

#[tokio::test]
async fn quick_connects_do_not_lose_the_kept_subscriptions() -> Result<()> {
    let gateway = Gateway::start(Options::default()).await?;
    room(&gateway, &["alice", "bob"]).await?;
    let url = gateway.url(&format!("/ws?token={}", token("bob")?));
    let mut bob = Ws::connect(&url).await?;
    bob.send(&json!({"type": "subscribe", "payload": {"channel": "conversation:room"}, "ack_id": "1"}))
        .await?;
    ensure!(bob.expect("ack").await?["payload"]["success"] == true, "subscribed");
    drop(bob);
    say(&gateway, "missed").await?;
    for _ in 0..20 {
        // Gone before it has joined anything.
        match Ws::open(&url, &[]).await? {
            Ok(socket) => drop(socket),
            Err(refusal) => ensure!(refusal.status == 429, "{}", refusal.status),
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut bob = loop {
        match Ws::open(&url, &[]).await? {
            Ok(socket) => break socket,
            Err(refusal) => {
                ensure!(
                    refusal.status == 429 && tokio::time::Instant::now() < deadline,
                    "{}",
                    refusal.status
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    say(&gateway, "live").await?;
    for expected in ["missed", "live"] {
        let message = bob.expect("message").await?;
        ensure!(message["payload"]["content"] == expected, "expected {expected}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn repeating_a_creation_invites_again_and_doubles_nothing() -> Result<()> {
    let gateway = Gateway::start(Options::default()).await?;
    let mut bob = gateway.connect("/sechat", "bob").await?;
    room(&gateway, &["alice", "bob"]).await?;
    say(&gateway, "one").await?;
    ensure!(bob.expect("message:received").await?["body"] == "one", "invited while connected");
    // Repeating the creation tells everybody again, and does no harm.
    room(&gateway, &["alice", "bob"]).await?;
    say(&gateway, "two").await?;
    ensure!(bob.expect("message:received").await?["body"] == "two", "once, and in order");
    bob.expect("message:delivered").await?;
    bob.assert_silent(Duration::from_millis(300)).await
}
