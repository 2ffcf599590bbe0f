//! Calls with an `Idempotency-Key`: carried out once, and answered the same again, by whichever node is asked.
//!
//! Owns: how a key is claimed and remembered. Must not know: what a call does.
//!
//! A key is claimed before the call is carried out, and its answer kept afterwards. A node that dies between the two leaves
//! a claim that soon ends: then a repetition is carried out, though the first call may have been too. So a key makes a
//! repetition harmless but for that case; nothing is ever lost by it.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parlance_backplane::Over;
use parlance_model::is_house_id;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::errors::{ApiError, Code};
use crate::node::Node;

const HEADER: &str = "idempotency-key";
/// How long an answer is given again.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a call may take before its key is free again.
const CLAIMED: Duration = Duration::from_secs(60);

/// The key of a call, if it has one.
pub struct Key(Option<String>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        let key = value.to_str().ok().filter(|key| is_house_id(key));
        let wrong = || ApiError::invalid("Idempotency-Key is 1 to 128 characters of A-Z a-z 0-9 _ : . @ -");
        key.map(|key| Self(Some(key.to_owned()))).ok_or_else(wrong)
    }
}

/// What is kept under a key.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// Of which call: a key that comes with another one is a mistake of the caller's.
    call: String,
    /// Absent while the call is being carried out.
    answer: Option<T>,
}

impl<T: Serialize> Kept<T> {
    fn bytes(&self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(self).map_err(|error| ApiError::internal(&error))
    }
}

/// The answer of a call, and whether it was carried out now. `call` tells it from others.
///
/// Whoever awaits this must go through with it: see the module's note on what is left behind otherwise.
pub async fn once<T, F>(node: &Node, key: Key, call: String, act: F) -> Result<(T, bool), ApiError>
where
    T: Serialize + DeserializeOwned,
    F: Future<Output = Result<T, ApiError>>,
{
    let Key(Some(key)) = key else { return Ok((act.await?, true)) };
    let shared = &node.backplane.shared;
    let name = format!("once:{key}");
    let claim = Kept::<T> { call, answer: None };
    if !shared.keep(&name, claim.bytes()?, Some(CLAIMED), Over::This(None)).await? {
        return again(node, &name, &claim.call).await.map(|answer| (answer, false));
    }
    let answer = match act.await {
        Ok(answer) => answer,
        Err(refused) => {
            if let Err(fault) = shared.remove(&name).await {
                tracing::warn!(%fault, "an idempotency key stays claimed for a while");
            }
            return Err(refused);
        }
    };
    let kept = Kept { answer: Some(answer), ..claim };
    if let Err(fault) = shared.keep(&name, kept.bytes()?, Some(REMEMBERED), Over::Anything).await {
        // It is done, and saying otherwise would only bring about a repetition.
        tracing::warn!(%fault, "an idempotency key is not remembered");
    }
    kept.answer.map(|answer| (answer, true)).ok_or_else(|| ApiError::internal(&"an answer is gone"))
}

async fn again<T: DeserializeOwned>(node: &Node, name: &str, call: &str) -> Result<T, ApiError> {
    let kept = node.backplane.shared.load(name).await?;
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept<T>>(&bytes).ok());
    match kept {
        Some(kept) if kept.call != call => {
            Err(ApiError::conflict(Code::KeyReused, "this idempotency key came with another call before"))
        }
        Some(Kept { answer: Some(answer), .. }) => Ok(answer),
        _ => {
            let message = "the call with this idempotency key is being carried out";
            Err(ApiError::conflict(Code::InProgress, message).retry_after(1_000))
        }
    }
}
