//! ChatGenius: who is let in, where, what they are told first, and how everybody else is turned away.

use std::process::Command;
use std::time::Duration;

use crate::support::*;
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::has_only;
use parlance_tests::io::{Came, Told, event};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{ConnectOptions, Gateway, IoClient, SECRET, Stock, Transports, token};
use serde_json::{Value, json};
use tokio::time::Instant;

fn error(text: &str) -> Value {
    json!({ "error": text, "reason": "auth_error", "reconnectAttempt": 1 })
}

#[tokio::test]
async fn connection_success_names_the_user_and_the_channels_and_the_socket_is_in_them() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for id in ["one", "two", "three"] {
        channel(&gateway, id, &["alice", "bob"]).await?;
    }
    channel(&gateway, "of-others", &["bob", "carol"]).await?;
    for transports in Transports::ALL {
        let alice = stock.connect(gateway.address(), options(transports, "alice")?)?;
        let mut success = expect(&alice, "connection:success").await?;
        has_only(&success, &["userId", "channels"])?;
        success["channels"].as_array_mut().map(|c| c.sort_by_key(Value::to_string)).unwrap_or_default();
        assert_eq!(success, json!({ "userId": "alice", "channels": ["one", "three", "two"] }));
        let bob = connect(&stock, &gateway, "bob").await?;
        for id in ["of-others", "one", "two", "three"] {
            let content = format!("into {id} {transports:?}");
            done(&bob, "message:send", json!({ "content": content, "channelId": id })).await?;
        }
        let (_, before) = until_said(&alice, &format!("into three {transports:?}")).await?;
        assert_eq!(of(&before, "message:created").len(), 2, "of her own channels alone: {before:?}");
        alice.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_user_without_channels_is_let_in_with_none() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let alice = stock.connect(gateway.address(), options(Transports::Websocket, "alice")?)?;
    let success = expect(&alice, "connection:success").await?;
    assert_eq!(success, json!({ "userId": "alice", "channels": [] }));
    Ok(())
}

#[tokio::test]
async fn a_channel_that_is_made_later_is_heard_without_joining() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let alice = connect(&stock, &gateway, "alice").await?;
    let bob = connect(&stock, &gateway, "bob").await?;
    channel(&gateway, "room", &["alice", "bob"]).await?;
    // The invitation goes round on its own: whoever writes before it has arrived is not heard live.
    let mut n = 0;
    while alice.assert_none("message:created").await.is_ok() && n < 1_000 {
        n += 1;
        ask(&bob, "message:send", json!({ "content": "hi", "channelId": "room" })).await?;
        done(&alice, "typing:stop", json!({ "channelId": "room" })).await?;
    }
    assert_eq!(expect(&alice, "message:created").await?["message"]["channelId"], "room");
    Ok(())
}

#[tokio::test]
async fn the_token_counts_with_bearer_and_without_and_user_id_may_be_absent() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let token = token("alice")?;
    let bearer = format!("Bearer {token}");
    let nothing = || ConnectOptions::new(Transports::Polling).path(PATH);
    for (how, options) in [
        ("bearer", nothing().auth(json!({ "token": bearer, "userId": "alice" }))),
        ("lower case", nothing().auth(json!({ "token": format!("bearer {token}") }))),
        ("bare", nothing().auth(json!({ "token": token }))),
        ("query", nothing().query("token", &token)),
        ("query with bearer", nothing().query("token", &bearer)),
        ("header", nothing().header("Authorization", &bearer)),
    ] {
        let socket = stock.connect(gateway.address(), options)?;
        assert_eq!(expect(&socket, "connection:success").await?["userId"], "alice", "{how}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_token_is_told_as_user_not_authenticated_after_a_connect_that_succeeds() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for auth in
        [Value::Null, json!({ "token": "" }), json!({ "token": "Bearer " }), json!({ "userId": "alice" })]
    {
        let socket = stock.connect(gateway.address(), with_auth(Transports::Websocket, auth.clone()))?;
        assert_eq!(turned_away(&socket).await?, error("User not authenticated"), "{auth}");
    }
    Ok(())
}

/// Over polling the words and the end of the connection travel in one answer, unless the server takes care.
#[tokio::test]
async fn a_refusal_is_heard_whole_and_in_order_on_every_transport() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for transports in Transports::ALL {
        let socket = stock.connect(gateway.address(), with_auth(transports, Value::Null))?;
        let told = turned_away(&socket).await.with_context(|| format!("{transports:?}"))?;
        assert_eq!(told, error("User not authenticated"), "{transports:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_invalid_token_is_told_as_auth_error() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let claims = json!({ "sub": "alice", "exp": expiry(Duration::from_secs(60)) });
    let forged = sign(&claims, "another-secret-of-at-least-32-bytes!!")?;
    let endless = sign(&json!({ "sub": "alice" }), SECRET)?;
    let nobody = sign(&json!({ "exp": expiry(Duration::from_secs(60)) }), SECRET)?;
    for token in ["nonsense".to_owned(), "a.b.c".to_owned(), forged, endless, nobody] {
        let auth = json!({ "token": format!("Bearer {token}"), "userId": "alice" });
        let socket = stock.connect(gateway.address(), with_auth(Transports::Websocket, auth))?;
        assert_eq!(turned_away(&socket).await?, error("Invalid token"), "{token}");
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_token_is_told_as_auth_error() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let old = sign(&json!({ "sub": "alice", "exp": 1_000_000_000 }), SECRET)?;
    let auth = json!({ "token": format!("Bearer {old}"), "userId": "alice" });
    let socket = stock.connect(gateway.address(), with_auth(Transports::Websocket, auth))?;
    assert_eq!(turned_away(&socket).await?, error("Token expired"));
    Ok(())
}

#[tokio::test]
async fn a_user_id_that_is_not_the_tokens_subject_is_told_as_user_id_mismatch() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let auth = json!({ "token": format!("Bearer {}", token("alice")?), "userId": "bob" });
    let socket = stock.connect(gateway.address(), with_auth(Transports::Websocket, auth))?;
    assert_eq!(turned_away(&socket).await?, error("User ID mismatch"));
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_40_then_connection_error_then_41_then_the_end_and_never_44() -> Result<()> {
    let gateway = gateway().await?;
    for auth in ["", "{}", r#"{"token":"Bearer x","userId":"alice"}"#, r#"{"token":7}"#] {
        let mut io = IoClient::open(&gateway.url(PATH)).await?;
        io.send(&[format!("40{auth}")]).await?;
        let (came, _) = io.rest().await?;
        let [Came::Packet(connected), Came::Event(Told { name, args }), Came::Packet(gone)] = &came[..]
        else {
            anyhow::bail!("{auth}: {came:?}")
        };
        ensure!(connected.starts_with(r#"40{"sid":""#) && gone == "41", "{auth}: {came:?}");
        ensure!(name == "connection:error" && args.len() == 1, "{auth}: {came:?}");
        ensure!(args[0]["reason"] == "auth_error" && args[0]["reconnectAttempt"] == 1, "{came:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_socket_that_was_turned_away_may_come_back_with_a_good_token() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let socket = stock.connect(gateway.address(), with_auth(Transports::Websocket, Value::Null))?;
    turned_away(&socket).await?;
    // The stock client stays away after a DISCONNECT until it is told otherwise.
    socket.reconnect()?;
    turned_away(&socket).await?;
    connect(&stock, &gateway, "alice").await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_on_a_live_socket_is_told_and_ends_it() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let short = sign(&json!({ "sub": "alice", "exp": expiry(Duration::from_secs(1)) }), SECRET)?;
    let options = with_auth(Transports::Websocket, json!({ "token": short })).reconnection(false);
    let alice = stock.connect(gateway.address(), options)?;
    expect(&alice, "connection:success").await?;
    assert_eq!(expect(&alice, "connection:error").await?, error("Token expired"));
    alice.expect_disconnect().await?;
    Ok(())
}

#[tokio::test]
async fn the_path_and_the_namespace_lead_to_the_same_channels() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    let auth =
        |user| Ok::<_, anyhow::Error>(json!({ "token": format!("Bearer {}", token(user)?), "userId": user }));
    for transports in Transports::ALL {
        let by_path = over(&stock, &gateway, "alice", transports).await?;
        // As the document has it: `io('ws://…/api/socket.io')`.
        let options = ConnectOptions::new(transports).namespace("/api/socket.io").auth(auth("bob")?);
        let by_namespace = stock.connect(gateway.address(), options)?;
        let success = expect(&by_namespace, "connection:success").await?;
        assert_eq!(success, json!({ "userId": "bob", "channels": ["room"] }));
        for (from, to) in [(&by_path, &by_namespace), (&by_namespace, &by_path)] {
            let content = format!("{transports:?}");
            done(from, "message:send", json!({ "content": content, "channelId": "room" })).await?;
            for socket in [from, to] {
                until_said(socket, &content).await?;
            }
        }
        by_path.disconnect()?;
        by_namespace.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn famly_and_chatgenius_live_on_one_connection_at_the_same_time() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    let token = token("alice")?;
    for transports in Transports::ALL {
        let famly = ConnectOptions::new(transports).auth(json!({ "token": token }));
        let famly = stock.connect(gateway.address(), famly)?;
        famly.expect_connect().await?;
        let auth = json!({ "token": format!("Bearer {token}"), "userId": "alice" });
        let options = ConnectOptions::new(transports).namespace("/api/socket.io").auth(auth);
        let chatgenius = stock.connect_over(&famly, gateway.address(), options)?;
        expect(&chatgenius, "connection:success").await?;
        let joined = famly.emit_ack("room:join", &[json!({ "chatId": "room" })]).await?;
        assert_eq!(joined[0]["ok"], true, "{joined:?}");

        let content = format!("from chatgenius {transports:?}");
        done(&chatgenius, "message:send", json!({ "content": content, "channelId": "room" })).await?;
        until_said(&chatgenius, &content).await?;
        assert_eq!(famly.expect("message:new").await?[0]["body"], content.as_str());
        let content = format!("from famly {transports:?}");
        let send = json!({ "chatId": "room", "body": content, "clientId": format!("c-{transports:?}") });
        let sent = famly.emit_ack("message:send", &[send]).await?;
        assert_eq!(sent[0]["ok"], true, "{sent:?}");
        until_said(&chatgenius, &content).await?;
        // Each namespace hears its own words alone.
        famly.assert_none("message:created").await?;
        chatgenius.assert_none("message:new").await?;

        // Leaving one leaves the other where it is.
        chatgenius.disconnect()?;
        let joined = famly.emit_ack("room:join", &[json!({ "chatId": "room" })]).await?;
        assert_eq!(joined[0]["ok"], true, "{joined:?}");
        famly.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn an_auth_error_in_one_namespace_is_told_there() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let famly = ConnectOptions::new(Transports::Websocket).auth(json!({ "token": token("alice")? }));
    let famly = stock.connect(gateway.address(), famly)?;
    famly.expect_connect().await?;
    let options = ConnectOptions::new(Transports::Websocket).namespace("/api/socket.io");
    let chatgenius = stock.connect_over(&famly, gateway.address(), options)?;
    assert_eq!(turned_away(&chatgenius).await?, error("User not authenticated"));
    famly.assert_none("connection:error").await?;
    Ok(())
}

#[tokio::test]
async fn the_open_packet_has_the_documented_ping_settings_on_both_addresses() -> Result<()> {
    let gateway = gateway().await?;
    for path in [PATH, "/socket.io/"] {
        let open = IoClient::open(&gateway.url(path)).await?.handshake;
        has_only(&open, &["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"])?;
        assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(60_000)), "{path}");
        assert_eq!((&open["upgrades"], &open["maxPayload"]), (&json!([]), &json!(1_000_000)), "{path}");
        let polled = format!("{path}?EIO=4&transport=polling");
        let polled = gateway.public("GET", &polled, None).await?.body;
        let polled: Value = serde_json::from_str(polled.strip_prefix('0').unwrap_or_default())?;
        assert_eq!((&polled["pingInterval"], &polled["pingTimeout"]), (&json!(25_000), &json!(60_000)));
        assert_eq!(polled["upgrades"], json!(["websocket"]));
    }
    Ok(())
}

/// What it means is shown below, with less of it.
#[tokio::test]
async fn the_shipped_connect_timeout_is_ten_seconds() -> Result<()> {
    // The node itself is not asked: it only makes sure that the program is built.
    gateway().await?;
    let own = std::env::current_exe()?;
    let binary = own.ancestors().nth(2).context("outside a target folder")?.join("parlance");
    let printed = Command::new(binary).arg("default-config").output()?;
    let printed = String::from_utf8(printed.stdout)?;
    let mut mounts =
        printed.split("[[mounts]]").filter(|mount| mount.contains("\npath = \"/api/socket.io/\"\n"));
    let mount = mounts.next().context("no such mount")?;
    ensure!(mount.contains("\nconnect_timeout_ms = 10000\n"), "{mount}");
    Ok(())
}

#[tokio::test]
async fn whoever_joined_no_namespace_within_the_connect_timeout_is_closed_and_whoever_did_stays() -> Result<()>
{
    let gateway = Gateway::start(mount("connect_timeout_ms = 600")).await?;
    let mut member = IoClient::open(&gateway.url(PATH)).await?;
    member.join(&json!({ "token": token("alice")? })).await?;
    let mut guest = IoClient::open(&gateway.url(PATH)).await?;
    let opened = Instant::now();
    let (came, _) = guest.rest().await?;
    ensure!(came.is_empty(), "{came:?}");
    ensure!(opened.elapsed() < Duration::from_secs(5), "{:?}", opened.elapsed());
    // Opened before the guest, and so past its own time by now.
    member.send(&[event(Some(0), "message:read", &[json!({})])]).await?;
    member.expect("connection:success").await?;
    ensure!(matches!(member.came().await?, Came::Ack(0, _)));
    Ok(())
}
