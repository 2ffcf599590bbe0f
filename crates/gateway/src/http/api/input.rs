//! Reading calls: bodies and queries with unknown fields refused, ids checked.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parlance_model::{ConversationId, RawJson, UserId};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_json::value::RawValue;

use super::errors::{ApiError, Code};
use crate::node::Node;

/// Said of a number that has to be.
const NOT_WHOLE: &str = "not a whole number from 0";
/// What is said of a field's name is not longer, in bytes.
const LONGEST_TOLD: usize = 512;

/// A JSON body; none counts as `null`.
pub struct Input<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Node>> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, node: &Arc<Node>) -> Result<Self, ApiError> {
        let (limit, within) = {
            let limits = &node.config.load().limits;
            (limits.http_body_bytes, Duration::from_millis(limits.message_ms))
        };
        let read = Limited::new(request.into_body(), limit).collect();
        let read = tokio::time::timeout(within, read).await.map_err(|_| {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, "the body took too long to arrive")
        })?;
        let bytes = match read {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(body_too_large(limit));
            }
            Err(_) => return Err(ApiError::invalid("the body broke off")),
        };
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        json(text).map(Self)
    }
}

/// A body.
pub fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    // serde would take a list for the members in their order.
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("the body is no JSON object"));
    }
    serde_json::from_slice(text).map_err(|error| ApiError::invalid(told(&error)))
}

/// What is wrong with JSON and where, without anything that it says: bodies are in no log. Names of fields are told, and what
/// should have been there.
pub fn told(error: &serde_json::Error) -> String {
    let all = error.to_string();
    // What serde_json says of text that is no JSON quotes nothing of it.
    if !error.is_data() || all.starts_with(NOT_WHOLE) {
        return all;
    }
    let named =
        ["unknown field", "missing field", "duplicate field"].iter().any(|what| all.starts_with(what));
    if named && all.len() <= LONGEST_TOLD {
        return all;
    }
    let whats = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    let what = whats.into_iter().find(|what| all.starts_with(what)).unwrap_or("it does not fit");
    // What was found is in front of it; behind it only what the program was written with.
    match all.rsplit_once(", expected ") {
        Some((_, expected)) if what != "it does not fit" => format!("{what}, expected {expected}"),
        _ => format!("{what} at line {} column {}", error.line(), error.column()),
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

/// The refusal of a body that is.
pub fn body_too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("the body is larger than {limit} bytes"))
}

impl Named {
    /// One that did not come in an address.
    pub fn of(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// As it is.
    pub fn text(self) -> String {
        self.0
    }

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

/// A whole number; JSON knows no other kind of number, so `7.0` is one too.
pub fn whole<'de, D: Deserializer<'de>>(field: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(field)? else { return Ok(None) };
    // Above this not every whole number has a float of its own.
    let float =
        || number.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(f));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and within these limits"
    )]
    let whole = number.as_u64().or_else(|| float().map(|f| f as u64));
    whole.map(Some).ok_or_else(|| D::Error::custom(NOT_WHOLE))
}

/// A text for people, of at most so many characters.
pub fn short(name: &str, text: String, longest: usize) -> Result<String, ApiError> {
    if text.chars().nth(longest).is_some() {
        return Err(ApiError::invalid(format!("{name} is longer than {longest} characters")));
    }
    Ok(text)
}

/// JSON to be carried through, not too deep and not too large.
pub fn raw(node: &Node, name: &str, value: &RawValue) -> Result<RawJson, ApiError> {
    let limits = &node.config.load().limits;
    if value.get().len() > limits.body_bytes {
        return Err(ApiError::too_large(format!("{name} is larger than {} bytes", limits.body_bytes)));
    }
    RawJson::new(value.get(), limits.json_depth)
        .map_err(|error| ApiError::invalid(format!("{name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Call {
        text: String,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default, deserialize_with = "whole")]
        number: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Dm,
        Group,
    }

    #[test]
    fn what_is_wrong_is_told_without_what_the_body_says() {
        let said = |text: &str| serde_json::from_str::<Call>(text).map_err(|error| told(&error)).unwrap_err();
        for (text, why) in [
            (
                r#""{\"text\":\"hush, expected hush\"}""#,
                "invalid type, expected struct Call at line 1 column ",
            ),
            (r#"{"text":["hush"]}"#, "invalid type, expected a string at line 1 column "),
            (r#"{"text":"a","kind":"hush"}"#, "unknown variant, expected `dm` or `group` at line 1 column "),
            (r#"{"text":"a","number":-1717}"#, "not a whole number from 0 at line 1 column "),
            (
                r#"{"text":"a","more":"hush"}"#,
                "unknown field `more`, expected one of `text`, `kind`, `number`",
            ),
            (r#"{"kind":"dm"}"#, "missing field `text` at line 1 column "),
            (r#"{"text":"a","text":"hush"}"#, "duplicate field `text` at line 1 column "),
            (r#"{"text":"hush"#, "EOF while parsing a string at line 1 column "),
        ] {
            let said = said(text);
            assert!(
                said.starts_with(why) && !said.contains("hush") && !said.contains("1717"),
                "{text}: {said}"
            );
        }
        assert!(!said(&format!(r#"{{"text":"a","{}":1}}"#, "hush".repeat(200))).contains("hush"));
    }
}
