//! History over HTTP on the public listener, for members, with their own token.
//!
//! Owns: its addresses, who may read, how refusals are told. Must not know: JSON field names of answers
//! (`parlance_wire::history`), what a good token looks like (`auth`).

mod cursors;
pub mod page;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use parlance_backplane::{Fault, Find};
use parlance_model::{Conversation, ConversationId, LogKey, Reject, RejectCode};
use parlance_wire::history as wire;

use self::page::{Asked, Refused};
use super::router::wrong_method;
use super::{credentials, reply};
use crate::config::default_subjects;
use crate::metrics::word;
use crate::node::Node;

/// The routes, for the public listener.
pub fn router<S: Clone + Send + Sync + 'static>(node: &Arc<Node>) -> Router<S> {
    Router::new()
        .route("/v1/chats/{id}/messages", get(chat_messages).fallback(wrong_method))
        .route("/v1/chats/{id}/cursors", get(chat_cursors).fallback(wrong_method))
        .route("/api/v1/conversations/{id}/messages", get(messages).fallback(wrong_method))
        .with_state(node.clone())
}

/// The id in the address, as axum read it.
type Named = Result<Path<String>, PathRejection>;

async fn chat_messages(State(node): State<Arc<Node>>, name: Named, request: Request) -> Response {
    let call = Call { node: &node, parts: request.into_parts().0, name, dialects: &["famly"] };
    let answered = async {
        let asked = asked(&call.parts)?;
        let conversation = call.readable().await?;
        let page = page::read(&node, &conversation, &asked).await.map_err(|error| refusal(&node, error))?;
        Ok(wire::famly_page(&page.items, page.frame))
    };
    answer_famly(&node, answered.await)
}

async fn chat_cursors(State(node): State<Arc<Node>>, name: Named, request: Request) -> Response {
    let call = Call { node: &node, parts: request.into_parts().0, name, dialects: &["famly"] };
    let answered = async {
        let conversation = call.readable().await?;
        let found = cursors::read(&node, &conversation).await.map_err(|fault| node.unavailable(&fault))?;
        Ok(wire::famly_cursors(&found))
    };
    answer_famly(&node, answered.await)
}

async fn messages(State(node): State<Arc<Node>>, name: Named, request: Request) -> Response {
    let call =
        Call { node: &node, parts: request.into_parts().0, name, dialects: &["chatgenius", "lingochat"] };
    let answered = async {
        let asked = asked(&call.parts)?;
        let conversation = call.readable().await?;
        let mut page =
            page::read(&node, &conversation, &asked).await.map_err(|error| refusal(&node, error))?;
        page.react(&node, &conversation).await.map_err(|fault| node.unavailable(&fault))?;
        Ok(wire::page(&page.items, page.frame))
    };
    let answered: Result<String, Reject> = answered.await;
    match answered {
        Ok(body) => reply::json(StatusCode::OK, body),
        Err(reject) => {
            node.metrics.refused("-", word(reject.code));
            with_challenge(plain(&reject))
        }
    }
}

/// A call of a user.
struct Call<'a> {
    node: &'a Node,
    parts: Parts,
    name: Named,
    /// Whose clients call here: the first of them that has a mount says which claims name the user.
    dialects: &'a [&'a str],
}

impl Call<'_> {
    /// The conversation, when the token names a member of it. One that is not there and one that is not
    /// theirs are not told apart.
    async fn readable(&self) -> Result<Conversation, Reject> {
        let identity = credentials::identify(self.node, &self.parts, &self.subjects()).await?;
        let id = self.name.as_ref().ok().and_then(|Path(id)| ConversationId::parse(id).ok());
        let id = id.ok_or_else(|| invalid("the address names no conversation"))?;
        let found = find(self.node, &id).await.map_err(|fault| self.node.unavailable(&fault))?;
        found
            .filter(|conversation| conversation.member(&identity.user).is_some())
            .ok_or_else(|| Reject::new(RejectCode::Forbidden, "you are not a member of this conversation"))
    }

    fn subjects(&self) -> Vec<String> {
        let config = self.node.config.load();
        let of = |dialect: &&str| config.mounts.iter().find(|mount| mount.dialect == *dialect);
        self.dialects.iter().find_map(of).map_or_else(default_subjects, |mount| mount.subjects.clone())
    }
}

/// By its id; an id of digits may also be its number, which is how lingochat clients know it.
async fn find(node: &Node, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
    let conversations = &node.backplane.conversations;
    if let Some(found) = conversations.get(id).await? {
        return Ok(Some(found));
    }
    let digits = id.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = id.as_str().parse().ok().filter(|_| digits) else { return Ok(None) };
    match node.backplane.log.find(Find::Number(number)).await? {
        Some((LogKey::Conversation(id), _)) => conversations.get(&id).await,
        _ => Ok(None),
    }
}

/// The query. An empty value counts as absent, and a parameter not known here is nobody's concern.
fn asked(parts: &Parts) -> Result<Asked, Reject> {
    let mut asked = Asked::default();
    for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        let place = match &*name {
            _ if value.is_empty() => continue,
            "after" => &mut asked.after,
            "before" => &mut asked.before,
            "since" => &mut asked.since,
            "limit" => {
                asked.limit = Some(value.parse().map_err(|_| invalid("limit is a number"))?);
                continue;
            }
            _ => continue,
        };
        *place = Some(value.into_owned());
    }
    Ok(asked)
}

fn invalid(message: &'static str) -> Reject {
    Reject::new(RejectCode::InvalidField, message)
}

fn refusal(node: &Node, refused: Refused) -> Reject {
    match refused {
        Refused::Invalid(message) => invalid(message),
        Refused::Foreign => invalid("the message is not of this conversation"),
        Refused::Fault(fault) => node.unavailable(&fault),
    }
}

fn plain(reject: &Reject) -> Response {
    match reject.code {
        RejectCode::Forbidden => reply::refusal(StatusCode::FORBIDDEN, "FORBIDDEN", &reject.message),
        RejectCode::InvalidField => {
            reply::refusal(StatusCode::BAD_REQUEST, "INVALID_REQUEST", &reject.message)
        }
        _ => reply::rejected(reject),
    }
}

fn answer_famly(node: &Node, answered: Result<String, Reject>) -> Response {
    let reject = match answered {
        Ok(body) => return reply::json(StatusCode::OK, body),
        Err(reject) => reject,
    };
    node.metrics.refused("-", word(reject.code));
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    tracing::info!(code = ?reject.code, correlation_id = %id, "history refused");
    let (status, body) = wire::famly_refusal(&reject, &id);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply::json(status, body);
    if let Some(ms) = reject.retry_after_ms {
        reply::retry_after(&mut response, ms.div_ceil(1000).max(1));
    }
    with_challenge(response)
}

fn with_challenge(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
