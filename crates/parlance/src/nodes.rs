//! `parlance nodes`: the cluster as one node sees it, as a table.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::dev::DEV_API_KEY;
use crate::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(10);
const LARGEST: usize = 16 * 1024 * 1024;

/// The node that is asked; other commands take it too.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// A node's internal listener.
    #[arg(long, default_value = "http://127.0.0.1:8083")]
    url: String,
    /// A key of the server API; the one of `parlance dev` by default.
    #[arg(long, env = "PARLANCE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// A node did not do it, and says why.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    why: String,
}

impl fmt::Display for Answered {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the node answered {} {}", self.status, self.why)
    }
}

impl std::error::Error for Answered {}

/// Asks and prints.
pub async fn run(args: Args) -> Result<(), Failure> {
    print!("{}", table(&get(&args, "/api/v1/nodes").await?));
    Ok(())
}

/// What the node answers to a question of the server API.
pub async fn get(args: &Args, call: &str) -> Result<Value, Failure> {
    self::call(args, Method::GET, call).await
}

/// What it answers to a call without a body.
pub async fn call(args: &Args, method: Method, call: &str) -> Result<Value, Failure> {
    send(args, method, call, None).await
}

/// What it answers to a call.
pub async fn send(args: &Args, method: Method, call: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let uri = format!("{}{call}", args.url.trim_end_matches('/')).parse::<Uri>();
    let uri = uri.ok().filter(|uri| uri.scheme_str() == Some("http"));
    let uri = uri.ok_or_else(|| Failure::Usage("--url: expected http://host:port".to_owned()))?;
    // During rotation the variable holds several; any of them is good.
    let key = args.api_key.as_deref().and_then(|keys| keys.split(',').next()).unwrap_or(DEV_API_KEY);
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header(header::AUTHORIZATION, format!("Bearer {}", key.trim()))
        .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
        .map_err(|_| Failure::Usage("--api-key: cannot be sent in a header".to_owned()))?;
    let answer = tokio::time::timeout(TIMEOUT, ask(request)).await;
    Ok(answer.map_err(|_| anyhow!("no answer within {TIMEOUT:?}"))??)
}

async fn ask(request: Request<Full<Bytes>>) -> anyhow::Result<Value> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.context("cannot reach the node's internal listener")?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| anyhow!(error))?;
    let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    if !status.is_success() {
        let why = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        bail!(Answered { status, why: why.to_owned() });
    }
    Ok(body)
}

/// Whatever the nodes say about themselves, a column each.
fn table(answer: &Value) -> String {
    let nodes = answer.get("nodes").unwrap_or(answer).as_array().map(Vec::as_slice).unwrap_or_default();
    let mut columns: Vec<&str> = Vec::new();
    for key in nodes.iter().filter_map(Value::as_object).flat_map(|node| node.keys()) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    // The name first, whatever the alphabet says.
    columns.sort_by_key(|column| !matches!(*column, "id" | "node"));
    let mut rows = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    rows.extend(nodes.iter().map(|node| columns.iter().map(|column| cell(node.get(column))).collect()));
    let width =
        |index: usize| rows.iter().map(|row: &Vec<String>| row[index].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_a_column_for_everything_said() {
        let shown = table(&json!({"nodes": [
            {"connections": 12, "id": "n1", "version": "0.1.0"},
            {"connections": 7, "id": "node-2", "lag": null},
        ]}));
        assert_eq!(
            shown,
            "ID      CONNECTIONS  VERSION  LAG\nn1      12           0.1.0    -\nnode-2  7            -        -\n"
        );
    }
}
