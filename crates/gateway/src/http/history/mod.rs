//! History over HTTP on the public listener, for members, with their own token: messages, read cursors, and a user's
//! conversations with what is unread in them.
//!
//! Owns: its addresses, how refusals are told. Must not know: JSON field names of answers
//! (`parlance_wire::history`), what a good token looks like (`auth`).

mod call;
mod chats;
mod cursors;
pub mod page;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use parlance_model::{Conversation, Reject, RejectCode};
use parlance_wire::Dialect;
use parlance_wire::history::{self as wire, Item};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use self::call::{Call, Named, invalid, likely};
use self::chats::Unread;
use self::page::{Page, Refused};
use super::openapi::Id;
use super::openapi::client::{
    AnyPage, Asks, AsksBody, AsksFamly, Chat, Chats, ChatsQuery, ClientRefusal, FamlyCursors, FamlyPage,
    HistoryQuery, ReadMark,
};
use super::reply;
use super::router::wrong_method;
use crate::commands;
use crate::journal;
use crate::metrics::word;
use crate::node::Node;

/// The routes, for the public listener.
pub fn router<S: Clone + Send + Sync + 'static>(node: &Arc<Node>) -> Router<S> {
    described().split_for_parts().0.with_state(node.clone())
}

/// The routes, and their description.
pub(super) fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::default()
        .routes(routes!(conversations).map(|route| route.fallback(wrong_method)))
        .routes(routes!(read).map(|route| route.fallback(only_put)))
        .routes(routes!(messages).map(|route| route.fallback(wrong_method)))
        .routes(routes!(chat_messages).map(|route| route.fallback(wrong_method)))
        .routes(routes!(chat_cursors).map(|route| route.fallback(wrong_method)))
}

/// History of a chat in Famly's words, oldest first
#[utoipa::path(
    get, path = "/v1/chats/{id}/messages", tag = "client", operation_id = "listChatMessages",
    params(("id" = Id, Path, description = "The chat", example = "team-7"), HistoryQuery),
    responses((status = 200, description = "A page", body = FamlyPage), AsksFamly),
)]
async fn chat_messages(State(node): State<Arc<Node>>, named: Named, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answered = async {
        let mut call = Call::new(&node, &parts, &[Dialect::Famly]);
        let (_, conversation) = call.readable(&named).await?;
        let page = messages_of(&call, &conversation, false).await?;
        Ok(wire::famly_page(&page.items, page.frame))
    };
    answer_famly(&node, answered.await)
}

/// How far the members of a chat have read, in Famly's words
#[utoipa::path(
    get, path = "/v1/chats/{id}/cursors", tag = "client", operation_id = "listChatCursors",
    params(("id" = Id, Path, description = "The chat", example = "team-7")),
    responses((status = 200, description = "Of those who have read something", body = FamlyCursors), AsksFamly),
)]
async fn chat_cursors(State(node): State<Arc<Node>>, named: Named, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answered = async {
        let mut call = Call::new(&node, &parts, &[Dialect::Famly]);
        let (_, conversation) = call.readable(&named).await?;
        let found = cursors::read(&node, &conversation).await.map_err(|fault| node.unavailable(&fault))?;
        Ok(wire::famly_cursors(&found))
    };
    answer_famly(&node, answered.await)
}

/// History of a conversation, oldest first, for its members
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages", tag = "client", operation_id = "readMessages",
    params(("id" = Id, Path, description = "The conversation, or its number", example = "team-7"), HistoryQuery),
    responses((status = 200, description = "A page", body = AnyPage), Asks),
)]
async fn messages(State(node): State<Arc<Node>>, named: Named, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answered = async {
        let mut call = Call::new(&node, &parts, &by_name(&named));
        let (_, conversation) = call.readable(&named).await?;
        let page = messages_of(&call, &conversation, call.asked.dialect.is_none()).await?;
        Ok(match call.asked.dialect {
            Some(dialect) => wire::spoken_page(dialect, &page.items, page.frame),
            None => wire::page(&page.items, page.frame),
        })
    };
    answer(&node, answered.await)
}

/// The user's conversations, with what is unread in each
///
/// By id, so that going through all pages meets each once while people write. Receipts of every dialect count.
#[utoipa::path(
    get, path = "/api/v1/conversations", tag = "client", operation_id = "listConversations",
    params(ChatsQuery),
    responses((status = 200, description = "A page", body = Chats), Asks),
)]
async fn conversations(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answered = async {
        let mut call = Call::new(&node, &parts, &likely(""));
        let page = chats::page(&mut call).await?;
        Ok(wire::chats(&page, call.asked.dialect))
    };
    answer(&node, answered.await)
}

/// Moves the user's read cursor forward
///
/// Others hear of it as of any receipt. A call may be repeated, and an older message changes nothing.
#[utoipa::path(
    put, path = "/api/v1/conversations/{id}/read", tag = "client", operation_id = "markRead",
    params(("id" = Id, Path, description = "The conversation, or its number", example = "team-7")),
    request_body = ReadMark,
    responses(
        (status = 200, description = "The conversation as it is listed now", body = Chat),
        (status = 404, description = "There is no such message", body = ClientRefusal),
        Asks, AsksBody,
    ),
)]
async fn read(State(node): State<Arc<Node>>, named: Named, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut call = Call::new(&node, &parts, &by_name(&named));
    let answered = async {
        let (identity, conversation) = call.readable(&named).await.map_err(Unread::Wrong)?;
        // Read only of somebody who may ask: what anybody sends would be kept for as long as it takes to arrive.
        let to = chats::mark(&node, body).await?;
        let moved = commands::read_up_to(&node, &identity.user, &conversation.id, to).await;
        moved.map_err(Unread::Wrong)?;
        let listed = chats::one(&call, &identity.user, conversation.id).await.map_err(Unread::Wrong)?;
        Ok(wire::chat(&listed, call.asked.dialect))
    };
    match answered.await {
        Ok(body) => answer(&node, Ok(body)),
        Err(Unread::Wrong(reject)) => answer(&node, Err(reject)),
        Err(Unread::Slow) => {
            let text = "the body took too long to arrive";
            reply::refusal(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", text)
        }
        Err(Unread::Long(most)) => {
            let text = format!("the body is larger than {most} bytes");
            reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", &text)
        }
    }
}

fn by_name(named: &Named) -> [Dialect; 2] {
    likely(named.as_ref().map_or("", |path| path.as_str()))
}

async fn messages_of(call: &Call<'_>, conversation: &Conversation, reactions: bool) -> Result<Page, Reject> {
    let read = async {
        let mut page = page::read(call.node, conversation, &call.asked.part).await?;
        if reactions {
            page.react(call.node, conversation).await?;
        }
        Ok(page)
    };
    let mut page: Page = read.await.map_err(|refused| match refused {
        Refused::Invalid(message) => invalid(message),
        Refused::Foreign => invalid("the message is not of this conversation"),
        Refused::Fault(fault) => call.node.unavailable(&fault),
    })?;
    if call.policy.strip {
        page.items.iter_mut().for_each(Item::strip);
    }
    Ok(page)
}

fn answer(node: &Node, answered: Result<String, Reject>) -> Response {
    match answered {
        Ok(body) => reply::json(StatusCode::OK, body),
        Err(reject) => {
            node.metrics.refused(None, word(reject.code));
            with_challenge(plain(&reject))
        }
    }
}

fn plain(reject: &Reject) -> Response {
    match reject.code {
        RejectCode::Forbidden => reply::refusal(StatusCode::FORBIDDEN, "FORBIDDEN", &reject.message),
        RejectCode::NotFound => reply::refusal(StatusCode::NOT_FOUND, "NOT_FOUND", &reject.message),
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
    node.metrics.refused(None, word(reject.code));
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let (now, code) = (node.clock.now(), word(reject.code));
    if let Some(left_out) = node.journal.lines.takes(true, now) {
        let left_out = (left_out > 0).then_some(left_out);
        let why = &*reject.message;
        tracing::info!(
            "correlationId" = id,
            dialect = "famly",
            code,
            why,
            "linesLeftOut" = left_out,
            "history refused"
        );
    }
    let refused = journal::Refused::new(Some(id.as_str().into()), now, "history", reject.code);
    node.journal.refused(journal::Refused { why: reject.message.clone(), ..refused });
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

async fn only_put() -> Response {
    let mut response = reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "use PUT");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("PUT"));
    response
}
