//! The server API: what the application's backend may ask of the gateway, on the internal listener.
//!
//! Owns: its routes, its JSON, its keys. Must not know: dialects, sockets.

mod admin;
mod archive;
pub mod calls;
mod conversations;
pub(super) mod errors;
mod explain;
mod import;
mod input;
mod messages;
mod once;
mod presence;
mod publish;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use serde::Serialize;
use subtle::{Choice, ConstantTimeEq};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use errors::{ApiError, Code, Told};

use super::reply;
use crate::journal::Refused;
use crate::node::Node;

/// The server API's routes, and their description.
pub(super) fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::default()
        .routes(routes!(conversations::create))
        .routes(routes!(conversations::get, conversations::update, conversations::delete))
        .routes(routes!(import::import))
        .routes(routes!(messages::list, messages::send))
        .routes(routes!(publish::publish))
        .routes(routes!(presence::one))
        .routes(routes!(presence::many))
        .routes(routes!(admin::disconnect))
        .routes(routes!(admin::revoke))
        .routes(routes!(admin::maintenance))
        .routes(routes!(admin::nodes))
        .routes(routes!(explain::explain))
        .routes(routes!(archive::get))
        .routes(routes!(archive::retry))
        .routes(routes!(archive::backfill))
        .routes(routes!(webhooks::get))
        .routes(routes!(webhooks::retry))
}

/// The server API's routes, behind its keys.
pub(super) fn router(node: &Arc<Node>) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
        .method_not_allowed_fallback(wrong_method)
        .route_layer(middleware::from_fn_with_state(node.clone(), guard))
        .with_state(node.clone())
}

/// Addresses of the internal listener that are none.
pub async fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing at this address")
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, "this address has no such method")
}

/// Lets in who presents one of the keys. Without configured keys nobody is.
async fn guard(State(node): State<Arc<Node>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = header.and_then(|value| value.split_once(' '));
    let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let known = presented.is_some_and(|(_, key)| is_one_of(key.trim(), &node.config.load().api_keys));
    if !known {
        node.metrics.refused(None, "api_key");
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "an API key is needed"));
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    note(&node, &what, &response);
    Ok(response)
}

/// For whoever asks afterwards: which call was refused under which id.
fn note(node: &Node, what: &str, response: &Response) {
    let Some(Told { id, code, why }) = response.extensions().get::<Told>().cloned() else { return };
    node.journal.refused(Refused::over_http(id, node.clock.now(), what, (code, why)));
}

/// Every key is compared, whole: the time taken says nothing about how near a guess was.
fn is_one_of(presented: &str, keys: &[String]) -> bool {
    let matches =
        keys.iter().fold(Choice::from(0), |any, key| any | key.as_bytes().ct_eq(presented.as_bytes()));
    !presented.is_empty() && bool::from(matches)
}

/// What every handler returns.
type Answer = Result<Response, ApiError>;

/// What carrying out a call comes to, however it came.
type Done<T> = Result<(StatusCode, T), ApiError>;

fn answer(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(reply::json(status, bytes)),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_one_of;

    #[test]
    fn only_whole_keys_open() {
        let keys = ["first-key".to_owned(), "second-key".to_owned()];
        assert!(is_one_of("first-key", &keys) && is_one_of("second-key", &keys));
        for wrong in ["", "first-ke", "first-keyy", "FIRST-KEY", "first-key,second-key"] {
            assert!(!is_one_of(wrong, &keys), "{wrong}");
        }
        assert!(!is_one_of("", &[String::new()]));
        assert!(!is_one_of("any", &[]));
    }
}
