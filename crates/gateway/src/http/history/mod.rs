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
use parlance_wire::Dialect;
use parlance_wire::history::{self as wire, Item};

use self::page::{Asked, Page, Refused};
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
    let answered = async {
        let call = Call::new(&node, name, request)?.of(&[Dialect::Famly]);
        let page = call.page(false).await?;
        Ok(wire::famly_page(&page.items, page.frame))
    };
    answer_famly(&node, answered.await)
}

async fn chat_cursors(State(node): State<Arc<Node>>, name: Named, request: Request) -> Response {
    let answered = async {
        let call = Call::new(&node, name, request)?.of(&[Dialect::Famly]);
        let conversation = call.readable().await?;
        let found = cursors::read(&node, &conversation).await.map_err(|fault| node.unavailable(&fault))?;
        Ok(wire::famly_cursors(&found))
    };
    answer_famly(&node, answered.await)
}

async fn messages(State(node): State<Arc<Node>>, name: Named, request: Request) -> Response {
    let answered = async {
        let call = Call::new(&node, name, request)?;
        // Who names a conversation by a number is most likely of the dialect that knows no other names.
        let likely = if call.named.bytes().all(|byte| byte.is_ascii_digit()) {
            [Dialect::Lingochat, Dialect::Chatgenius]
        } else {
            [Dialect::Chatgenius, Dialect::Lingochat]
        };
        let call = call.of(&likely);
        let page = call.page(call.asked.dialect.is_none()).await?;
        Ok(match call.asked.dialect {
            Some(dialect) => wire::spoken_page(dialect, &page.items, page.frame),
            None => wire::page(&page.items, page.frame),
        })
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
    /// The id in the address.
    named: String,
    asked: Query,
    /// The claims that may name the user.
    subjects: Vec<String>,
    /// Whether markup is removed from what is read.
    strip: bool,
}

/// A call's query.
#[derive(Default)]
struct Query {
    part: Asked,
    /// In whose words the messages are told; of none: in the gateway's own.
    dialect: Option<Dialect>,
}

impl<'a> Call<'a> {
    fn new(node: &'a Node, name: Named, request: Request) -> Result<Self, Reject> {
        let parts = request.into_parts().0;
        let Path(named) = name.map_err(|_| nowhere())?;
        let asked = query(&parts)?;
        Ok(Self { node, parts, named, asked, subjects: default_subjects(), strip: false })
    }

    /// Takes its policy from the first mount of the dialect asked for, else of one of these.
    fn of(mut self, likely: &[Dialect]) -> Self {
        let config = self.node.config.load();
        let of = |dialect: &Dialect| config.mounts.iter().find(|mount| mount.dialect == dialect.as_str());
        let asked = self.asked.dialect.as_ref().map(std::slice::from_ref);
        if let Some(mount) = asked.unwrap_or(likely).iter().find_map(of) {
            self.subjects.clone_from(&mount.subjects);
            self.strip = mount.sanitize;
        }
        self
    }

    /// The conversation, when the token names a member of it. One that is not there and one that is not
    /// theirs are not told apart.
    async fn readable(&self) -> Result<Conversation, Reject> {
        let identity = credentials::identify(self.node, &self.parts, &self.subjects).await?;
        let id = ConversationId::parse(&self.named).map_err(|_| nowhere())?;
        let found = find(self.node, &id).await.map_err(|fault| self.node.unavailable(&fault))?;
        found
            .filter(|conversation| conversation.member(&identity.user).is_some())
            .ok_or_else(|| Reject::new(RejectCode::Forbidden, "you are not a member of this conversation"))
    }

    async fn page(&self, with_reactions: bool) -> Result<Page, Reject> {
        let conversation = self.readable().await?;
        let read = async {
            let mut page = page::read(self.node, &conversation, &self.asked.part).await?;
            if with_reactions {
                page.react(self.node, &conversation).await?;
            }
            Ok(page)
        };
        let mut page: Page = read.await.map_err(|refused| self.refusal(refused))?;
        if self.strip {
            page.items.iter_mut().for_each(Item::strip);
        }
        Ok(page)
    }

    fn refusal(&self, refused: Refused) -> Reject {
        match refused {
            Refused::Invalid(message) => invalid(message),
            Refused::Foreign => invalid("the message is not of this conversation"),
            Refused::Fault(fault) => self.node.unavailable(&fault),
        }
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

/// An empty value counts as absent, and a parameter not known here is nobody's concern.
fn query(parts: &Parts) -> Result<Query, Reject> {
    let mut query = Query::default();
    for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        let place = match &*name {
            _ if value.is_empty() => continue,
            "after" => &mut query.part.after,
            "before" => &mut query.part.before,
            "since" => &mut query.part.since,
            "limit" => {
                query.part.limit = Some(value.parse().map_err(|_| invalid("limit is a number"))?);
                continue;
            }
            "dialect" => {
                let dialect = Dialect::parse(&value).ok_or_else(|| invalid("there is no such dialect"))?;
                query.dialect = Some(dialect);
                continue;
            }
            _ => continue,
        };
        *place = Some(value.into_owned());
    }
    Ok(query)
}

fn invalid(message: &'static str) -> Reject {
    Reject::new(RejectCode::InvalidField, message)
}

fn nowhere() -> Reject {
    invalid("the address names no conversation")
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
