//! A backend that is away, slow or hostile: closed unless the operator says otherwise, and not asked again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use parlance_tests::metrics::{Samples, total};
use parlance_tests::tongue::auth;
use parlance_tests::{Gateway, IoClient, Map, Options};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{asking, sechat_message, turned_away};
use crate::backend::{Backend, http, no, yes};

/// Nobody is there.
const GONE: &str = "[authoriser]\nurl = \"http://127.0.0.1:1/\"\n";
/// Often enough that nothing is held back.
const PATIENT: &str = "breaker_failures = 1000\n";

async fn outcome(gateway: &Gateway, outcome: &str) -> Result<f64> {
    let samples = Samples::of(gateway).await?;
    Ok(samples.sum("parlance_authoriser_questions_total", &[("outcome", outcome)]))
}

#[tokio::test]
async fn without_an_answer_nobody_may_and_everybody_is_told_to_try_again() -> Result<()> {
    let gateway = Gateway::start(Options::brief().config(&format!("{GONE}{PATIENT}"))).await?;
    for tongue in &Map::load()?.tongues {
        if tongue.socketio {
            let mut client = IoClient::open(&gateway.url(&tongue.mount)).await?;
            client.send(&[format!("40{}", auth(tongue, "alice")?)]).await?;
            // Cut off, as a stock client comes back from by itself; one that is refused would not.
            ensure!(client.closed().await? == Some(1013), "{}", tongue.name);
        } else {
            let (status, body) = turned_away(&gateway, &tongue.mount, "alice").await?;
            ensure!(status == 503 && body["code"] == "INTERNAL_ERROR", "{}: {status} {body}", tongue.name);
        }
    }
    let log = gateway.log();
    ensure!(log.matches("the authoriser does not answer").count() == 1, "the change is told, once: {log}");
    Ok(())
}

#[tokio::test]
async fn where_the_operator_prefers_it_everybody_may_without_an_answer() -> Result<()> {
    let config = format!("{GONE}{PATIENT}on_failure = \"allow\"\n");
    let gateway = Gateway::start(Options::brief().config(&config)).await?;
    gateway.conversation("room", &["alice"]).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    alice.send(&sechat_message("m-1", "room", &[])).await?;
    alice.expect("message:acked").await?;
    alice.send(&sechat_message("m-2", "new", &["bob"])).await?;
    alice.expect("message:acked").await?;
    ensure!(outcome(&gateway, "failed").await? >= 3.0);
    Ok(())
}

#[tokio::test]
async fn a_slow_backend_is_waited_for_no_longer_than_configured() -> Result<()> {
    let backend = Backend::start(|question| if question["action"] == "send" { None } else { yes() }).await?;
    let gateway = Gateway::start(asking(&backend, &format!("timeout_ms = 300\n{PATIENT}"))).await?;
    gateway.conversation("room", &["alice"]).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    let begun = Instant::now();
    alice.send(&sechat_message("m-1", "room", &[])).await?;
    let refused = alice.expect("error").await?;
    let took = begun.elapsed();
    ensure!(
        refused["code"] == "SERVICE_UNAVAILABLE" && refused["details"]["retryAfterMs"] == 1000,
        "{refused}"
    );
    ensure!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    ensure!(outcome(&gateway, "failed").await? == 1.0);
    Ok(())
}

#[tokio::test]
async fn what_is_no_clear_word_is_no_answer() -> Result<()> {
    let backend = Backend::start(|_| yes()).await?;
    let elsewhere = Backend::start(|_| yes()).await?;
    let gateway = Gateway::start(asking(&backend, &format!("cache_entries = 0\n{PATIENT}"))).await?;
    gateway.connect("/ws", "alice").await?;
    let to = elsewhere.url();
    let redirect =
        format!("HTTP/1.1 307 Go\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let huge = format!("{{\"allow\":true,\"x\":\"{}\"}}", "x".repeat(100_000));
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(64)
    );
    let cut =
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{\"allow\":true}".to_owned();
    let heads = format!("HTTP/1.1 200 OK\r\n{}\r\n{{\"allow\":true}}", "x-more: 1\r\n".repeat(2000));
    let answers = [
        ("a redirect", Some(redirect)),
        ("much more than a word", http(200, &huge)),
        ("without an end", Some(endless)),
        ("cut off", Some(cut)),
        ("many heads", Some(heads)),
        ("no HTTP", Some("yes\r\n".to_owned())),
        (
            "another protocol",
            Some("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned()),
        ),
        ("no JSON", http(200, "true!")),
        ("no word", http(200, "{}")),
        ("a text", http(200, r#"{"allow":"true"}"#)),
        ("twice", http(200, r#"{"allow":true,"allow":true}"#)),
        ("forbidden", http(403, r#"{"allow":true}"#)),
        ("broken", http(500, r#"{"allow":true}"#)),
    ];
    for (what, answer) in answers {
        backend.decide(move |_| answer.clone());
        let (status, body) = turned_away(&gateway, "/ws", "alice").await.context(what)?;
        ensure!(status == 503, "{what}: {status} {body}");
    }
    ensure!(elsewhere.asked().is_empty(), "nobody goes where a redirect points");
    backend.decide(|_| no("a\r\nreason"));
    let (status, body) = turned_away(&gateway, "/ws", "alice").await?;
    ensure!((status, &body["error"]) == (403, &json!("a  reason")), "{status} {body}");
    Ok(())
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_left_alone_and_tried_again() -> Result<()> {
    let backend = Backend::start(|_| http(500, "")).await?;
    let options = "breaker_failures = 3\nbreaker_open_ms = 1500\ncache_entries = 0";
    let gateway = Gateway::start(asking(&backend, options)).await?;
    for _ in 0..8 {
        ensure!(turned_away(&gateway, "/ws", "alice").await?.0 == 503);
    }
    ensure!(backend.asked().len() == 3, "{}", backend.asked().len());
    ensure!(outcome(&gateway, "breaker").await? == 5.0);
    ensure!(total(&gateway, "parlance_authoriser_breaker_open").await? == 1.0);
    backend.decide(|_| yes());
    let back = async {
        while turned_away(&gateway, "/ws", "alice").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), back).await.context("never asked again")?;
    ensure!(backend.asked().len() == 4, "one question tries: {}", backend.asked().len());
    ensure!(total(&gateway, "parlance_authoriser_breaker_open").await? == 0.0);
    gateway.connect("/ws", "alice").await?;
    Ok(())
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_configured() -> Result<()> {
    let backend = Backend::start(|_| yes()).await?;
    backend.hold();
    let options = asking(&backend, &format!("max_in_flight = 2\ntimeout_ms = 60000\n{PATIENT}"));
    let gateway = Gateway::start(options).await?;
    let users: Vec<String> = (0..6).map(|n| format!("user-{n}")).collect();
    let connected = join_all(users.iter().map(|user| gateway.connect("/ws", user)));
    let released = async {
        let asked = backend.until_asked(2).await;
        backend.release();
        asked
    };
    let (connected, asked) = tokio::join!(connected, released);
    asked?;
    for connected in connected {
        connected?;
    }
    ensure!(backend.asked().len() == 6 && backend.most_at_once() == 2, "{}", backend.most_at_once());
    Ok(())
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_by_name() -> Result<()> {
    for (toml, says) in [
        ("[authoriser]\nurl = \"http://app.example/\"", "authoriser.url: must be https://"),
        (
            "[authoriser]\nurl = \"https://app.example/\"\nsecret = \"short\"",
            "authoriser.secret: a secret must",
        ),
        ("[authoriser]\nsecret_file = \"/nowhere\"", "authoriser.secret_file: cannot read"),
        (
            "[authoriser]\nurl = \"https://app.example/\"\ntimeout_ms = 0",
            "authoriser.timeout_ms: must not be 0",
        ),
        ("[authoriser]\nactions = [\"read\"]", "unknown variant `read`"),
        ("[authoriser]\non_failure = \"maybe\"", "unknown variant `maybe`"),
        (
            "[[mounts]]\nname = \"a\"\npath = \"/a\"\ndialect = \"sechat\"\nmembership = \"callback\"",
            "mounts (a): membership callback needs",
        ),
    ] {
        let Err(error) = Gateway::start(Options::brief().config(toml)).await else {
            anyhow::bail!("it starts with {toml}")
        };
        let log = format!("{error:#}");
        ensure!(log.contains(says), "{toml}: {log}");
    }
    Ok(())
}
