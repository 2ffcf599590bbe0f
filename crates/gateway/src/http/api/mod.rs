//! The server API: what the application's backend may ask of the gateway, on the internal listener.
//!
//! Owns: its routes, its JSON, its keys. Must not know: dialects, sockets.

mod admin;
mod conversations;
mod errors;
mod input;
mod messages;
mod presence;
mod publish;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Serialize;
use subtle::{Choice, ConstantTimeEq};

use errors::ApiError;

use super::reply;
use crate::node::Node;

/// The server API's routes, behind its keys.
pub fn router(node: &Arc<Node>) -> Router {
    let one = get(conversations::get).patch(conversations::update).delete(conversations::delete);
    let messages = get(messages::list).post(messages::send);
    Router::new()
        .route("/api/v1/conversations", post(conversations::create))
        .route("/api/v1/conversations/{id}", one)
        .route("/api/v1/conversations/{id}/messages", messages)
        .route("/api/v1/publish", post(publish::publish))
        .route("/api/v1/users/{id}/presence", get(presence::one))
        .route("/api/v1/users/{id}/disconnect", post(admin::disconnect))
        .route("/api/v1/presence", post(presence::many))
        .route("/api/v1/tokens/revoke", post(admin::revoke))
        .route("/api/v1/maintenance", put(admin::maintenance))
        .route("/api/v1/nodes", get(admin::nodes))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(middleware::from_fn_with_state(node.clone(), guard))
        .with_state(node.clone())
}

/// Addresses of the internal listener that are none.
pub async fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing at this address")
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this address has no such method")
}

/// Lets in who presents one of the keys. Without configured keys nobody is.
async fn guard(State(node): State<Arc<Node>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = header.and_then(|value| value.split_once(' '));
    let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let known = presented.is_some_and(|(_, key)| is_one_of(key.trim(), &node.config.load().api_keys));
    if known {
        return Ok(next.run(request).await);
    }
    node.metrics.refused("-", "api_key");
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "an API key is needed"))
}

/// Every key is compared, whole: the time taken says nothing about how near a guess was.
fn is_one_of(presented: &str, keys: &[String]) -> bool {
    let matches =
        keys.iter().fold(Choice::from(0), |any, key| any | key.as_bytes().ct_eq(presented.as_bytes()));
    !presented.is_empty() && bool::from(matches)
}

/// What every handler returns.
type Answer = Result<Response, ApiError>;

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
