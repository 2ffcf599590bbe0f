//! Lists of chats and histories over HTTP, from either of two nodes on one Redis.

use anyhow::Result;
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, lists};

async fn pair(redis: &Server) -> Result<(Gateway, Gateway)> {
    let node = || {
        let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
        Gateway::start(options.env("PARLANCE_NO_LIMITS", "true"))
    };
    Ok((node().await?, node().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn walks_in_both_directions_meet_every_message_once_while_others_write() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = pair(&redis).await?;
    lists::walks_meet_every_message_once(&[&a, &b], 11).await
}

#[tokio::test]
async fn receipts_at_the_other_node_count() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = pair(&redis).await?;
    lists::unread_follows_receipts_of_every_dialect(&[&a, &b]).await
}

#[tokio::test]
async fn a_client_without_a_socket_says_how_far_it_has_read() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = pair(&redis).await?;
    lists::reading_over_http_is_heard(&[&a, &b]).await
}

#[tokio::test]
async fn a_list_is_walked_while_others_write() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = pair(&redis).await?;
    lists::lists_page_over_what_is_written_meanwhile(&[&a, &b]).await
}
