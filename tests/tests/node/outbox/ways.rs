//! Ways to the stream: by Sentinels that name another primary meanwhile, and over TLS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use parlance_redis_rig::{Kind, Sentinels, Server, Setup, port};
use parlance_tests::metrics::Samples;
use parlance_tests::{Gateway, Options, PATIENCE, papers};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::places::until_logged;
use super::{STREAM, add, bodies, length, of_stream, said, until_empty};

const PLACES: usize = 3;
/// Messages before a failover, and as many behind it.
const SOME: usize = 60;

/// Writes an event at whichever server is the primary, until so many replicas have it too. One of which that is not known is
/// repeated with its key.
async fn write(sentinels: &Sentinels, n: usize, replicas: &str) -> Result<()> {
    let (key, place) = (format!("m-{n}"), format!("c-{}", n % PLACES));
    let body = json!({ "senderId": "alice", "body": n.to_string() }).to_string();
    let event =
        ["XADD", STREAM, "*", "key", &key, "call", "message", "target", &place, "body", body.as_str()];
    let once = async || -> Result<()> {
        let mut primary = sentinels.server(sentinels.primary().await?).operator().await?;
        primary.command(&event).await?;
        let have = primary.command(&["WAIT", replicas, "1000"]).await?;
        ensure!(have.as_str() >= replicas, "{have} replicas have it");
        Ok(())
    };
    let end = Instant::now() + PATIENCE * 3;
    loop {
        match timeout(PATIENCE, once()).await? {
            Ok(()) => return Ok(()),
            Err(why) => ensure!(Instant::now() < end, "{why}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn write_all(sentinels: &Sentinels, from: usize, replicas: &str) -> Result<()> {
    for n in from..from + SOME {
        write(sentinels, n, replicas).await?;
    }
    Ok(())
}

async fn until_published(sentinels: &Sentinels) -> Result<()> {
    let primary = timeout(PATIENCE, sentinels.primary()).await??;
    until_empty(sentinels.server(primary)).await
}

#[tokio::test]
async fn a_stream_under_sentinels_is_published_once_and_in_order_over_failovers() -> Result<()> {
    let (mut sentinels, shared) = (Sentinels::start().await?, Server::standalone().await?);
    let (address, url) = (sentinels.url(), shared.url());
    let environment = [("PARLANCE_OUTBOX_STREAM", STREAM), ("PARLANCE_OUTBOX_REDIS_URL", address.as_str())];
    let options = || {
        let named = [environment[0], environment[1], ("PARLANCE_REDIS_URL", &url)];
        named.iter().fold(Options::default(), |options, (name, value)| options.env(name, value))
    };
    let nodes = [Gateway::start(options()).await?, Gateway::start(options()).await?];
    for at in 0..PLACES {
        nodes[0].conversation(&format!("c-{at}"), &["alice"]).await?;
    }
    write_all(&sentinels, 0, "2").await?;
    // The primary is well and has to go; it is written to meanwhile.
    let (heir, written) = tokio::join!(sentinels.failover(), write_all(&sentinels, SOME, "2"));
    let (old, ()) = (heir?, written?);
    until_published(&sentinels).await?;
    // It dies with events in it that it has not published, and with what it has forgotten to say of others.
    sentinels.wait_ok().await?;
    write_all(&sentinels, 2 * SOME, "1").await?;
    ensure!(sentinels.kill_primary().await? == old);
    let (heir, written) = tokio::join!(sentinels.wait_failover(old), write_all(&sentinels, 3 * SOME, "1"));
    ensure!(heir? != old);
    written?;
    write_all(&sentinels, 4 * SOME, "1").await?;
    until_published(&sentinels).await?;
    for (at, node) in (0..PLACES).flat_map(|at| nodes.iter().map(move |node| (at, node))) {
        let expected: Vec<String> = (0..5 * SOME).skip(at).step_by(PLACES).map(|n| n.to_string()).collect();
        let bodies = bodies(node, &format!("c-{at}")).await?;
        ensure!(bodies == expected, "{bodies:?}");
    }
    // The command finds the new primary, too.
    ensure!(said(&["status"], &environment)?.starts_with("stream: waiting: 0\n"));
    Ok(())
}

/// A server that speaks TLS besides, for `localhost`, and only to who shows a certificate; and its port for that.
async fn encrypted(papers: &Path) -> Result<(Server, u16)> {
    let paper = |name: &str| papers.join(name).display().to_string();
    for _ in 0..10 {
        let port = port::free()?;
        let setup = Setup::new(Kind::Plain)
            .set("tls-port", &port.to_string())
            .set("tls-cert-file", &paper("server.pem"))
            .set("tls-key-file", &paper("server.key"))
            .set("tls-ca-cert-file", &paper("ca.pem"));
        // Another process may take the port first.
        if let Ok(server) = Server::start(setup).await {
            return Ok((server, port));
        }
    }
    bail!("no server with TLS")
}

#[tokio::test]
async fn over_tls_events_are_published_by_who_is_trusted_and_trusts() -> Result<()> {
    let folder = TempDir::new()?;
    papers::write(folder.path())?;
    let paper = |name: &str| folder.path().join(name).display().to_string();
    let (server, port) = encrypted(folder.path()).await?;
    let url = format!("rediss://localhost:{port}");
    let trusting = |ca: &str| of_stream(&server).env("PARLANCE_REDIS_CA_FILE", &paper(ca));
    let with = |options: Options| {
        let shown = options.env("PARLANCE_REDIS_CERT_FILE", &paper("client.pem"));
        shown.env("PARLANCE_REDIS_KEY_FILE", &paper("client.key")).env("PARLANCE_OUTBOX_REDIS_URL", &url)
    };
    let body = json!({ "senderId": "alice", "body": "one" });
    add(&server, "message", Some("c"), Some(&body)).await?;
    add(&server, "message", Some("nowhere"), Some(&body)).await?;
    for (options, why) in [
        (with(trusting("stranger.pem")), "invalid peer certificate"),
        (trusting("ca.pem").env("PARLANCE_OUTBOX_REDIS_URL", &url), "asks for a client certificate"),
    ] {
        let node = Gateway::start(options).await?;
        node.conversation("c", &["alice"]).await?;
        until_logged(&node, "the outbox cannot be read").await?;
        ensure!(node.log().contains(why), "{}", node.log());
    }
    ensure!(length(&server, STREAM).await? == 2);
    let node = Gateway::start(with(trusting("ca.pem"))).await?;
    node.conversation("nowhere", &["alice"]).await?;
    node.conversation("c", &["alice"]).await?;
    until_empty(&server).await?;
    ensure!(bodies(&node, "c").await?.len() + bodies(&node, "nowhere").await?.len() > 0);
    let (ca, cert, key) = (paper("ca.pem"), paper("client.pem"), paper("client.key"));
    let environment = [
        ("PARLANCE_OUTBOX_STREAM", STREAM),
        ("PARLANCE_OUTBOX_REDIS_URL", url.as_str()),
        ("PARLANCE_REDIS_CA_FILE", &ca),
        ("PARLANCE_REDIS_CERT_FILE", &cert),
        ("PARLANCE_REDIS_KEY_FILE", &key),
    ];
    let back = said(&["retry"], &environment)?;
    ensure!(back.starts_with("stream: tried again: "), "{back}");
    until_empty(&server).await?;
    ensure!(bodies(&node, "c").await? == ["one"] && bodies(&node, "nowhere").await? == ["one"]);
    let page = Samples::of(&node).await?;
    let published = page.sum("parlance_app_outbox_events_total", &[("outcome", "published")]);
    ensure!(published == 2.0, "{published}");
    Ok(())
}
