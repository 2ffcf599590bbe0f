//! Calls with an `Idempotency-Key`: which call a key is of.
//!
//! Owns: that a key that comes with another call is refused, by whichever node is asked. That the call itself is carried out
//! once is the log's doing, in one step with the call ([`Key::name`]): so nothing is left half done by a node that dies, by a
//! caller that goes away, or by an answer of the engine that nobody waited for. Must not know: what a call does.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parlance_backplane::Over;
use parlance_model::is_house_id;

use super::errors::{ApiError, Code};
use crate::node::Node;

const HEADER: &str = "idempotency-key";
/// How long a key is of one call; logs remember names at least as long.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The key of a call, if it has one.
pub struct Key(Option<String>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wrong = || ApiError::invalid("Idempotency-Key is 1 to 128 characters of A-Z a-z 0-9 _ : . @ -");
        let mut values = parts.headers.get_all(HEADER).iter();
        let (Some(value), another) = (values.next(), values.next()) else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| is_house_id(key) && another.is_none());
        key.map(|key| Self(Some(key.to_owned()))).ok_or_else(wrong)
    }
}

impl Key {
    /// That of a call which did not come over HTTP.
    pub fn of(key: &str) -> Self {
        Self(Some(key.to_owned()))
    }

    /// Under which name the log stores this call once; `call` tells it from others. Refused when the key is another's.
    pub async fn name(&self, node: &Node, call: &str) -> Result<Option<String>, ApiError> {
        let Some(key) = &self.0 else { return Ok(None) };
        let (shared, at) = (&node.backplane.shared, format!("once:{key}"));
        let first = shared.keep(&at, call.into(), Some(REMEMBERED), Over::This(None)).await?;
        // Nothing there: it ended between the two.
        if !first && shared.load(&at).await?.is_some_and(|other| other != call.as_bytes()) {
            let message = "this idempotency key came with another call before";
            return Err(ApiError::conflict(Code::KeyReused, message));
        }
        Ok(Some(format!("{key} {call}")))
    }
}
