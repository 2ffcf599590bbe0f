//! The cases of Socket.IO's protocol test-suite, at our framing layer and at the reference; and what else ends
//! a Socket.IO connection.

use crate::support::ws::Socket;
use crate::support::{Echo, Server, at};
use anyhow::{Context, Result, ensure};
use parlance_tests::{ConnectOptions, Reference, Stock, Transports, binary};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const OPEN: &str = "/socket.io/?EIO=4&transport=websocket";

async fn both() -> Result<Vec<Server>> {
    let flags = ["--ping-interval", "25000", "--ping-timeout", "20000", "--connect-timeout", "1000"];
    let options = json!({ "connectTimeout": 1000 });
    Ok(vec![Server::Ours(Echo::start(&flags)?), Server::Reference(Reference::start(options).await?)])
}

/// Runs a case at both servers.
macro_rules! at_both {
    ($name:ident, |$server:ident| $case:block) => {
        #[tokio::test]
        async fn $name() -> Result<()> {
            for server in both().await? {
                let $server = &server;
                let case = async {
                    $case;
                    Ok::<(), anyhow::Error>(())
                };
                at($server, case.await)?;
            }
            Ok(())
        }
    };
}

/// A WebSocket session that has joined nothing yet.
async fn opened(server: &Server) -> Result<Socket> {
    let mut socket = Socket::open(server, OPEN).await?;
    ensure!(socket.text().await?.starts_with('0'));
    Ok(socket)
}

/// One that has joined `/`.
async fn joined(server: &Server) -> Result<Socket> {
    let mut socket = opened(server).await?;
    join(&mut socket, "40", "").await?;
    Ok(socket)
}

/// Joins and returns what the server was told.
async fn join(socket: &mut Socket, packet: &str, namespace: &str) -> Result<String> {
    socket.send(packet).await?;
    let answer = socket.text().await?;
    let sid = answer.strip_prefix(&format!("40{namespace}")).with_context(|| answer.clone())?;
    let sid: Value = serde_json::from_str(sid)?;
    ensure!(sid.as_object().is_some_and(|fields| fields.len() == 1) && sid["sid"].is_string(), "{answer}");
    socket.text().await
}

at_both!(namespaces_are_joined_with_and_without_a_payload, |server| {
    for (packet, namespace, auth) in [
        ("40", "", "42[\"auth\",{}]"),
        ("40{\"token\":\"123\"}", "", "42[\"auth\",{\"token\":\"123\"}]"),
        ("40/custom,", "/custom,", "42/custom,[\"auth\",{}]"),
        ("40/custom", "/custom,", "42/custom,[\"auth\",{}]"),
        ("40/custom,{\"token\":\"abc\"}", "/custom,", "42/custom,[\"auth\",{\"token\":\"abc\"}]"),
    ] {
        let mut socket = opened(server).await?;
        ensure!(join(&mut socket, packet, namespace).await? == auth, "{packet}");
    }
});

at_both!(an_unknown_namespace_is_refused_and_another_may_follow, |server| {
    let mut socket = opened(server).await?;
    for namespace in ["/random", "/custom?token=abc"] {
        socket.send(&format!("40{namespace}")).await?;
        ensure!(socket.text().await? == format!("44{namespace},{{\"message\":\"Invalid namespace\"}}"));
    }
    join(&mut socket, "40/custom", "/custom,").await?;
});

at_both!(a_client_that_joins_nothing_is_closed, |server| {
    let mut socket = opened(server).await?;
    let begin = std::time::Instant::now();
    socket.closed().await?;
    let after = begin.elapsed().as_millis();
    ensure!((900..3_000).contains(&after), "closed after {after} ms");
    // One that has joined stays.
    let mut socket = joined(server).await?;
    socket.silent(std::time::Duration::from_millis(1_500)).await?;
});

at_both!(leaving_one_namespace_leaves_the_other, |server| {
    let mut socket = joined(server).await?;
    join(&mut socket, "40/custom", "/custom,").await?;
    socket.send("41/custom,").await?;
    socket.send("42[\"message\",\"to main\"]").await?;
    ensure!(socket.text().await? == "42[\"message-back\",\"to main\"]");
    // And it may be joined again.
    join(&mut socket, "40/custom,", "/custom,").await?;
    socket.send("42/custom,[\"message\",1]").await?;
    ensure!(socket.text().await? == "42/custom,[\"message-back\",1]");
});

at_both!(events_come_back, |server| {
    let mut socket = joined(server).await?;
    socket.send("42[\"message\",1,\"2\",{\"3\":[true]}]").await?;
    ensure!(socket.text().await? == "42[\"message-back\",1,\"2\",{\"3\":[true]}]");
    let data = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    socket.send(&format!("452-[\"message\",{data}]")).await?;
    socket.message(Message::binary(vec![1, 2, 3])).await?;
    socket.message(Message::binary(vec![4, 5, 6])).await?;
    ensure!(socket.text().await? == format!("452-[\"message-back\",{data}]"));
    ensure!(socket.next().await? == Some(Message::binary(vec![1, 2, 3])));
    ensure!(socket.next().await? == Some(Message::binary(vec![4, 5, 6])));
});

at_both!(events_are_acknowledged, |server| {
    let mut socket = joined(server).await?;
    for id in [0, 456, u32::MAX] {
        socket.send(&format!("42{id}[\"message-with-ack\",1,\"2\",{{\"3\":[false]}}]")).await?;
        ensure!(socket.text().await? == format!("43{id}[1,\"2\",{{\"3\":[false]}}]"));
    }
    let data = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    socket.send(&format!("452-789[\"message-with-ack\",{data}]")).await?;
    socket.message(Message::binary(vec![1, 2, 3])).await?;
    socket.message(Message::binary(vec![4, 5, 6])).await?;
    ensure!(socket.text().await? == format!("462-789[{data}]"));
    ensure!(socket.next().await? == Some(Message::binary(vec![1, 2, 3])));
    ensure!(socket.next().await? == Some(Message::binary(vec![4, 5, 6])));
});

at_both!(packets_no_client_may_send_close_the_connection, |server| {
    let many = format!("4511-[\"message\"{}]", r#",{"_placeholder":true,"num":0}"#.repeat(11));
    for (before, packet) in [
        (false, "4abc"),
        (false, "42[\"message\"]"),
        (false, "430[]"),
        (false, "41"),
        (true, "40"),
        (true, "4abc"),
        (true, "47"),
        (true, "42{}"),
        (true, "42[]"),
        (true, "42[\"message\""),
        (true, "42[\"connect\"]"),
        (true, "42[\"connect_error\"]"),
        (true, "42[\"disconnect\"]"),
        (true, "42[\"disconnecting\"]"),
        (true, "42[\"newListener\"]"),
        (true, "42[\"removeListener\"]"),
        (true, "44{\"message\":\"x\"}"),
        (true, many.as_str()),
        (true, "42/custom,[\"message\"]"),
    ] {
        let mut socket = if before { joined(server).await? } else { opened(server).await? };
        socket.send(packet).await?;
        socket.closed().await.with_context(|| format!("after {packet}"))?;
    }
});

at_both!(binary_out_of_place_closes_the_connection, |server| {
    let mut socket = joined(server).await?;
    socket.message(Message::binary(vec![1])).await?;
    socket.closed().await.context("unannounced")?;
    let mut socket = joined(server).await?;
    socket.send("451-[\"message\",{\"_placeholder\":true,\"num\":0}]").await?;
    socket.send("42[\"message\",1]").await?;
    socket.closed().await.context("a text while attachments are due")?;
    let mut socket = joined(server).await?;
    socket.send("451-[\"message\",{\"_placeholder\":true,\"num\":7}]").await?;
    socket.message(Message::binary(vec![1])).await?;
    socket.closed().await.context("a placeholder without attachment")?;
});

at_both!(an_ack_nobody_awaits_is_ignored, |server| {
    let mut socket = joined(server).await?;
    socket.send("43999[1]").await?;
    socket.send("42[\"message\",2]").await?;
    ensure!(socket.text().await? == "42[\"message-back\",2]");
});

#[tokio::test]
async fn the_stock_client_on_every_transport() -> Result<()> {
    let server = Echo::start(&["--ping-interval", "1000", "--ping-timeout", "1000"])?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let options = ConnectOptions::new(transports).auth(json!({ "token": "t" }));
        let socket = stock.connect(server.address(), options)?;
        socket.expect_connect().await?;
        ensure!(socket.expect("auth").await?[0] == json!({ "token": "t" }));
        let args = [json!(1), json!({ "deep": [binary(&[0, 1, 255])] }), json!("é"), Value::Null];
        for _ in 0..20 {
            socket.emit("message", &args)?;
            ensure!(socket.expect("message-back").await? == args, "{transports:?}");
            ensure!(socket.emit_ack("message-with-ack", &args).await? == args, "{transports:?}");
        }
        if transports == Transports::Upgrade {
            ensure!(socket.expect_upgrade().await? == "websocket");
        }
        ensure!(socket.emit_ack("message-with-ack", &args).await? == args, "{transports:?}");
    }
    Ok(())
}
