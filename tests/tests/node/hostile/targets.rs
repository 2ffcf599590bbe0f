//! Targets and methods: addresses that look like others, ids that are none, methods an address does not have.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::calls::{METHODS, Side, Who};
use super::stage::{Setting, Stage, expect};

/// Paths that are not normalised into one that is served: nothing is there.
const NOWHERE: &[&str] = &[
    "//livez",
    "/./livez",
    "/x/../livez",
    "/livez/",
    "/livez/..",
    "/livez/%2e%2e",
    "/%6civez",
    "/livez%00",
    "/livez%0a",
    "/livez;a=b",
    "/LIVEZ",
    "/livez%3f",
    "/%ff",
    "/%",
    "/%zz",
    "/..%2f..%2fetc/passwd",
    "/socket.io/../ws",
    "/socket.io/%2e%2e/ws",
    "/socket.io//",
    "/socket.io/x",
    "/socket.io%2f",
    "//socket.io/",
    "/ws/",
    "/ws%20",
    "/sechat/..",
    "/sechat//socket.io/",
    "/api/v1/realtime/poll/",
    "/api/v1/realtime//poll",
    "/v1/chats/c1/messages/",
    "/v1/chats/c1/x/../messages",
    "/v1/chats//c1/messages",
    "/api/v1/conversations/c1",
    "/metrics",
    "/readyz",
    "/openapi.json",
    "/internal/engine/socket.io/",
    "*",
    "x:80",
];

/// Ids that name nothing, in the place of a conversation's or user's.
const NO_IDS: &[&str] = &[
    "%00",
    "%ff",
    "%c0%ae",
    "%2e%2e%2f",
    "a%2fb",
    "a%20b",
    "%20",
    "a%0d%0ab",
    "%e2%80%ae",
    "c1%00",
    "c1%20",
    "%",
    "%zz",
    "a+b",
    "a,b",
    "%7b%7d",
];

#[tokio::test]
async fn a_path_is_what_it_says_and_nothing_else() -> Result<()> {
    let stage = Stage::plain().await?;
    for path in NOWHERE {
        let known = stage.credentials(Who::Alice);
        let get = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{known}\r\n");
        let answer = stage.ask(Side::Public, get).await.with_context(|| (*path).to_owned())?;
        let said = expect(&answer, 404).with_context(|| (*path).to_owned())?;
        ensure!(said["code"] == "NOT_FOUND", "{path}: {said}");
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn ids_that_are_none_are_refused_in_every_address() -> Result<()> {
    let stage = Stage::plain().await?;
    let long = "a".repeat(129);
    for id in NO_IDS.iter().copied().chain([long.as_str(), "", ".."]) {
        for (side, who, method, address) in [
            (Side::Public, Who::Alice, "GET", format!("/v1/chats/{id}/messages")),
            (Side::Public, Who::Alice, "GET", format!("/v1/chats/{id}/cursors")),
            (Side::Public, Who::Alice, "GET", format!("/api/v1/conversations/{id}/messages")),
            (Side::Internal, Who::Backend, "GET", format!("/api/v1/conversations/{id}/messages")),
            (Side::Internal, Who::Backend, "GET", format!("/api/v1/conversations/{id}")),
            (Side::Internal, Who::Backend, "DELETE", format!("/api/v1/conversations/{id}")),
            (Side::Internal, Who::Backend, "GET", format!("/api/v1/users/{id}/presence")),
            (Side::Internal, Who::Backend, "POST", format!("/api/v1/users/{id}/disconnect")),
        ] {
            let known = stage.credentials(who);
            let asked = format!("{method} {address} HTTP/1.1\r\nHost: x\r\n{known}\r\n");
            let answer = stage.ask(side, asked).await.with_context(|| address.clone())?;
            // `..` is an id like another, of nobody; an empty one makes another address.
            let right = match id {
                "" => matches!(answer.status, 400 | 404 | 405),
                ".." => matches!(answer.status, 200 | 202 | 400 | 403 | 404),
                _ => answer.status == 400,
            };
            ensure!(right, "{method} {address}: {answer:?}");
            answer.json().with_context(|| address.clone())?;
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn methods_that_are_none_are_refused_with_those_that_are() -> Result<()> {
    let stage = Stage::plain().await?;
    for (side, target, allowed) in METHODS {
        let known = stage.credentials(if *side == Side::Internal { Who::Backend } else { Who::Alice });
        for method in
            ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "FOO", "PRI", "M-SEARCH"]
        {
            if allowed.map_or(method == "GET", |all| all.split(", ").any(|one| one == method)) {
                continue;
            }
            let asked = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{known}\r\n");
            let name = || format!("{method} {target}");
            let answer = stage.ask(*side, asked).await.with_context(name)?;
            let Some(allowed) = allowed else {
                // In the words of Engine.IO: a session does not begin so.
                let said = expect(&answer, 400).with_context(name)?;
                ensure!(
                    said == json!({ "code": 2, "message": "Bad handshake method" }),
                    "{}: {said}",
                    name()
                );
                continue;
            };
            expect(&answer, 405).with_context(name)?;
            let mut told: Vec<&str> =
                answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
            told.sort_unstable();
            ensure!(told.join(", ") == *allowed, "{}: {told:?}", name());
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn a_target_with_a_host_is_for_that_host() -> Result<()> {
    let mounts =
        "[[mounts]]\nname = \"own\"\nhost = \"own.example\"\npath = \"/own\"\ndialect = \"sechat\"\n";
    let stage = Stage::start(&Setting { mounts, ..Setting::default() }).await?;
    for (target, host, status) in [
        ("/own", "own.example", 426),
        ("/own", "own.example:8082", 426),
        ("/own", "OWN.example", 426),
        ("/own", "other.example", 404),
        ("http://own.example/own", "other.example", 426),
        ("http://other.example/own", "own.example", 404),
        ("ws://own.example:1/own", "", 426),
        ("http://u@own.example/own", "own.example", 400),
    ] {
        let asked = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = stage.ask(Side::Public, asked).await?;
        ensure!(answer.status == status, "{target} at {host}: {answer:?}");
    }
    Ok(())
}
