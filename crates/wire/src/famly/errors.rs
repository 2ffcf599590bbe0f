//! Refusals in famly's words: the codes of error acks, and the messages of refused connections.

use parlance_model::{Reject, RejectCode};
use serde::Serialize;

use super::text;
use crate::codec::Refusal;

/// What a client is told while a retry may succeed later; the dialect has no code of its own for it.
const UNAVAILABLE: &str = "Service temporarily unavailable";
/// How a connection without a token is turned down.
const NO_TOKEN: &str = "Authentication token required";
/// How a connection is turned down whose token is not accepted, whatever the reason.
const BAD_TOKEN: &str = "Authentication failed";

/// The dialect's code.
pub(crate) const fn code(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Malformed
        | RejectCode::UnknownEvent
        | RejectCode::MissingField
        | RejectCode::InvalidField
        | RejectCode::TooLarge => "VALIDATION_ERROR",
        RejectCode::Unauthenticated
        | RejectCode::InvalidToken
        | RejectCode::TokenExpired
        | RejectCode::TokenExpiring => "UNAUTHORIZED",
        RejectCode::Forbidden | RejectCode::Denied => "FORBIDDEN",
        RejectCode::NotFound | RejectCode::UnknownChannel => "NOT_FOUND",
        RejectCode::RateLimited
        | RejectCode::TooManyConnections
        | RejectCode::LimitReached
        | RejectCode::InProgress => "RATE_LIMITED",
        RejectCode::Unavailable | RejectCode::Maintenance | RejectCode::Internal => "INTERNAL",
    }
}

/// What people are told.
pub(crate) fn message(reject: &Reject) -> &str {
    match reject.code {
        RejectCode::Unavailable | RejectCode::Maintenance => UNAVAILABLE,
        _ => &reject.message,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// CONNECT_ERROR. The two documented refusals carry a message only; the others, which the document does not
/// know, carry a code as well, so that a client can tell "try later" from "log in again".
pub(super) fn refusal(reject: &Reject) -> Refusal {
    match reject.code {
        RejectCode::Unauthenticated => Refusal::Error(NO_TOKEN.to_owned(), None),
        RejectCode::InvalidToken | RejectCode::TokenExpired | RejectCode::TokenExpiring => {
            Refusal::Error(BAD_TOKEN.to_owned(), None)
        }
        other => {
            let data = Data { code: code(other), retry_after_ms: reject.retry_after_ms };
            Refusal::Error(message(reject).to_owned(), Some(text(&data)))
        }
    }
}
