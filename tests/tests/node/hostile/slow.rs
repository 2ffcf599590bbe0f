//! Slowness: heads and bodies that trickle in or never end, answers nobody takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use parlance_tests::{PATIENCE, Raw};
use tokio::time::{sleep, timeout};

use super::calls::{CALLS, Call, Side};
use super::stage::{Setting, Stage, expect};

const LIMITS: &str = "head_ms = 400\nmessage_ms = 400\nwrite_stall_ms = 400";
/// More than a limit, less than what a limit that begins anew with each byte would last.
const TRICKLE: Duration = Duration::from_millis(60);

async fn stage() -> Result<Stage> {
    Stage::start(&Setting { limits: LIMITS, ..Setting::default() }).await
}

/// Sends byte by byte until there is an answer; it must be there long before the end.
async fn trickled(raw: &mut Raw, bytes: &[u8]) -> Result<parlance_tests::Response> {
    for byte in bytes.iter().take(100) {
        // Whoever has answered does not listen any more.
        if raw.send([*byte]).await.is_err() {
            break;
        }
        if let Ok(answer) = timeout(TRICKLE, raw.answer()).await {
            return answer;
        }
    }
    raw.answer().await
}

#[tokio::test]
async fn heads_that_trickle_in_or_stop_are_answered_in_time() -> Result<()> {
    let stage = stage().await?;
    let one = |call: &'static Call, part: usize| {
        let stage = &stage;
        async move {
            let head = stage
                .head(call, "X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n");
            let mut raw = stage.raw(call.side).await?;
            let begun = Instant::now();
            let answer = match part {
                0 => trickled(&mut raw, head.as_bytes()).await,
                1 => raw.ask(head.get(..head.len() - 1).unwrap_or_default()).await,
                2 => raw.ask(head.get(..7).unwrap_or_default()).await,
                _ => raw.answer().await,
            };
            let name = || format!("{part} of {} {}", call.method, call.target);
            expect(&answer.with_context(name)?, 408).with_context(name)?;
            ensure!(begun.elapsed() < Duration::from_secs(4), "{} took {:?}", name(), begun.elapsed());
            raw.ended().await.map(drop).with_context(name)
        }
    };
    let all = CALLS.iter().flat_map(|call| (0..4).map(move |part| (call, part)));
    let tried = futures_util::stream::iter(all.map(|(call, part)| one(call, part)));
    tried.buffer_unordered(64).try_collect::<Vec<_>>().await?;
    stage.left_as_before().await
}

#[tokio::test]
async fn a_kept_connection_ends_without_a_word_and_a_begun_head_with_one() -> Result<()> {
    let stage = stage().await?;
    let live = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    for side in [Side::Public, Side::Internal] {
        let mut raw = stage.raw(side).await?;
        expect(&raw.ask(live).await?, 200)?;
        ensure!(raw.ended().await?.is_empty(), "an idle client takes it for the answer to its next request");
        let mut raw = stage.raw(side).await?;
        expect(&raw.ask(live).await?, 200)?;
        expect(&raw.ask("GET /liv").await?, 408)?;
        raw.ended().await?;
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn bodies_that_trickle_in_or_stop_are_answered_in_time() -> Result<()> {
    let stage = stage().await?;
    for call in CALLS.iter().filter(|call| call.body.is_some()) {
        for chunked in [false, true] {
            let name = || format!("{} {}", call.method, call.target);
            let (about, body) = if chunked {
                ("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n".repeat(100))
            } else {
                ("Content-Length: 1000\r\n", "{".repeat(100))
            };
            let mut raw = stage.raw(call.side).await?;
            raw.send(stage.head(call, about)).await?;
            let begun = Instant::now();
            let answer = trickled(&mut raw, body.as_bytes()).await.with_context(name)?;
            expect(&answer, 408).with_context(name)?;
            ensure!(begun.elapsed() < Duration::from_secs(4), "{} took {:?}", name(), begun.elapsed());
            raw.ended().await.with_context(name)?;
        }
    }
    // A payload of a session, which ends with it.
    let open = stage
        .ask(Side::Public, "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    let said: serde_json::Value = serde_json::from_str(open.body.get(1..).unwrap_or_default())?;
    let sid = said["sid"].as_str().context("no sid")?;
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let mut raw = stage.raw(Side::Public).await?;
    raw.send(format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")).await?;
    expect_status(&trickled(&mut raw, &[b'4'; 100]).await?, 408)?;
    let after = stage.ask(Side::Public, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await?;
    expect(&after, 400)?;
    stage.left_as_before().await
}

fn expect_status(answer: &parlance_tests::Response, status: u16) -> Result<()> {
    ensure!(answer.status == status, "{answer:?}");
    Ok(())
}

/// Who reads no body answers at once, and does not wait for its end.
#[tokio::test]
async fn bodies_nobody_asked_for_hold_nothing_up() -> Result<()> {
    let stage = stage().await?;
    let unread = |call: &&Call| call.body.is_none() && !call.socket && call.method != "HEAD";
    for call in CALLS.iter().filter(unread).filter(|call| !call.target.contains("sid=")) {
        let mut raw = stage.raw(call.side).await?;
        raw.send(stage.head(call, "Content-Length: 1000000000\r\n")).await?;
        let answer = trickled(&mut raw, &[b'x'; 100]).await.with_context(|| call.target)?;
        expect_status(&answer, call.status).with_context(|| call.target)?;
        raw.ended().await.with_context(|| call.target)?;
    }
    stage.left_as_before().await
}

/// Whoever asks and asks and never takes an answer is given up.
#[tokio::test]
async fn answers_nobody_takes_are_given_up() -> Result<()> {
    let stage = stage().await?;
    let mut held = Vec::new();
    for (side, target) in [(Side::Public, "/nothing"), (Side::Internal, "/metrics"), (Side::Public, "/livez")]
    {
        let mut raw = stage.raw(side).await?;
        let many = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1_000);
        // Until the node takes no more, as its answers are not taken.
        let stuffed = async {
            while raw.send(&many).await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE * 3, stuffed).await.context("the node goes on answering nobody")?;
        held.push(raw);
    }
    stage.is_quiet().await?;
    let page = stage.gateway.internal("GET", "/metrics", None, None).await?;
    ensure!(page.body.contains("reason=\"slow_reader\""), "{}", page.body);
    drop(held);
    stage.left_as_before().await
}
