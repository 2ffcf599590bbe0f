//! What breaks a polling session and what does not; large, slow and cancelled requests.

use std::io::Read;
use std::time::Duration;

use crate::support::ws::Socket;
use crate::support::{Ask, SEPARATOR, Server, Timing, at, both, ours, until};
use anyhow::{Result, ensure};
use tokio_tungstenite::tungstenite::Message;

const CALM: [&str; 4] = ["--ping-interval", "25000", "--ping-timeout", "20000"];

fn calm(more: &[&str]) -> Result<Server> {
    ours(&[&CALM[..], more].concat())
}

async fn is_gone(server: &Server, sid: &str) -> Result<bool> {
    // A poll would wait: a refused version is told only of a session that exists.
    let path = format!("/engine.io/?EIO=4&transport=polling&sid={sid}");
    let answer = server.ask(Ask { method: "PUT", path: &path, ..Ask::default() }).await?;
    Ok(answer.status == 400 && answer.code().is_ok_and(|code| code == 1))
}

#[tokio::test]
async fn a_cancelled_poll_ends_the_session() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let poll = server.begin_poll(&sid).await?;
        server.post(&sid, "6").await?.ok()?;
        ensure!(!is_gone(&server, &sid).await?);
        drop(poll);
        at(&server, until("the session ends", async || is_gone(&server, &sid).await).await)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_posted_before_a_cancelled_poll_is_still_heard() -> Result<()> {
    // Its messages come back to nobody; that they were taken shows in the answer to the POST. They are fewer than what the
    // echo keeps for a poll before it stops reading.
    let server = calm(&[])?;
    let sid = server.open().await?;
    let poll = server.begin_poll(&sid).await?;
    let all = vec!["4x"; 250].join("\u{1e}");
    let (posted, ()) = tokio::join!(server.post(&sid, &all), async { drop(poll) });
    let status = posted?.status;
    ensure!(status == 200 || status == 400, "{status}");
    // A poll that came behind the POST was answered, not cancelled: then another one is.
    let ended = until("the session ends", async || {
        drop(server.begin_poll(&sid).await?);
        is_gone(&server, &sid).await
    });
    ended.await?;
    server.settle(0).await
}

#[tokio::test]
async fn a_second_post_beside_the_first_ends_the_session() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let first = server.begin_post(&sid, "4ha", 5).await?;
        ensure!(server.post(&sid, "6").await?.status == 400);
        at(&server, until("the session ends", async || is_gone(&server, &sid).await).await)?;
        drop(first);
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_post_ends_the_session() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        drop(server.begin_post(&sid, "4ha", 5).await?);
        at(&server, until("the session ends", async || is_gone(&server, &sid).await).await)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_payload_beyond_the_limit_is_refused_and_the_session_lives() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        for size in [1_000_001, 1_900_000] {
            let answer = server.post(&sid, &"4".repeat(size)).await?;
            ensure!(answer.status == 413, "{size}: {}", answer.status);
            if !server.is_ours() {
                // The reference goes on reading and forgets that it has answered.
                break;
            }
        }
        at(&server, server.post(&sid, "4hello").await?.ok())?;
        ensure!(server.poll(&sid).await?.ok()? == "4hello");
        let largest = "4".repeat(1_000_000);
        server.post(&sid, &largest).await?.ok()?;
        ensure!(server.poll(&sid).await?.ok()? == largest);
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_message_beyond_the_limit_closes_with_1009() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let mut socket = Socket::session(&server).await?;
        let largest = format!("4{}", "x".repeat(999_999));
        socket.send(&largest).await?;
        ensure!(socket.text().await? == largest);
        socket.message(Message::text("4".repeat(1_000_001))).await?;
        ensure!(socket.closed().await? == Some(1009));
    }
    Ok(())
}

#[tokio::test]
async fn a_payload_that_does_not_arrive_in_time_is_given_up() -> Result<()> {
    let server = calm(&["--body-timeout", "200"])?;
    let sid = server.open().await?;
    ensure!(server.begin_post(&sid, "4ha", 5).await?.answer().await?.status == 408);
    server.settle(0).await
}

#[tokio::test]
async fn binary_payloads_and_bad_utf8_end_the_session() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let path = server.path("polling", Some(&sid));
        let headers = [("content-type", "application/octet-stream")];
        let post = Ask { method: "POST", path: &path, headers: &headers, body: b"4x", ..Ask::default() };
        ensure!(server.ask(post).await?.status == 400);
        at(&server, until("the session ends", async || is_gone(&server, &sid).await).await)?;
    }
    let server = calm(&[])?;
    let sid = server.open().await?;
    let path = server.path("polling", Some(&sid));
    let post = Ask { method: "POST", path: &path, body: b"4\xff\xfe", ..Ask::default() };
    ensure!(server.ask(post).await?.status == 400);
    server.settle(0).await
}

#[tokio::test]
async fn a_client_that_pings_ends_its_session() -> Result<()> {
    for server in both(Timing::Calm).await? {
        for packet in ["2", "2probe"] {
            let sid = server.open().await?;
            let _ = server.post(&sid, packet).await;
            at(&server, until("the session ends", async || is_gone(&server, &sid).await).await)?;
            let mut socket = Socket::session(&server).await?;
            socket.send(packet).await?;
            socket.closed().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn packets_that_mean_nothing_change_nothing() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        server.post(&sid, "6\u{1e}5\u{1e}0{}\u{1e}3\u{1e}3probe\u{1e}6x").await?.ok()?;
        server.post(&sid, "4a").await?.ok()?;
        ensure!(server.poll(&sid).await?.ok()? == "4a");
    }
    Ok(())
}

#[tokio::test]
async fn what_precedes_a_malformed_packet_counts() -> Result<()> {
    let server = calm(&[])?;
    let sid = server.open().await?;
    let poll = server.begin_poll(&sid).await?;
    server.post(&sid, "6").await?.ok()?;
    ensure!(server.post(&sid, "4a\u{1e}x\u{1e}4b").await?.status == 400);
    let answer = poll.answer().await?.ok()?;
    ensure!(answer == "4a" || answer == "1", "{answer}");
    server.settle(0).await
}

#[tokio::test]
async fn only_a_pong_answers_a_ping() -> Result<()> {
    for server in both(Timing::Suite).await? {
        let mut socket = Socket::session(&server).await?;
        let mut pings = 0;
        // Messages put the end off once per ping, no more.
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if socket.send("4x").await.is_err() {
                break;
            }
        }
        while let Some(message) = socket.next().await? {
            pings += usize::from(message == Message::text("2"));
        }
        ensure!(pings == 1, "{pings} pings");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_stops_polling_is_forgotten() -> Result<()> {
    let server = ours(&[])?;
    for _ in 0..20 {
        server.open().await?;
    }
    server.settle(20).await?;
    server.settle(0).await
}

#[tokio::test]
async fn thousands_of_sessions_leave_nothing_behind() -> Result<()> {
    let server = ours(&["--ping-interval", "2000", "--ping-timeout", "500"])?;
    for _ in 0..1_000 {
        server.open().await?;
    }
    server.settle(0).await
}

#[tokio::test]
async fn sessions_are_counted_and_limited() -> Result<()> {
    let server = calm(&["--max-sessions", "2"])?;
    let sid = server.open().await?;
    server.open().await?;
    let answer = server.get(&server.path("polling", None)).await?;
    ensure!(answer.status == 503 && answer.header("retry-after") == Some("5"), "{answer:?}");
    ensure!(answer.code()? == "UNAVAILABLE", "a full node is no policy: {answer:?}");
    server.post(&sid, "1").await?.ok()?;
    server.settle(1).await?;
    server.open().await?;
    Ok(())
}

#[tokio::test]
async fn large_answers_are_compressed_as_the_client_likes() -> Result<()> {
    for server in both(Timing::Calm).await? {
        let sid = server.open().await?;
        let path = server.path("polling", Some(&sid));
        let message = format!("4{}", "é1".repeat(2_000));
        for (accept, coding) in [
            ("gzip, deflate, br", Some("gzip")),
            ("deflate", Some("deflate")),
            ("gzip;q=0.1, deflate;q=0.9", Some("deflate")),
            ("br", None),
            ("identity", None),
        ] {
            server.post(&sid, &message).await?.ok()?;
            let headers = [("accept-encoding", accept)];
            let answer = server.ask(Ask { path: &path, headers: &headers, ..Ask::default() }).await?;
            ensure!(answer.header("content-encoding") == coding, "{accept}: {:?}", answer.headers);
            ensure!(answer.header("content-type") == Some("text/plain; charset=UTF-8"));
            ensure!(unpacked(coding, &answer.body)? == message, "{accept}");
        }
        server.post(&sid, "4small").await?.ok()?;
        let headers = [("accept-encoding", "gzip")];
        let answer = server.ask(Ask { path: &path, headers: &headers, ..Ask::default() }).await?;
        ensure!(answer.header("content-encoding").is_none(), "{:?}", answer.headers);
        // Several small messages make a large answer.
        server.post(&sid, &vec!["4twelve bytes"; 100].join(&SEPARATOR.to_string())).await?.ok()?;
        let answer = server.ask(Ask { path: &path, headers: &headers, ..Ask::default() }).await?;
        ensure!(answer.header("content-encoding") == Some("gzip"), "{:?}", answer.headers);
    }
    Ok(())
}

fn unpacked(coding: Option<&str>, body: &[u8]) -> Result<String> {
    let mut text = String::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text)?,
        Some(_) => flate2::read::ZlibDecoder::new(body).read_to_string(&mut text)?,
        None => return Ok(String::from_utf8(body.to_vec())?),
    };
    Ok(text)
}

#[tokio::test]
async fn garbage_harms_nobody_else() -> Result<()> {
    let server = calm(&[])?;
    let sid = server.open().await?;
    for garbage in ["\u{1e}", "b", "b=", "b\u{1e}b", "4\u{1e}", "é", "\0", "4\u{1e}\u{1e}4", "99", "b!!!!é"]
    {
        let other = server.open().await?;
        let _ = server.post(&other, garbage).await;
        let mut socket = Socket::session(&server).await?;
        socket.send(garbage).await?;
        let _ = socket.send("1").await;
        socket.closed().await?;
    }
    server.post(&sid, "4still here").await?.ok()?;
    ensure!(server.poll(&sid).await?.ok()? == "4still here");
    Ok(())
}
