//! SocialHub's polling: what a user's connections are told, over plain HTTP, from whichever node is asked.
//!
//! Owns: its addresses, who may ask and how often, how long an answer waits. Must not know: JSON field names
//! (`parlance_wire::socialhub::poll`).
//!
//! Nothing of a poll is kept at a node: the cursor is the client's, integers and how far they go are in the
//! backplane. An answer that does not arrive is given again.

mod answer;
mod ear;
mod fetch;
mod lease;
mod reader;
mod receipts;
mod scope;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parlance_backplane::{Fault, Rule, Verdict};
use parlance_model::{Identity, Reject, RejectCode, Time};
use parlance_wire::Dialect;
use parlance_wire::socialhub::poll as wire;
use tokio::time::Instant;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use self::answer::{Budget, Refusal};
use self::ear::{Ear, Wake};
use self::reader::{Page, Reader, Size};
use super::openapi::Id;
use super::openapi::client::{Asks, AsksBody, MissedPage, PollCall, PollPage};
use super::{credentials, reply};
use crate::auth::AuthError;
use crate::authoriser;
use crate::config::Mount;
use crate::metrics::Waiting;
use crate::node::Node;
use crate::proofs;

/// Events and bytes of one answer.
const POLL: Size = Size { events: 250, bytes: 1024 * 1024 };
/// The same for what was missed.
const MISSED: Size = Size { events: 1000, bytes: 4 * 1024 * 1024 };
/// Before a log is read again that this node has heard more of.
const AGAIN: Duration = Duration::from_millis(10);
/// How long is waited while something of what the user hears is out of reach: the next poll looks again.
const PARTIAL: Duration = Duration::from_secs(5);
/// How often a waiting poll looks whether its token was revoked.
const LOOK: Duration = Duration::from_millis(500);

/// The routes, for the public listener.
pub fn router<S: Clone + Send + Sync + 'static>(node: &Arc<Node>) -> Router<S> {
    described().split_for_parts().0.with_state(node.clone())
}

/// The routes, and their description.
pub(super) fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::default()
        .routes(routes!(by_query, by_body).map(|route| route.fallback(answer::wrong_method)))
        .routes(routes!(missed).map(|route| route.fallback(answer::only_get)))
}

/// Waits for events, in SocialHub's words
///
/// Takes nothing away: an answer that did not arrive is given again to the same question, by whichever node is asked.
#[utoipa::path(
    get, path = "/api/v1/realtime/poll", tag = "client", operation_id = "poll",
    params(
        ("user_id" = Id, Query, description = "The user of the token", example = "alice"),
        ("last_poll_id" = Option<u64>, Query, maximum = 9_007_199_254_740_992_u64,
            description = "The `last_poll_id` of the answer before; 0 at first"),
        ("timeout" = Option<f64>, Query, minimum = 0, example = 0,
            description = "Seconds to wait for something to happen: 30 when absent, and not more than 30"),
    ),
    responses((status = 200, description = "What happened, or nothing", body = PollPage), Asks, AsksBody),
)]
async fn by_query(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = wire::of_query(parts.uri.query().unwrap_or_default()).map_err(Refusal::from);
    poll(&node, &parts, ready(asked)).await
}

/// The same, with its parameters in a body
#[utoipa::path(
    post, path = "/api/v1/realtime/poll", tag = "client", operation_id = "pollByBody",
    request_body = PollCall,
    responses((status = 200, description = "What happened, or nothing", body = PollPage), Asks, AsksBody),
)]
async fn by_body(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Read only of somebody who may ask: what anybody sends would be kept for as long as it takes to arrive.
    poll(&node, &parts, read(&node, &parts, body)).await
}

async fn read(node: &Node, parts: &Parts, body: axum::body::Body) -> Result<wire::Ask, Refusal> {
    let config = node.config.load();
    let limit = config.limits.http_body_bytes;
    let read = Limited::new(body, limit).collect();
    let time = Duration::from_millis(config.limits.message_ms);
    let read = tokio::time::timeout(time, read).await;
    let bytes = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::too_large(limit)),
        Ok(Err(_)) => return Err(Reject::new(RejectCode::Malformed, "the body broke off").into()),
        Err(_) => return Err(Refusal::too_slow()),
    };
    let query = parts.uri.query().unwrap_or_default();
    Ok(wire::of_body(&bytes, query, config.limits.json_depth)?)
}

/// What is asked for, once it has arrived.
trait Asked: Future<Output = Result<wire::Ask, Refusal>> {}

impl<F: Future<Output = Result<wire::Ask, Refusal>>> Asked for F {}

async fn poll(node: &Arc<Node>, parts: &Parts, asked: impl Asked) -> Response {
    answer(node, parts, asked, POLL, |page| page.render(wire::event, wire::page)).await
}

/// What was missed since an integer, in SocialHub's words
#[utoipa::path(
    get, path = "/api/v1/realtime/poll/missed", tag = "client", operation_id = "listMissed",
    params(
        ("user_id" = Id, Query, description = "The user of the token", example = "alice"),
        ("last_sequence" = u64, Query, maximum = 9_007_199_254_740_992_u64, description = "The last integer it has",
            example = 0),
    ),
    responses((status = 200, description = "What was missed", body = MissedPage), Asks),
)]
async fn missed(State(node): State<Arc<Node>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = wire::missed_of_query(parts.uri.query().unwrap_or_default()).map_err(Refusal::from);
    answer(&node, &parts, ready(asked), MISSED, |page| page.render(wire::envelope, wire::missed)).await
}

async fn answer(
    node: &Arc<Node>,
    parts: &Parts,
    asked: impl Asked,
    size: Size,
    render: impl Fn(&Page) -> String,
) -> Response {
    let Some(mount) = mount(node) else {
        return reply::refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this address");
    };
    let mut budget = Budget::full(&mount.polls, node);
    let answered = async {
        let identity = credentials::identify(node, parts, &mount.subjects).await?;
        if let Some(verdict) = take(node, &mount, &identity).await? {
            budget = Budget::of(&mount.polls, &verdict);
            if !verdict.allowed {
                return Err(limited(node, &verdict));
            }
        }
        authoriser::connect(node, &mount, &identity).await?;
        let asked = asked.await?;
        if asked.user != identity.user.as_str() {
            return Err(Refusal::not_yours());
        }
        let call = Call { node, mount: &mount, identity: &identity, size };
        Ok(call.run(&asked).await?)
    };
    let answered: Result<Page, Refusal> = answered.await;
    let mut response = match answered {
        Ok(page) => reply::json(StatusCode::OK, render(&page)),
        Err(refusal) => refusal.response(node, &mount),
    };
    budget.tell(response.headers_mut());
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whose policy holds: there is one polling address, and one dialect that polls.
fn mount(node: &Node) -> Option<Arc<Mount>> {
    let config = node.config.load();
    let found = config.mounts.iter().find(|mount| mount.spoken() == Dialect::Socialhub);
    found.cloned().map(Arc::new)
}

async fn take(node: &Node, mount: &Mount, identity: &Identity) -> Result<Option<Verdict>, Reject> {
    if mount.polls.limit == 0 || !node.config.load().limits.rates {
        return Ok(None);
    }
    let rule = Rule {
        name: format!("{}:poll", mount.dialect).into(),
        limit: mount.polls.limit,
        window: Duration::from_millis(mount.polls.window_ms),
    };
    let taken = node.backplane.limits.take(&identity.user, &rule).await;
    taken.map(Some).map_err(|fault| node.unavailable(&fault))
}

fn limited(node: &Node, verdict: &Verdict) -> Refusal {
    let wait = u64::try_from(verdict.reset.since(node.clock.now()).as_millis()).unwrap_or(u64::MAX);
    node.metrics.rate_limited(Dialect::Socialhub, "polls");
    Reject::new(RejectCode::RateLimited, "too many polls").retry_after(wait.max(1)).into()
}

/// A poll of a user.
struct Call<'a> {
    node: &'a Arc<Node>,
    mount: &'a Mount,
    identity: &'a Identity,
    size: Size,
}

impl Call<'_> {
    async fn run(&self, asked: &wire::Ask) -> Result<Page, Reject> {
        let unavailable = |fault: Fault| self.node.unavailable(&fault);
        let now = self.node.clock.now();
        let wait = self.patience(Duration::from_millis(asked.wait_ms), now);
        let deadline = Instant::now() + wait;
        let present = lease::hold(self.node, &self.identity.user, wait);
        let (reader, ()) = futures_util::join!(self.reader(asked.after), present);
        let mut reader = reader.map_err(unavailable)?;
        let page = reader.pass(&[]).await.map_err(unavailable)?;
        if !page.is_empty() || wait.is_zero() {
            return Ok(page);
        }
        loop {
            match self.listen(&mut reader, deadline).await? {
                Some(page) => return Ok(page),
                // The user's conversations are others than before.
                None => reader = self.reader(asked.after).await.map_err(unavailable)?,
            }
        }
    }

    /// Nobody waits longer than the token is good, nor at a node that stops.
    fn patience(&self, asked: Duration, now: Time) -> Duration {
        if self.node.shutdown.is_cancelled() {
            return Duration::ZERO;
        }
        asked.min(self.identity.expires_at.since(now))
    }

    fn still_good(&self) -> Result<(), Reject> {
        if proofs::stand(self.node, self.identity) { Ok(()) } else { Err(AuthError::Revoked.into()) }
    }

    async fn reader(&self, after: u64) -> Result<Reader<'_>, Fault> {
        Reader::load(self.node, self.mount, self.identity, (after, self.size)).await
    }

    /// Waits for something to tell. `None`: begin again.
    async fn listen(&self, reader: &mut Reader<'_>, deadline: Instant) -> Result<Option<Page>, Reject> {
        let unavailable = |fault: Fault| self.node.unavailable(&fault);
        let ear = Ear::open(self.node, self.mount, self.identity, reader.topics());
        let ear = ear.await.map_err(unavailable)?;
        let partial = ear.partial || reader.is_partial();
        let deadline = if partial { deadline.min(Instant::now() + PARTIAL) } else { deadline };
        loop {
            // Listening first, reading second: whatever comes in between is heard.
            let page = reader.pass(&[]).await.map_err(unavailable)?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
            if ear.go_live(|log| reader.mark(log)) {
                break;
            }
            if Instant::now() >= deadline {
                return Ok(Some(reader.nothing()));
            }
            tokio::time::sleep(AGAIN).await;
        }
        let _waiting = Waiting::begin(&self.node.metrics.door.polls_waiting);
        let mut look = tokio::time::interval(LOOK);
        loop {
            let wake = tokio::select! {
                biased;
                wake = ear.wake() => wake,
                () = tokio::time::sleep_until(deadline) => return Ok(Some(reader.nothing())),
                () = self.node.shutdown.cancelled() => return Ok(Some(reader.nothing())),
                _ = look.tick() => {
                    self.still_good()?;
                    continue;
                }
                () = self.node.orders.revocation() => {
                    self.still_good()?;
                    continue;
                }
            };
            match wake {
                Wake::Heard(passing) => {
                    let page = reader.pass(&passing).await.map_err(unavailable)?;
                    if !page.is_empty() {
                        return Ok(Some(page));
                    }
                }
                Wake::Changed => return Ok(None),
                Wake::End => {
                    lease::end(self.node, &self.identity.user).await;
                    return Ok(Some(reader.nothing()));
                }
            }
        }
    }
}
