//! ChatGenius, and SeChat beside it: what Socket.IO allows, packet by packet, at the mounts as they are shipped.

use crate::support::gateway;
use anyhow::{Context, Result, ensure};
use parlance_tests::io::{Came, event};
use parlance_tests::{Gateway, IoClient, token};
use serde_json::{Value, json};

const PATHS: [&str; 2] = ["/api/socket.io/", "/sechat/socket.io/"];

/// A session that has joined `/`, and has heard what there is to hear at first.
async fn joined(gateway: &Gateway, path: &str) -> Result<IoClient> {
    let mut io = IoClient::open(&gateway.url(path)).await?;
    io.join(&json!({ "token": token("alice")? })).await?;
    if path == PATHS[0] {
        io.expect("connection:success").await?;
    }
    alive(&mut io, 77).await.map(|()| io)
}

/// The connection answers.
async fn alive(io: &mut IoClient, id: u64) -> Result<()> {
    io.send(&[event(Some(id), "presence:ping", &[json!({})])]).await?;
    loop {
        match io.came().await? {
            Came::Ack(acked, _) if acked == id => return Ok(()),
            Came::Event(..) => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
}

/// The connection ends without a further packet.
async fn ends(io: &mut IoClient) -> Result<()> {
    let (came, _) = io.rest().await?;
    ensure!(!came.iter().any(|came| matches!(came, Came::Packet(_) | Came::Ack(..))), "{came:?}");
    Ok(())
}

#[tokio::test]
async fn an_event_an_ack_or_a_disconnect_before_connect_closes_the_connection() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        for packet in [event(None, "presence:ping", &[json!({})]), "430[]".to_owned(), "41".to_owned()] {
            let mut io = IoClient::open(&gateway.url(path)).await?;
            io.send(std::slice::from_ref(&packet)).await?;
            ends(&mut io).await.with_context(|| format!("{path} {packet}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn packets_no_client_may_send_close_the_connection() -> Result<()> {
    let gateway = gateway().await?;
    let many = format!("4511-[\"message:send\"{}]", r#",{"_placeholder":true,"num":0}"#.repeat(11));
    for path in PATHS {
        for packet in [
            "40",
            "40{}",
            "47",
            "49[]",
            "4abc",
            "42{}",
            "42[]",
            "42[\"message:send\"",
            "42[\"connect\"]",
            "42[\"connect_error\"]",
            "42[\"disconnect\"]",
            "42[\"disconnecting\"]",
            "42[\"newListener\"]",
            "42[\"removeListener\"]",
            "42/elsewhere,[\"message:send\",{}]",
            "44{\"message\":\"x\"}",
            &many,
        ] {
            let mut io = joined(&gateway, path).await?;
            io.send(&[packet]).await?;
            ends(&mut io).await.with_context(|| format!("{path} {packet:.40}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn binary_out_of_place_closes_the_connection() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = joined(&gateway, path).await?;
        io.send_binary(&[1]).await?;
        ends(&mut io).await.context("unannounced")?;
        let mut io = joined(&gateway, path).await?;
        let announced = r#"451-["message:send",{"_placeholder":true,"num":0}]"#.to_owned();
        io.send(&[announced, event(None, "presence:ping", &[json!({})])]).await?;
        ends(&mut io).await.context("a text while attachments are due")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_ack_with_an_unknown_id_is_ignored_and_ack_id_zero_is_answered() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = joined(&gateway, path).await?;
        io.send(&["43999[1]", "430[]"]).await?;
        alive(&mut io, 0).await?;
        alive(&mut io, u64::from(u32::MAX)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_packet_with_an_ack_id_is_answered_once_and_none_without() -> Result<()> {
    let gateway = gateway().await?;
    let events = [
        "message:send",
        "channel:join",
        "channel:leave",
        "typing:start",
        "typing",
        "reaction:add",
        "message:read",
        "message:received",
        "receipt:read",
        "presence:update",
        "presence:ping",
        "register_session",
        "request_queued_events",
        "send_message",
        "nonsense",
    ];
    for path in PATHS {
        let mut io = joined(&gateway, path).await?;
        let mut packets = Vec::new();
        for (n, name) in (0..).zip(events) {
            packets.push(event(None, name, &[json!({})]));
            packets.push(event(Some(n), name, &[json!({})]));
        }
        packets.push(event(Some(99), "nonsense", &[json!({})]));
        io.send(&packets).await?;
        let mut acks = Vec::new();
        while acks.len() <= events.len() {
            match io.came().await? {
                Came::Ack(id, args) => {
                    ensure!(args.len() == 1 && args[0].is_object(), "{args:?}");
                    acks.push(id);
                }
                Came::Event(..) => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        acks.sort_unstable();
        let expected: Vec<u64> = (0..).take(events.len()).chain([99]).collect();
        assert_eq!(acks, expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_asking() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = joined(&gateway, path).await?;
        let packets: Vec<String> = (0..100).map(|n| event(Some(n), "nonsense", &[json!({})])).collect();
        io.send(&packets).await?;
        let mut acks = Vec::new();
        while acks.len() < packets.len() {
            if let Came::Ack(id, _) = io.came().await? {
                acks.push(id);
            }
        }
        ensure!(acks.is_sorted(), "{path}: {acks:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_and_another_connect_may_follow() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = IoClient::open(&gateway.url(path)).await?;
        io.send(&["40/random,{}"]).await?;
        let refusal = r#"44/random,{"message":"Invalid namespace"}"#.to_owned();
        assert_eq!(io.came().await?, Came::Packet(refusal));
        io.join(&json!({ "token": token("alice")? })).await?;
        alive(&mut io, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_leaves_the_namespace_may_join_it_again_on_the_same_connection() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = joined(&gateway, path).await?;
        io.send(&["41"]).await?;
        io.join(&json!({ "token": token("bob")? })).await?;
        alive(&mut io, 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_ids_of_engine_and_socket_are_two_and_the_secret_one_is_long_and_url_safe() -> Result<()> {
    let gateway = gateway().await?;
    for path in PATHS {
        let mut io = IoClient::open(&gateway.url(path)).await?;
        let secret = io.handshake["sid"].as_str().context("no sid")?.to_owned();
        ensure!(secret.len() >= 20, "{secret}");
        ensure!(secret.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{secret}");
        io.send(&[format!("40{}", json!({ "token": token("alice")? }))]).await?;
        let Came::Packet(packet) = io.came().await? else { anyhow::bail!("not connected") };
        let connected: Value = serde_json::from_str(packet.strip_prefix("40").unwrap_or_default())?;
        let (sid, pid) = (connected["sid"].as_str(), connected["pid"].as_str());
        ensure!(sid.is_some() && sid != Some(&secret) && pid.is_some() && pid != sid, "{packet}");
    }
    Ok(())
}
