//! The limit of polls: what every answer says of it, and that what it says is true.

use std::time::Duration;

use crate::poll_support::{POLL, Poller, get, nodes};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::Options;
use parlance_tests::http::{Request, Response, read_head};
use parlance_tests::token::expiry;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SHORT: &str = r#"
[[mounts]]
name = "socialhub"
dialect = "socialhub"
path = "/ws"
polls = { limit = 5, window_ms = 4000 }
"#;

fn number(answer: &Response, header: &str) -> Result<u64> {
    let value = answer.header(header).with_context(|| format!("no {header}: {answer:?}"))?;
    value.parse().with_context(|| format!("{header}: {value}"))
}

#[tokio::test]
async fn what_is_left_is_told_with_every_answer_of_every_node_and_waiting_as_told_helps() -> Result<()> {
    let redis = Server::standalone().await?;
    let nodes = nodes::<3>(&redis, &Options::default().config(SHORT)).await?;
    let alice = Poller::new("alice")?;
    let address = |n: usize| nodes[n % 3].address();
    let bearer = Some(alice.token.as_str());
    // Good, bad and somebody else's: each is an attempt, and each node knows of all.
    let missed = format!("{POLL}/missed?user_id=alice&last_sequence=0");
    let others = format!("{POLL}?user_id=bob&timeout=0");
    let body = json!({ "last_poll_id": "x" });
    let wrong = Request { address: address(3), method: "POST", path: POLL, bearer, body: Some(&body) };
    let answers = [
        (200, alice.ask(address(0), 0.0).await?),
        (200, get(address(1), &missed, bearer).await?),
        (403, get(address(2), &others, bearer).await?),
        (400, wrong.send().await?),
        (400, get(address(4), &format!("{POLL}?user_id=alice&timeout=x"), bearer).await?),
    ];
    for (left, (status, answer)) in (0..5).rev().zip(&answers) {
        ensure!(answer.status == *status, "not {status}: {answer:?}");
        ensure!(number(answer, "x-ratelimit-limit")? == 5, "{answer:?}");
        ensure!(number(answer, "x-ratelimit-remaining")? == left, "{left} should be left: {answer:?}");
        let now = expiry(Duration::ZERO);
        ensure!((now..=now + 5).contains(&number(answer, "x-ratelimit-reset")?), "{answer:?}");
        ensure!(answer.header("cache-control") == Some("no-store"), "{answer:?}");
    }
    for n in 0..3 {
        let refused = alice.ask(address(n), 0.0).await?;
        ensure!(refused.status == 429 && refused.json()?["code"] == "RATE_LIMITED", "{refused:?}");
        ensure!(number(&refused, "x-ratelimit-remaining")? == 0, "{refused:?}");
        ensure!((1..=4).contains(&number(&refused, "retry-after")?), "{refused:?}");
    }
    for answer in [get(address(0), POLL, None).await?, get(address(1), POLL, Some("a.b.c")).await?] {
        ensure!(answer.status == 401 && number(&answer, "x-ratelimit-limit")? == 5, "{answer:?}");
        ensure!(answer.header("www-authenticate") == Some("Bearer"), "{answer:?}");
    }
    // To wait is what is tested.
    let refused = alice.ask(address(0), 0.0).await?;
    tokio::time::sleep(Duration::from_secs(number(&refused, "retry-after")?)).await;
    let answer = alice.ask(address(1), 0.0).await?;
    ensure!(answer.status == 200, "waiting as told did not help: {answer:?}");
    Ok(())
}

#[tokio::test]
async fn other_methods_are_told_which_there_are_and_pages_may_read_what_is_left() -> Result<()> {
    let redis = Server::standalone().await?;
    let [node] = nodes::<1>(&redis, &Options::default()).await?;
    let alice = Poller::new("alice")?;
    let bearer = Some(alice.token.as_str());
    for (path, method, allow) in
        [(POLL.to_owned(), "DELETE", "GET, HEAD, POST"), (format!("{POLL}/missed"), "PUT", "GET, HEAD")]
    {
        let wrong =
            Request { address: node.address(), method, path: &path, bearer, body: None }.send().await?;
        ensure!(wrong.status == 405 && wrong.header("allow") == Some(allow), "{wrong:?}");
        ensure!(wrong.header("cache-control") == Some("no-store"), "{wrong:?}");
        ensure!(number(&wrong, "x-ratelimit-limit")? == 30, "{wrong:?}");
    }
    let mut stream = TcpStream::connect(node.address()).await?;
    let address = node.address();
    let head = format!("GET {POLL} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (answer, _) = read_head(&mut stream).await?;
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
    ensure!(exposed.contains("x-ratelimit-remaining") && exposed.contains("retry-after"), "{answer:?}");
    let origin = format!("http://{address}");
    ensure!(answer.header("access-control-allow-origin") == Some(origin.as_str()), "{answer:?}");
    Ok(())
}
