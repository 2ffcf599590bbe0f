//! The cases of Engine.IO's protocol test-suite, at our framing layer and at the reference.

use crate::support::ws::Socket;
use crate::support::{Ask, PING_INTERVAL, PING_TIMEOUT, Server, Timing, at, both};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn check_open(packet: &str, upgrades: Value) -> Result<()> {
    let open: Value = serde_json::from_str(packet.strip_prefix('0').context("no open packet")?)?;
    let fields = open.as_object().context("no object")?;
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    ensure!(names == ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"], "{names:?}");
    ensure!(open["sid"].as_str().is_some_and(|sid| sid.len() >= 20), "{open}");
    ensure!(open["upgrades"] == upgrades, "{open}");
    ensure!(open["pingInterval"] == 300 && open["pingTimeout"] == 200, "{open}");
    ensure!(open["maxPayload"] == 1_000_000, "{open}");
    Ok(())
}

/// Runs a case at both servers.
macro_rules! at_both {
    ($(#[doc = $doc:literal])* $name:ident, |$server:ident| $case:block) => {
        $(#[doc = $doc])*
        #[tokio::test]
        async fn $name() -> Result<()> {
            for server in both(Timing::Suite).await? {
                let $server = &server;
                let case = async { $case; Ok::<(), anyhow::Error>(()) };
                at($server, case.await)?;
            }
            Ok(())
        }
    };
}

at_both!(a_polling_session_opens, |server| {
    let answer = server.get(&server.path("polling", None)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(answer.header("content-type") == Some("text/plain; charset=UTF-8"), "{answer:?}");
    ensure!(answer.header("cache-control") == Some("no-store"), "{answer:?}");
    check_open(answer.text()?, json!(["websocket"]))?;
});

at_both!(handshakes_that_are_none_are_refused, |server| {
    for (method, query, code) in [
        ("GET", "transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", "", 0),
        ("POST", "EIO=4&transport=polling", 2),
        ("PUT", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=4&transport=polling&sid=abc", 1),
        ("POST", "EIO=4&transport=polling&sid=abc", 1),
        ("GET", "EIO=4&transport=websocket&sid=abc", 1),
        ("GET", "EIO=4&transport=polling&sid=a&sid=b", 1),
    ] {
        let path = format!("/engine.io/?{query}");
        let answer = server.ask(Ask { method, path: &path, ..Ask::default() }).await?;
        ensure!(answer.status == 400, "{method} {query}: {answer:?}");
        ensure!(answer.code()? == code, "{method} {query}: {}", answer.text()?);
        ensure!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    }
});

at_both!(a_websocket_session_opens, |server| {
    let mut socket = Socket::open(server, &server.path("websocket", None)).await?;
    check_open(&socket.text().await?, json!([]))?;
});

at_both!(websocket_handshakes_that_are_none_are_refused_before_the_101, |server| {
    for query in ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"] {
        let opened = Socket::try_open(server, &format!("/engine.io/?{query}")).await?;
        // The reference looks at the version only after its 101, and writes the refusal behind it.
        ensure!(opened.as_ref().err() == Some(&400) || !server.is_ours(), "{query}");
        if let Ok(mut socket) = opened {
            socket.closed().await?;
        }
    }
    let opened = Socket::try_open(server, &server.path("websocket", Some("abc"))).await?;
    ensure!(opened.err() == Some(400), "an unknown sid");
});

at_both!(posted_packets_come_back_with_the_next_poll, |server| {
    for payload in ["4hello", "4test1\u{1e}4test2\u{1e}4test3", "4hello\u{1e}bAQIDBA=="] {
        let sid = server.open().await?;
        let answer = server.post(&sid, payload).await?;
        ensure!(answer.header("content-type") == Some("text/html"), "{answer:?}");
        ensure!(answer.ok()? == "ok");
        ensure!(server.poll(&sid).await?.ok()? == payload);
    }
});

at_both!(a_malformed_payload_ends_the_session, |server| {
    let sid = server.open().await?;
    let posted = server.post(&sid, "abc").await;
    // The reference cuts the connection.
    ensure!(!server.is_ours() || posted.is_ok_and(|answer| answer.status == 400));
    let after = server.poll(&sid).await?;
    ensure!(after.status == 400 && after.code()? == 1, "{after:?}");
});

at_both!(a_second_poll_beside_the_first_ends_the_session, |server| {
    let sid = server.open().await?;
    let first = server.begin_poll(&sid).await?;
    // The first has arrived when a third request was answered.
    server.post(&sid, "6").await?.ok()?;
    let second = server.poll(&sid).await?;
    ensure!(second.status == 400, "{second:?}");
    ensure!(first.answer().await?.ok()? == "1");
    ensure!(server.poll(&sid).await?.status == 400);
});

at_both!(messages_come_back_over_a_websocket, |server| {
    let mut socket = Socket::session(server).await?;
    socket.send("4hello").await?;
    ensure!(socket.text().await? == "4hello");
    socket.message(Message::binary(vec![1, 2, 3, 4])).await?;
    ensure!(socket.next().await? == Some(Message::binary(vec![1, 2, 3, 4])));
});

at_both!(a_malformed_packet_closes_the_websocket, |server| {
    for packet in ["abc", "", "9"] {
        let mut socket = Socket::session(server).await?;
        socket.send(packet).await?;
        socket.closed().await.with_context(|| format!("after {packet:?}"))?;
    }
});

at_both!(pings_are_answered_over_polling, |server| {
    let sid = server.open().await?;
    for _ in 0..3 {
        ensure!(server.poll(&sid).await?.ok()? == "2");
        server.post(&sid, "3").await?.ok()?;
    }
});

at_both!(a_polling_session_without_pongs_ends, |server| {
    let sid = server.open().await?;
    tokio::time::sleep(PING_INTERVAL + PING_TIMEOUT).await;
    ensure!(server.poll(&sid).await?.status == 400);
});

at_both!(pings_are_answered_over_a_websocket, |server| {
    let mut socket = Socket::session(server).await?;
    for _ in 0..3 {
        ensure!(socket.text().await? == "2");
        socket.send("3").await?;
    }
});

at_both!(a_websocket_without_pongs_is_closed, |server| {
    let mut socket = Socket::session(server).await?;
    let opened = std::time::Instant::now();
    socket.closed().await?;
    let after = opened.elapsed();
    let whole = PING_INTERVAL + PING_TIMEOUT;
    ensure!(after > whole - PING_TIMEOUT / 4 && after < whole * 3, "closed after {after:?}");
});

at_both!(a_close_packet_ends_a_polling_session, |server| {
    let sid = server.open().await?;
    let poll = server.begin_poll(&sid).await?;
    server.post(&sid, "6").await?.ok()?;
    server.post(&sid, "1").await?.ok()?;
    ensure!(poll.answer().await?.ok()? == "6");
    ensure!(server.poll(&sid).await?.status == 400);
});

at_both!(a_close_packet_closes_the_websocket, |server| {
    let mut socket = Socket::session(server).await?;
    socket.send("1").await?;
    socket.closed().await?;
});

async fn probed(server: &Server, sid: &str) -> Result<Socket> {
    let mut socket = Socket::for_session(server, sid).await?;
    socket.send("2probe").await?;
    let answer = socket.text().await?;
    ensure!(answer == "3probe", "{answer}");
    Ok(socket)
}

at_both!(a_polling_session_moves_to_a_websocket, |server| {
    let sid = server.open().await?;
    let mut socket = probed(server, &sid).await?;
    ensure!(server.poll(&sid).await?.ok()? == "6", "the poll is to be released");
    socket.send("5").await?;
    socket.send("4hello").await?;
    ensure!(socket.message_text().await? == "4hello");
});

at_both!(after_the_move_http_requests_are_refused, |server| {
    let sid = server.open().await?;
    let mut socket = probed(server, &sid).await?;
    socket.send("5").await?;
    socket.send("4moved").await?;
    ensure!(socket.message_text().await? == "4moved");
    for answer in [server.poll(&sid).await?, server.post(&sid, "4late").await?] {
        ensure!(answer.status == 400 && answer.code()? == 3, "{answer:?}");
    }
    socket.send("4hello").await?;
    ensure!(socket.message_text().await? == "4hello");
});

at_both!(after_the_move_another_websocket_is_closed_and_the_first_unharmed, |server| {
    let sid = server.open().await?;
    let mut socket = probed(server, &sid).await?;
    socket.send("5").await?;
    let mut second = Socket::for_session(server, &sid).await?;
    second.closed().await?;
    socket.send("4hello").await?;
    ensure!(socket.message_text().await? == "4hello");
});

at_both!(a_move_that_does_not_wait_is_a_move, |server| {
    let sid = server.open().await?;
    let mut socket = Socket::for_session(server, &sid).await?;
    socket.send("2probe").await?;
    socket.send("5").await?;
    ensure!(socket.text().await? == "3probe");
    socket.send("4hello").await?;
    ensure!(socket.message_text().await? == "4hello");
    ensure!(server.poll(&sid).await?.status == 400);
});
