//! What became of a message, a command or a call.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::errors::ApiError;
use super::input::{self, Asked, Named};
use super::{Answer, answer};
use crate::http::openapi::{Calls, Id};
use crate::journal::{self, Explanation};
use crate::node::Node;

/// No id of any dialect is longer.
const LONGEST: usize = 256;

/// Whose message it is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Query {
    /// The user who sent the message: then the user's own id for it is found in the log too, also when no node
    /// remembers it.
    #[param(value_type = Option<Id>)]
    sender: Option<String>,
}

/// What became of a message
///
/// By its id in any dialect's rendering, by the sender's own id for it, or by the correlation id of a refusal. Every live node
/// is asked what it remembers (`log.journal`), and the log what it has. Says `found: false` where nobody knows anything of it;
/// a node that did not answer is named. Never the text of a message.
#[utoipa::path(
    get, path = "/api/v1/explain/{id}", tag = "server", operation_id = "explainMessage",
    params(("id" = String, Path, description = "A message id or a correlation id", min_length = 1, max_length = 256), Query),
    responses((status = 200, description = "What is known of it", body = Explanation), Calls),
)]
pub async fn explain(State(node): State<Arc<Node>>, name: Named, Asked(query): Asked<Query>) -> Answer {
    let id = input::short("id", name.text(), LONGEST)?;
    if id.is_empty() {
        return Err(ApiError::invalid("id is empty"));
    }
    let sender = query.sender.as_deref().map(input::user).transpose()?;
    answer(StatusCode::OK, &journal::explain(&node, id, sender).await)
}
