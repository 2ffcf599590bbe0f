//! Refusals of polls, and the headers that tell what is left of the budget.
//!
//! Must not know: how an answer came about.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use parlance_backplane::Verdict;
use parlance_model::{Reject, RejectCode, Time};

use super::super::reply;
use crate::config::{Mount, Rate};
use crate::metrics::word;
use crate::node::Node;

/// Why there is no answer.
pub(super) enum Refusal {
    /// In the dialect's words.
    Reject(Reject),
    /// In HTTP's.
    Http(StatusCode, &'static str, String),
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl Refusal {
    /// The token is another user's.
    pub(super) fn not_yours() -> Self {
        let text = "user_id is not the user of this token";
        Self::Http(StatusCode::FORBIDDEN, "FORBIDDEN", text.to_owned())
    }

    /// The body is beyond the limit.
    pub(super) fn too_large(limit: usize) -> Self {
        let text = format!("the body is larger than {limit} bytes");
        Self::Http(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text)
    }

    /// The body did not arrive in time.
    pub(super) fn too_slow() -> Self {
        let text = "the body took too long to arrive";
        Self::Http(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", text.to_owned())
    }

    /// The answer that says so.
    pub(super) fn response(self, node: &Node, mount: &Mount) -> Response {
        match self {
            Self::Reject(reject) => {
                node.metrics.refused(Some(mount), word(reject.code));
                reply::rejected(&reject)
            }
            Self::Http(status, code, text) => {
                node.metrics.refused(Some(mount), word(RejectCode::Forbidden));
                reply::refusal(status, code, &text)
            }
        }
    }
}

/// What is left of a user's polls.
pub(super) struct Budget {
    limit: u32,
    remaining: u32,
    reset: Time,
}

impl Budget {
    /// Of somebody who is not known: nothing was counted.
    pub(super) fn full(rate: &Rate, node: &Node) -> Self {
        Self { limit: rate.limit, remaining: rate.limit, reset: node.clock.now() }
    }

    /// After a poll was counted, or refused.
    pub(super) const fn of(rate: &Rate, verdict: &Verdict) -> Self {
        Self { limit: rate.limit, remaining: verdict.remaining, reset: verdict.reset }
    }

    /// Adds the documented headers. Nothing is said of a limit that there is not.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if self.limit == 0 {
            return;
        }
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(self.reset.millis().div_ceil(1000)));
    }
}

/// The answer to methods that do not poll.
pub(super) async fn wrong_method(State(node): State<Arc<Node>>) -> Response {
    wrong(&node, "use GET or POST", "GET, HEAD, POST")
}

/// The same of what was missed.
pub(super) async fn only_get(State(node): State<Arc<Node>>) -> Response {
    wrong(&node, "use GET", "GET, HEAD")
}

fn wrong(node: &Node, text: &str, allow: &'static str) -> Response {
    let mut response = reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", text);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    if let Some(mount) = super::mount(node) {
        Budget::full(&mount.polls, node).tell(headers);
    }
    response
}
