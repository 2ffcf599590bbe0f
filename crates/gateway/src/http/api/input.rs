//! Reading calls: bodies and queries with unknown fields refused, ids checked.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parlance_model::{ConversationId, RawJson, UserId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::errors::ApiError;
use crate::node::Node;

/// A body must be there within this.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A JSON body; an empty one counts as `{}`.
pub struct Input<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Node>> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, node: &Arc<Node>) -> Result<Self, ApiError> {
        let limit = node.config.load().limits.http_body_bytes;
        let read = Limited::new(request.into_body(), limit).collect();
        let read = tokio::time::timeout(BODY_TIME, read).await.map_err(|_| {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", "the body took too long to arrive")
        })?;
        let bytes = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("the body is larger than {limit} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text));
            }
            Err(_) => return Err(ApiError::invalid("the body broke off")),
        };
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| ApiError::invalid(error.to_string()))
    }
}

/// A query string.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Node>> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Node>) -> Result<Self, ApiError> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|error| ApiError::invalid(error.body_text()))
    }
}

/// The id in the address.
pub struct Named(String);

impl FromRequestParts<Arc<Node>> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, ApiError> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, node).await;
        path.map(|Path(id)| Self(id)).map_err(|error| ApiError::invalid(error.body_text()))
    }
}

impl Named {
    /// As a conversation's.
    pub fn conversation(&self) -> Result<ConversationId, ApiError> {
        conversation(&self.0)
    }

    /// As a user's.
    pub fn user(&self) -> Result<UserId, ApiError> {
        user(&self.0)
    }
}

/// A conversation id of the house pattern.
pub fn conversation(text: &str) -> Result<ConversationId, ApiError> {
    ConversationId::parse(text).map_err(|error| ApiError::invalid(error.to_string()))
}

/// A user id of the house pattern.
pub fn user(text: &str) -> Result<UserId, ApiError> {
    UserId::parse(text).map_err(|error| ApiError::invalid(error.to_string()))
}

/// User ids of the house pattern, each once.
pub fn users(texts: &[String]) -> Result<Vec<UserId>, ApiError> {
    let mut seen = rustc_hash::FxHashSet::default();
    let all = texts.iter().filter(|text| seen.insert(text.as_str()));
    all.map(|text| user(text)).collect()
}

/// JSON to be carried through, not too deep and not too large.
pub fn raw(node: &Node, name: &str, value: &RawValue) -> Result<RawJson, ApiError> {
    let limits = &node.config.load().limits;
    if value.get().len() > limits.body_bytes {
        let text = format!("{name} is larger than {} bytes", limits.body_bytes);
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text));
    }
    RawJson::new(value.get(), limits.json_depth)
        .map_err(|error| ApiError::invalid(format!("{name}: {error}")))
}
