//! The documented HTTP calls, tried by schemathesis: what the documents promise is what a running node does.
//!
//! Must not know: any call; it takes what the documents name.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::script::schemathesis;
use parlance_tests::{API_KEY, Gateway, Options, token};
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

/// A run takes a third of a minute; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(300);
/// Cases of each phase, at most, for a call.
const EXAMPLES: &str = "15";

/// Without limits of rates and connections: hundreds of calls a second are what this does.
async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await
}

/// Runs all checks on a document; `more` are further arguments.
async fn run(config: &str, document: &str, more: &[&str]) -> Result<Option<(bool, String)>> {
    let Some(command) = schemathesis(config)? else { return Ok(None) };
    let mut command = Command::from(command);
    command.arg(document).args(["--checks", "all", "--max-examples", EXAMPLES]).args(more);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.context("schemathesis does not end")??;
    let said = [output.stdout, output.stderr].concat();
    Ok(Some((output.status.success(), String::from_utf8_lossy(&said).into_owned())))
}

async fn holds(gateway: &Gateway, config: &str, document: &str, more: &[&str]) -> Result<()> {
    let document = format!("http://{}{document}", gateway.internal_address());
    if let Some((well, said)) = run(config, &document, more).await? {
        ensure!(well, "{said}");
        // Nothing to try would be no failure either.
        ensure!(said.contains(" generated, "), "{said}");
    }
    Ok(())
}

fn key(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

#[tokio::test]
async fn the_server_api_does_what_its_document_says() -> Result<()> {
    let gateway = gateway().await?;
    let header = key(API_KEY);
    // The switch goes last: with it on, the others are rightly answered 503.
    let switch = "setMaintenance";
    let others = ["-H", &header, "--exclude-operation-id", switch];
    holds(&gateway, "internal.toml", "/openapi.json", &others).await?;
    holds(&gateway, "internal.toml", "/openapi.json", &["-H", &header, "--include-operation-id", switch])
        .await
}

#[tokio::test]
async fn a_document_that_says_something_else_is_found_out() -> Result<()> {
    let gateway = gateway().await?;
    let mut document = gateway.internal("GET", "/openapi.json", None, None).await?.json()?;
    let node = document.pointer_mut("/components/schemas/Node/required").context("no such type")?;
    node.as_array_mut().context("no list")?.push(json!("colour"));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("openapi.json");
    std::fs::write(&path, document.to_string())?;
    let (header, url) = (key(API_KEY), format!("http://{}", gateway.internal_address()));
    let only = ["-H", &header, "--url", &url, "--include-operation-id", "listNodes"];
    if let Some((well, said)) = run("internal.toml", &path.to_string_lossy(), &only).await? {
        ensure!(!well && said.contains("colour"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_clients_ask_over_http_does_what_its_document_says() -> Result<()> {
    let gateway = gateway().await?;
    // Names that the document's examples use.
    let team = json!({ "id": "team-7", "type": "group", "members": ["alice", "bob"] });
    let (status, created) = gateway.api("POST", "/api/v1/conversations", Some(&team)).await?;
    ensure!(status == 201, "{created}");
    let message = json!({ "senderId": "bob", "body": "hello", "clientId": "1", "metadata": { "n": 1 } });
    let (status, sent) = gateway.api("POST", "/api/v1/conversations/team-7/messages", Some(&message)).await?;
    ensure!(status == 201, "{sent}");
    let url = format!("http://{}", gateway.address());
    let header = key(&token("alice")?);
    holds(&gateway, "public.toml", "/openapi-public.json", &["-H", &header, "--url", &url]).await
}

#[tokio::test]
async fn the_documents_need_no_key_and_name_every_call_of_the_server_api() -> Result<()> {
    let gateway = gateway().await?;
    let document = gateway.internal("GET", "/openapi.json", None, None).await?;
    ensure!(document.status == 200);
    let document = document.json()?;
    ensure!(document["openapi"] == "3.1.0", "{document}");
    let calls = |path: &str| {
        let item = document["paths"][path].as_object().cloned().unwrap_or_default();
        item.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    for (path, methods) in [
        ("/api/v1/conversations", "post"),
        ("/api/v1/conversations/{id}", "delete get patch"),
        ("/api/v1/conversations/{id}/messages", "get post"),
        ("/api/v1/publish", "post"),
        ("/api/v1/users/{id}/presence", "get"),
        ("/api/v1/presence", "post"),
        ("/api/v1/users/{id}/disconnect", "post"),
        ("/api/v1/tokens/revoke", "post"),
        ("/api/v1/maintenance", "put"),
        ("/api/v1/nodes", "get"),
    ] {
        ensure!(calls(path) == methods, "{path}: {}", calls(path));
        let operations = document["paths"][path].as_object().into_iter().flatten();
        for (method, operation) in operations {
            // What the whole document asks for: a key.
            ensure!(operation.get("security").is_none(), "{method} {path} is open");
        }
    }
    ensure!(document["security"] == json!([{ "apiKey": [] }]));
    let missing = gateway.internal("GET", "/api/v1/nodes", None, None).await?;
    ensure!(missing.status == 401 && missing.json()?["error"]["code"] == "UNAUTHORIZED");
    Ok(())
}
