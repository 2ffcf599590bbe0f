//! Engine.IO at the real binary: what each address tells its clients, origins, and what a node that stops says
//! to those who poll.

use std::time::Duration;

use crate::support::ws::Socket;
use crate::support::{Ask, Server};
use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn gateway() -> Result<Server> {
    Ok(Server::Gateway(Box::new(Gateway::start(Options::default()).await?)))
}

fn session(path: &str, sid: &str) -> String {
    format!("{path}?EIO=4&transport=polling&sid={sid}")
}

async fn open(server: &Server, path: &str) -> Result<Value> {
    let answer = server.get(&format!("{path}?EIO=4&transport=polling")).await?.ok()?;
    Ok(serde_json::from_str(answer.strip_prefix('0').context("no open packet")?)?)
}

#[tokio::test]
async fn each_address_has_its_timings() -> Result<()> {
    let server = gateway().await?;
    for (path, interval, patience) in [
        ("/socket.io/", 25_000, 60_000),
        ("/api/socket.io/", 25_000, 60_000),
        ("/lingochat/socket.io/", 3_000, 2_000),
        ("/sechat/socket.io/", 25_000, 20_000),
    ] {
        let told = open(&server, path).await.context(path)?;
        ensure!(told["pingInterval"] == interval && told["pingTimeout"] == patience, "{path}: {told}");
        ensure!(
            told["maxPayload"] == 1_000_000 && told["upgrades"] == json!(["websocket"]),
            "{path}: {told}"
        );
        let mut socket = Socket::open(&server, &format!("{path}?EIO=4&transport=websocket")).await?;
        let told: Value = serde_json::from_str(&socket.text().await?[1..])?;
        ensure!(told["pingInterval"] == interval && told["upgrades"] == json!([]), "{path}: {told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_of_one_address_is_unknown_at_another() -> Result<()> {
    let server = gateway().await?;
    let told = open(&server, "/socket.io/").await?;
    let sid = told["sid"].as_str().context("no sid")?;
    let answer = server.get(&session("/sechat/socket.io/", sid)).await?;
    ensure!(answer.status == 400 && answer.code()? == 1, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn preflights_and_refusals_carry_what_browsers_need() -> Result<()> {
    let server = gateway().await?;
    let host = server.address().to_owned();
    let origin = format!("http://{host}");
    let headers = [("origin", origin.as_str()), ("access-control-request-method", "POST")];
    let path = "/socket.io/?EIO=4&transport=polling";
    let answer = server.ask(Ask { method: "OPTIONS", path, headers: &headers, ..Ask::default() }).await?;
    ensure!(answer.status == 204, "{answer:?}");
    ensure!(answer.header("access-control-allow-methods").is_some_and(|m| m.contains("POST")), "{answer:?}");
    for path in [path, "/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=polling&sid=x"] {
        let answer = server.ask(Ask { path, headers: &headers, ..Ask::default() }).await?;
        ensure!(answer.header("access-control-allow-origin") == Some(origin.as_str()), "{path}: {answer:?}");
        ensure!(answer.header("access-control-allow-credentials") == Some("true"), "{path}: {answer:?}");
        ensure!(answer.header("cache-control") == Some("no-store"), "{path}: {answer:?}");
    }
    let foreign = [("origin", "https://evil.example")];
    let answer = server.ask(Ask { path, headers: &foreign, ..Ask::default() }).await?;
    ensure!(answer.status == 403, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn limits_hold_on_both_transports() -> Result<()> {
    let server = gateway().await?;
    let told = open(&server, "/socket.io/").await?;
    let path = session("/socket.io/", told["sid"].as_str().context("no sid")?);
    let body = vec![b'4'; 1_000_001];
    let answer = server.ask(Ask { method: "POST", path: &path, body: &body, ..Ask::default() }).await?;
    ensure!(answer.status == 413, "{answer:?}");
    let alive = server.ask(Ask { method: "POST", path: &path, body: b"6", ..Ask::default() }).await?;
    ensure!(alive.status == 200, "{alive:?}");
    let mut socket = Socket::open(&server, "/socket.io/?EIO=4&transport=websocket").await?;
    socket.message(Message::text("4".repeat(1_000_001))).await?;
    ensure!(socket.closed().await? == Some(1009));
    Ok(())
}

#[tokio::test]
async fn a_session_moves_and_joins_on_the_way() -> Result<()> {
    let server = gateway().await?;
    let told = open(&server, "/socket.io/").await?;
    let sid = told["sid"].as_str().context("no sid")?;
    let polling = session("/socket.io/", sid);
    let mut socket = Socket::open(&server, &polling.replace("polling", "websocket")).await?;
    socket.send("2probe").await?;
    ensure!(socket.text().await? == "3probe");
    let join = Ask { method: "POST", path: &polling, body: b"40/nowhere,", ..Ask::default() };
    server.ask(join).await?.ok()?;
    socket.send("5").await?;
    ensure!(socket.text().await? == "44/nowhere,{\"message\":\"Invalid namespace\"}");
    socket.send("40/elsewhere,").await?;
    ensure!(socket.text().await? == "44/elsewhere,{\"message\":\"Invalid namespace\"}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_says_goodbye_to_those_who_poll() -> Result<()> {
    let mut server = gateway().await?;
    let told = open(&server, "/socket.io/").await?;
    let path = session("/socket.io/", told["sid"].as_str().context("no sid")?);
    let poll = server.begin(Ask { path: &path, ..Ask::default() }).await?;
    server.ask(Ask { method: "POST", path: &path, body: b"6", ..Ask::default() }).await?.ok()?;
    let mut socket = Socket::open(&server, "/socket.io/?EIO=4&transport=websocket").await?;
    socket.text().await?;
    let Server::Gateway(gateway) = &mut server else { return Ok(()) };
    let (status, answer, code) = tokio::join!(gateway.sigterm(), poll.answer(), socket.closed());
    ensure!(answer?.ok()?.ends_with('1'));
    ensure!(code? == Some(1012));
    ensure!(status?.success());
    Ok(())
}

#[tokio::test]
async fn a_client_that_joins_nothing_in_time_is_closed() -> Result<()> {
    let config = r#"
        [[mounts]]
        name = "brief"
        path = "/socket.io/"
        framing = "socketio"
        dialect = "famly"
        connect_timeout_ms = 300
        messages = { limit = 10, window_ms = 1000 }
    "#;
    let server = Server::Gateway(Box::new(Gateway::start(Options::default().config(config)).await?));
    let mut socket = Socket::open(&server, "/socket.io/?EIO=4&transport=websocket").await?;
    let begin = std::time::Instant::now();
    socket.closed().await?;
    ensure!(begin.elapsed() > Duration::from_millis(250), "{:?}", begin.elapsed());
    let told = open(&server, "/socket.io/").await?;
    let path = session("/socket.io/", told["sid"].as_str().context("no sid")?);
    ensure!(server.get(&path).await?.ok()?.ends_with('1'));
    Ok(())
}
