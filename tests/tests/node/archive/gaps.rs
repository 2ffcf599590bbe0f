//! What is not in the archive is a gap: it is told, and what lies on both sides of it is read.

use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Postgres};
use serde_json::{Value, json};

use super::story::{Page, short};
use crate::webhooks::connect;

const PATH: &str = "/api/v1/conversations/room/messages";

async fn page(gateway: &Gateway, query: &str) -> Result<(Page, Vec<String>)> {
    let answer = gateway.read("bob", &format!("{PATH}?limit=30&{query}")).await?;
    let page: Page = serde_json::from_str(&answer.to_string())?;
    let bodies = page.bodies()?;
    Ok((page, bodies))
}

fn id(page: &Page, last: bool) -> Result<String> {
    let one = if last { page.messages.last() } else { page.messages.first() };
    let one: Value = serde_json::from_str(one.context("no message")?.get())?;
    Ok(one["id"].as_str().context("no id")?.to_owned())
}

fn said(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("m-{n}")).collect()
}

#[tokio::test]
async fn what_was_put_aside_is_told_and_not_passed_over() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, "")).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    postgres.until("SELECT count(*) FROM parlance.entries", 1).await?;
    postgres.rows("ALTER TABLE parlance.messages ADD CHECK (body <> 'm-40')").await?;
    for n in 0..150 {
        let message = json!({ "senderId": "alice", "body": format!("m-{n}") });
        gateway.call("POST", PATH, Some(&message)).await?;
    }
    postgres.until("SELECT count(*) FROM parlance.messages", 149).await?;
    let (mut all, mut query) = (Vec::new(), String::new());
    loop {
        let (found, bodies) = page(&gateway, &query).await?;
        all.splice(0..0, bodies);
        ensure!(found.truncated != found.has_more, "at the gap, and not before: {found:?}");
        if !found.has_more {
            break;
        }
        query = format!("before={}", id(&found, false)?);
    }
    ensure!(all == said(41, 150), "{all:?}");
    let (first, bodies) = page(&gateway, "since=2001-01-01T00:00:00Z").await?;
    ensure!(bodies == said(0, 30) && !first.truncated, "{first:?}");
    let (second, bodies) = page(&gateway, &format!("after={}", id(&first, true)?)).await?;
    ensure!(bodies == said(30, 40) && second.has_more && !second.truncated, "{second:?}");
    let (third, bodies) = page(&gateway, &format!("after={}", id(&second, true)?)).await?;
    ensure!(bodies == said(41, 71) && third.has_more && third.truncated, "{third:?}");

    let mut bob = connect(&gateway, "bob").await?;
    let (mut heard, mut resync) = (Vec::new(), Vec::new());
    while heard.last().is_none_or(|last| last != "m-149") {
        let frame = bob.next().await?;
        if frame["type"] == "message:received" {
            heard.push(frame["body"].as_str().context("no body")?.to_owned());
        } else if frame["details"]["resync"] == true {
            resync.push((heard.len(), frame["details"]["from"].clone(), frame["details"]["to"].clone()));
        }
    }
    ensure!(heard == [said(0, 40), said(41, 150)].concat(), "{heard:?}");
    ensure!(resync == [(40, json!(42), json!(42))], "{resync:?}");

    let polled = gateway.read("bob", "/api/v1/realtime/poll?user_id=bob&last_poll_id=0&timeout=0").await?;
    let events = polled["events"].as_array().context("no events")?;
    let told: Vec<&str> = events.iter().filter_map(|event| event["payload"]["content"].as_str()).collect();
    ensure!(told == heard[..told.len()] && told.len() > 60, "{told:?}");
    let lost: Vec<usize> =
        events.iter().enumerate().filter(|(_, e)| e["type"] == "error").map(|(n, _)| n).collect();
    ensure!(lost == [40], "{lost:?} of {events:?}");
    Ok(())
}
