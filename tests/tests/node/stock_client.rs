//! The stock clients of the tests, tried on the reference server: what fails here is the harness, not Parlance.

use anyhow::{Result, ensure};
use parlance_tests::http::Request;
use parlance_tests::stock::Report;
use parlance_tests::{ConnectOptions, Reference, Stock, StockSocket, Transports, binary};
use serde_json::{Value, json};

fn options(transports: Transports) -> ConnectOptions {
    ConnectOptions::new(transports).auth(json!({ "token": "t" }))
}

/// A connected socket, on the transport it is to stay on.
async fn connected(stock: &Stock, server: &Reference, transports: Transports) -> Result<StockSocket> {
    let socket = stock.connect(server.address(), options(transports))?;
    let connected = socket.expect_connect().await?;
    ensure!(!connected.recovered && !connected.sid.is_empty(), "{connected:?}");
    match transports {
        Transports::Websocket => ensure!(connected.transport == "websocket", "{connected:?}"),
        Transports::Polling => ensure!(connected.transport == "polling", "{connected:?}"),
        Transports::Upgrade => ensure!(socket.expect_upgrade().await? == "websocket", "{connected:?}"),
    }
    ensure!(socket.expect("auth").await?[0] == json!({ "token": "t" }), "the auth was not passed on");
    Ok(socket)
}

#[tokio::test]
async fn echo_acknowledgement_and_binary_on_every_transport() -> Result<()> {
    let server = Reference::start(json!({})).await?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let socket = connected(&stock, &server, transports).await?;
        let args = [json!(1), json!({ "deep": [binary(&[0, 1, 255])] }), json!("é"), Value::Null];
        socket.emit("message", &args)?;
        assert_eq!(socket.expect("message-back").await?, args, "{transports:?}");
        assert_eq!(socket.emit_ack("message-with-ack", &args).await?, args, "{transports:?}");
        socket.emit("ask", &[json!("how?")])?;
        let question = socket.expect_event("question").await?;
        assert_eq!(question.args, [json!("how?")]);
        socket.answer(question.ack.unwrap_or_default(), &[json!("so")])?;
        assert_eq!(socket.expect("answered").await?, [json!("so")]);
        socket.emit("disconnect-me", &[])?;
        assert_eq!(socket.expect_disconnect().await?, "io server disconnect");
        assert_eq!(socket.queued().await?, [], "{transports:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_broken_connection_is_recovered_with_what_was_missed() -> Result<()> {
    let server = Reference::start(json!({ "connectionStateRecovery": {} })).await?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let socket = connected(&stock, &server, transports).await?;
        let other = connected(&stock, &server, Transports::Websocket).await?;
        socket.emit_ack("join", &[json!("room")]).await?;
        other.emit_ack("publish", &[json!("room"), json!("before")]).await?;
        assert_eq!(socket.expect("published").await?[0], "before");
        socket.drop_transport()?;
        let reason = socket.expect_disconnect().await?;
        assert!(["transport close", "transport error"].contains(&reason.as_str()), "{reason}");
        other.emit_ack("publish", &[json!("room"), json!("meanwhile")]).await?;
        assert!(socket.expect_connect().await?.recovered, "{transports:?}");
        assert_eq!(socket.expect("published").await?[0], "meanwhile", "{transports:?}");
        let again = |report: &Report| matches!(report, Report::ReconnectAttempt { .. });
        assert!(socket.queued().await?.iter().any(again));
        socket.assert_none("auth").await?;
        socket.disconnect()?;
        assert_eq!(socket.expect_disconnect().await?, "io client disconnect");
    }
    Ok(())
}

#[tokio::test]
async fn closing_the_engine_reconnects_without_recovery_when_there_is_none() -> Result<()> {
    let server = Reference::start(json!({ "path": "/elsewhere/" })).await?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let socket = stock.connect(server.address(), options(transports).path("/elsewhere"))?;
        let first = socket.expect_connect().await?;
        socket.close_engine()?;
        assert_eq!(socket.expect_disconnect().await?, "forced close");
        let second = socket.expect_connect().await?;
        assert!(!second.recovered && second.sid != first.sid, "{second:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_by_the_server() -> Result<()> {
    let server = Reference::start(json!({ "pingInterval": 100, "pingTimeout": 100 })).await?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let socket = connected(&stock, &server, transports).await?;
        socket.pause()?;
        // A stock client gives up by itself when it hears no ping, as one that was cut off must.
        assert_eq!(socket.expect_disconnect().await?, "ping timeout", "{transports:?}");
        socket.expect_connect().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_sent_to_a_paused_client_arrives_when_it_reads_on() -> Result<()> {
    let server = Reference::start(json!({})).await?;
    let stock = Stock::start()?;
    for transports in [Transports::Websocket, Transports::Polling] {
        let socket = connected(&stock, &server, transports).await?;
        let other = connected(&stock, &server, Transports::Websocket).await?;
        socket.emit_ack("join", &[json!("room")]).await?;
        socket.pause()?;
        // The poll that was out when the client paused takes one of them along; the other must wait.
        for number in 1..=2 {
            other.emit_ack("publish", &[json!("room"), json!(number)]).await?;
        }
        socket.resume()?;
        assert_eq!(socket.expect("published").await?, [json!(1)], "{transports:?}");
        assert_eq!(socket.expect("published").await?, [json!(2)], "{transports:?}");
    }
    Ok(())
}

#[tokio::test]
async fn refusals_show_what_refused() -> Result<()> {
    let server = Reference::start(json!({})).await?;
    let stock = Stock::start()?;
    for transports in Transports::ALL {
        let refused = stock.connect(server.address(), options(transports).namespace("/refused"))?;
        let refusal = refused.expect_refusal().await?;
        assert_eq!(
            (refusal.message.as_str(), refusal.data),
            ("not authorized", Some(json!({ "code": 401 })))
        );
        let unknown = stock.connect(server.address(), options(transports).namespace("/nowhere"))?;
        assert_eq!(unknown.expect_connect_error().await?, "Invalid namespace");
    }
    let wrong = options(Transports::Polling).path("/wrong").reconnection(false);
    let refusal = stock.connect(server.address(), wrong)?.expect_refusal().await?;
    assert_eq!((refusal.message.as_str(), refusal.status), ("xhr poll error", Some(404)));
    Ok(())
}

#[tokio::test]
async fn namespaces_share_a_connection() -> Result<()> {
    let server = Reference::start(json!({})).await?;
    let stock = Stock::start()?;
    let main = connected(&stock, &server, Transports::Polling).await?;
    let over = options(Transports::Polling).namespace("/custom");
    let custom = stock.connect_over(&main, server.address(), over)?;
    custom.expect_connect().await?;
    assert_eq!(custom.expect("auth").await?[0], json!({ "token": "t" }));
    // One connection: when it breaks, both are disconnected.
    main.drop_transport()?;
    main.expect_disconnect().await?;
    custom.expect_disconnect().await?;
    custom.expect_connect().await?;
    Ok(())
}

#[tokio::test]
async fn silence_is_broken_by_what_must_not_come() -> Result<()> {
    let server = Reference::start(json!({})).await?;
    let stock = Stock::start()?;
    let socket = connected(&stock, &server, Transports::Polling).await?;
    socket.assert_silent_over("message-back", "message-with-ack", &[]).await?;
    socket.emit("message", &[])?;
    assert!(socket.assert_silent_over("message-back", "message-with-ack", &[]).await.is_err());
    assert!(socket.assert_none("message-back").await.is_err(), "what broke the silence is still there");
    socket.expect("message-back").await?;
    socket.emit("ask", &[])?;
    socket.assert_silent("message-back", "question").await?;
    Ok(())
}

#[tokio::test]
async fn a_process_that_dies_is_reported_with_its_log() -> Result<()> {
    let stock = Stock::start()?;
    let socket = stock.connect("127.0.0.1:1", options(Transports::Websocket).reconnection(false))?;
    assert_eq!(socket.expect_connect_error().await?, "websocket error");
    // There is no such question, and the driver does not survive such a mistake of a test.
    socket.answer(1, &[])?;
    let error = format!("{:#}", socket.expect("anything").await.unwrap_err());
    assert!(error.contains("driver.mjs"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_bare_engine_opens_a_session_at_its_path_alone() -> Result<()> {
    let server = Reference::engine(json!({ "pingInterval": 300, "maxHttpBufferSize": 1000 })).await?;
    let ask = async |path: &str| {
        Request { address: server.address(), method: "GET", path, bearer: None, body: None }.send().await
    };
    let opened = ask("/engine.io/?EIO=4&transport=polling").await?;
    let handshake: Value = serde_json::from_str(opened.body.strip_prefix('0').unwrap_or_default())?;
    assert_eq!((&handshake["pingInterval"], &handshake["maxPayload"]), (&json!(300), &json!(1000)));
    assert_eq!(ask("/socket.io/?EIO=4&transport=polling").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn python_echo_and_acknowledgement_on_every_transport() -> Result<()> {
    let Some(stock) = Stock::python()? else { return Ok(()) };
    let server = Reference::start(json!({})).await?;
    for transports in Transports::ALL {
        let socket = stock.connect(server.address(), options(transports))?;
        let connected = socket.expect_connect().await?;
        let expected = if transports == Transports::Polling { "polling" } else { "websocket" };
        assert_eq!((connected.transport.as_str(), connected.recovered), (expected, false), "{transports:?}");
        assert_eq!(socket.expect("auth").await?[0], json!({ "token": "t" }));
        let args = [json!(1), json!({ "deep": [binary(&[0, 1, 255])] }), json!("é"), Value::Null];
        socket.emit("message", &args)?;
        assert_eq!(socket.expect("message-back").await?, args, "{transports:?}");
        assert_eq!(socket.emit_ack("message-with-ack", &args).await?, args, "{transports:?}");
        socket.drop_transport()?;
        socket.expect_disconnect().await?;
        assert_ne!(socket.expect_connect().await?.sid, connected.sid);
        socket.disconnect()?;
        socket.expect_disconnect().await?;
    }
    let refused = stock.connect(server.address(), options(Transports::Upgrade).namespace("/refused"))?;
    assert_eq!(refused.expect_connect_error().await?, "not authorized");
    Ok(())
}
