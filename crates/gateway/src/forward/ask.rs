//! Asking another node what it remembers of a message.
//!
//! Owns: the way there, and how long it is waited for. Must not know: what is remembered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use parlance_backplane::NodeState;

use super::{EXPLAIN, PASS};
use crate::journal::{Part, Question};
use crate::node::Node;

/// How long a node may take.
const WITHIN: Duration = Duration::from_secs(3);
/// What it says is no longer than this.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Nor what it is asked.
pub(super) const LARGEST_QUESTION: usize = 16 * 1024;

/// What a node remembers.
///
/// # Errors
/// Why there is no answer, for people.
pub async fn ask(node: &Arc<Node>, to: &NodeState, question: &Question) -> Result<Part, String> {
    let asked = tokio::time::timeout(WITHIN, asked(node, to, question)).await;
    asked.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())))
}

async fn asked(node: &Arc<Node>, to: &NodeState, question: &Question) -> Result<Part, String> {
    let spoilt = |_| "it cannot be asked".to_owned();
    let body = serde_json::to_vec(question).map_err(|error| error.to_string())?;
    let mut pass = HeaderValue::from_str(&to.pass.0).map_err(|_| "it has no pass".to_owned())?;
    pass.set_sensitive(true);
    let request = Request::post(format!("http://{}{EXPLAIN}/", to.address)).header(PASS, pass);
    let request = request.body(Body::from(body)).map_err(spoilt)?;
    let answer = node.forward.client.request(request).await.map_err(|error| {
        tracing::debug!(%error, node = %to.id, "asking another node");
        "it does not answer".to_owned()
    })?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err("another node is at its address by now".to_owned()),
        StatusCode::NOT_FOUND => return Err("it is of a release that remembers nothing".to_owned()),
        status => return Err(format!("it answered {status}")),
    }
    let read = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
    let body = read.map_err(|_| "its answer broke off".to_owned())?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| "its answer cannot be read".to_owned())
}
