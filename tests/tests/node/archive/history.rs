//! History across the boundary between the engine and the archive, page by page, is the whole that was sent.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Postgres, token};
use serde_json::{Value, json};

use super::story::{MESSAGES, READERS, Reader, Story, happens, is_archived, short};

async fn is_whole(gateway: &Gateway, story: &Story) -> Result<()> {
    for reader in READERS {
        let told = story.as_told(reader);
        ensure!(told.len() == MESSAGES, "{reader:?}: {}", told.len());
        for limit in [3, 7, 50, 200] {
            ensure!(reader.back(gateway, limit).await? == told, "{reader:?} back by {limit}");
            ensure!(reader.on(gateway, limit).await? == told, "{reader:?} on by {limit}");
        }
    }
    let told = story.as_told(Reader::Member);
    ensure!(told[7].contains("🎉") && !told[7].contains("👍"), "as reactions stand: {}", told[7]);
    Ok(())
}

/// Messages from a time, and between two of them, and how far somebody read who reads slowly.
async fn parts_are_whole(gateway: &Gateway, story: &Story) -> Result<()> {
    let told = story.as_told(Reader::Member);
    for n in [0, 1, 100, 263] {
        let one: Value = serde_json::from_str(&told[n])?;
        let at = one["createdAt"].as_str().unwrap_or_default();
        let page = Reader::Member.page(gateway, &format!("limit=200&since={at}")).await?;
        let first = told.iter().position(|other| other.contains(at)).unwrap_or_default();
        ensure!(page.texts() == told[first..(first + 200).min(MESSAGES)], "since {at}: {page:?}");
    }
    for (from, to) in [(0, 9), (40, 120), (230, 299), (250, 260)] {
        let (after, before) = (&story.ids[from], &story.ids[to]);
        let page = Reader::Member.page(gateway, &format!("limit=200&after={after}&before={before}")).await?;
        ensure!(page.texts() == told[from + 1..to] && !page.has_more && !page.truncated, "{from} to {to}");
        ensure!(page.first == 1 || from > 240, "{}", page.first);
    }
    Ok(())
}

/// What somebody says of a message that the engine has no more.
async fn old_messages_are_read(gateway: &Gateway, story: &Story) -> Result<()> {
    let read = async |body: Value| {
        let path = "/api/v1/conversations/room/read";
        let bearer = token("dave")?;
        let request = parlance_tests::http::Request {
            address: gateway.address(),
            method: "PUT",
            path,
            bearer: Some(&bearer),
            body: Some(&body),
        };
        request.send().await
    };
    let answer = read(json!({ "messageId": story.ids[20] })).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let seq = answer.json()?["lastRead"]["sequence"].as_u64();
    let told = story.as_told(Reader::Member);
    let one: Value = serde_json::from_str(&told[20])?;
    ensure!(seq == one["seq"].as_u64(), "{answer:?} {one}");
    let cursors = gateway.read("carol", "/v1/chats/room/cursors").await?;
    let at = cursors.to_string();
    ensure!(at.contains("dave"), "{at}");
    let unknown = story.ids[20].replace("msg_", "msg_f");
    ensure!(read(json!({ "messageId": unknown })).await?.status >= 400);
    Ok(())
}

async fn all_of_it(gateway: &Gateway, postgres: &Postgres) -> Result<()> {
    gateway.conversation("room", &["alice", "bob", "carol", "dave"]).await?;
    let story = happens(gateway).await?;
    is_archived(postgres, MESSAGES).await?;
    is_whole(gateway, &story).await?;
    parts_are_whole(gateway, &story).await?;
    old_messages_are_read(gateway, &story).await?;
    ensure!(!gateway.log().contains("panicked"), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_history_page_by_page_is_the_whole() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, "")).await?;
    all_of_it(&gateway, &postgres).await
}

#[tokio::test]
async fn on_redis_history_page_by_page_is_the_whole() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let gateway = Gateway::start(short(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url())).await?;
    all_of_it(&gateway, &postgres).await
}

#[tokio::test]
async fn switched_off_the_engine_alone_is_read() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, "read = false")).await?;
    gateway.conversation("room", &["alice", "bob", "carol"]).await?;
    happens(&gateway).await?;
    is_archived(&postgres, MESSAGES).await?;
    let page = Reader::Member.page(&gateway, "limit=200").await?;
    ensure!(page.truncated && !page.has_more && page.messages.len() < 50, "{page:?}");
    Ok(())
}
