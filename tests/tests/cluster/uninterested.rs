//! A node without anybody in a conversation hears nothing of it: Redis sends it to the nodes that have somebody in it, and
//! to no other.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Ws};
use serde_json::json;

const MESSAGES: usize = 100;
/// Nobody is told of the coming and going of strangers.
const CONFIG: &str = r#"
[[mounts]]
name = "sechat"
dialect = "sechat"
path = "/sechat"
membership = "open"
presence_scope = "contacts"
"#;

/// What a node has heard over the bus so far.
async fn heard(node: &Gateway) -> Result<u64> {
    let metrics = node.internal("GET", "/metrics", None, None).await?.body;
    let line = metrics.lines().find(|line| line.starts_with("parlance_publications_total"));
    Ok(line.and_then(|line| line.rsplit(' ').next()).context("no such metric")?.parse()?)
}

async fn all_heard(nodes: &[Gateway]) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(heard(node).await?);
    }
    Ok(all)
}

/// One says something, types and stops, and the other hears it all.
async fn exchange(conversation: &str, number: usize, from: &mut Ws, to: &mut Ws) -> Result<()> {
    let id = format!("{conversation}-{number}");
    let message = json!({
        "type": "message:send", "messageId": id, "conversationId": conversation, "toUserIds": [], "body": "hello",
    });
    from.send(&message).await?;
    from.expect("message:acked").await?;
    ensure!(to.expect("message:received").await?["messageId"] == id.as_str());
    for on in [true, false] {
        let typing =
            json!({ "type": "typing", "conversationId": conversation, "toUserIds": [], "isTyping": on });
        from.send(&typing).await?;
        ensure!(to.expect("typing:update").await?["isTyping"] == on);
    }
    Ok(())
}

/// How many nodes Redis tells of a conversation.
async fn told(redis: &Server, conversation: &str) -> Result<u64> {
    let channels = redis.command(&["PUBSUB", "SHARDCHANNELS", &format!("*c:{conversation}")]).await?;
    ensure!(channels.lines().count() == 1, "one channel: {channels:?}");
    let told = redis.command(&["PUBSUB", "SHARDNUMSUB", &channels]).await?;
    Ok(told.lines().last().context("no answer")?.parse()?)
}

#[tokio::test]
async fn nodes_with_nobody_in_a_conversation_hear_nothing_of_it() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let options = Options::default().config(CONFIG).env("PARLANCE_REDIS_URL", &redis.url());
        nodes.push(Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await?);
    }
    nodes[0].conversation("here", &["alice", "bob"]).await?;
    nodes[0].conversation("there", &["carol", "dave"]).await?;
    let mut people = Vec::new();
    for (node, name) in nodes.iter().zip(["alice", "bob", "carol", "dave"]) {
        people.push(node.connect("/sechat", name).await?);
    }
    let [alice, bob, carol, dave] = &mut people[..] else { anyhow::bail!("four people") };
    // Everybody is in the own conversation, and heard there.
    exchange("here", 0, alice, bob).await?;
    exchange("there", 0, carol, dave).await?;

    let before = all_heard(&nodes).await?;
    for number in 1..=MESSAGES {
        exchange("here", number, alice, bob).await?;
    }
    let after = all_heard(&nodes).await?;
    let more: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let least = 3 * u64::try_from(MESSAGES)?;
    ensure!(more[0] >= least && more[1] >= least, "the nodes of alice and bob have heard {more:?}");
    ensure!(more[2..] == [0, 0], "the other nodes have heard of what does not concern them: {more:?}");
    ensure!((told(&redis, "here").await?, told(&redis, "there").await?) == (2, 2));

    // What concerns them, they do hear.
    exchange("there", 1, carol, dave).await?;
    let last = all_heard(&nodes).await?;
    ensure!(last[2] > after[2] && last[3] > after[3], "from {after:?} to {last:?}");
    ensure!(last[..2] == after[..2], "from {after:?} to {last:?}");
    Ok(())
}
