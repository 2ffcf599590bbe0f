//! Refusals in the words of the document's closed list of codes.
//!
//! Owns: the map from canonical refusals to that list, on the socket and over HTTP. Must not know: why the
//! gateway refuses.

use parlance_model::{Reject, RejectCode};
use serde::Serialize;

use crate::Tag;

/// Told when a refusal that passes by itself does not say when.
const DEFAULT_RETRY_MS: u64 = 1000;

/// The documented code. The list is closed, so several refusals share one.
pub const fn code(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Malformed
        | RejectCode::UnknownEvent
        | RejectCode::MissingField
        | RejectCode::InvalidField
        | RejectCode::TooLarge => "INVALID_MESSAGE",
        // One code for "not yours" and "not there": a stranger learns nothing about what exists.
        RejectCode::UnknownChannel | RejectCode::Forbidden | RejectCode::Denied | RejectCode::NotFound => {
            "CHANNEL_NOT_FOUND"
        }
        RejectCode::Unauthenticated => "MISSING_TOKEN",
        RejectCode::InvalidToken => "INVALID_TOKEN",
        RejectCode::TokenExpired | RejectCode::TokenExpiring => "TOKEN_EXPIRED",
        RejectCode::RateLimited | RejectCode::LimitReached | RejectCode::InProgress => "RATE_LIMITED",
        RejectCode::TooManyConnections => "MAX_CONNECTIONS",
        RejectCode::Unavailable | RejectCode::Maintenance | RejectCode::Internal => "INTERNAL_ERROR",
    }
}

/// The HTTP status the document gives that code.
pub const fn http_status(code: RejectCode) -> u16 {
    match code {
        RejectCode::Malformed
        | RejectCode::UnknownEvent
        | RejectCode::MissingField
        | RejectCode::InvalidField
        | RejectCode::TooLarge => 400,
        RejectCode::Unauthenticated
        | RejectCode::InvalidToken
        | RejectCode::TokenExpired
        | RejectCode::TokenExpiring => 401,
        RejectCode::Denied => 403,
        RejectCode::UnknownChannel | RejectCode::Forbidden | RejectCode::NotFound => 404,
        RejectCode::RateLimited
        | RejectCode::LimitReached
        | RejectCode::InProgress
        | RejectCode::TooManyConnections => 429,
        RejectCode::Unavailable | RejectCode::Maintenance | RejectCode::Internal => 500,
    }
}

/// The body of a refusal over HTTP, before the upgrade or of a poll: `{"error":…,"code":…}`. The three
/// token errors have documented texts; any other says `message`.
pub fn refusal_body(code: RejectCode, message: &str) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
        code: &'a str,
    }
    let error = match code {
        RejectCode::Unauthenticated => "missing token",
        RejectCode::InvalidToken => "invalid token",
        RejectCode::TokenExpired => "token expired",
        _ => message,
    };
    // Serialising two strings cannot fail.
    // The list is of channels' and messages' errors, and has nothing for somebody who may not come in.
    let code = if code == RejectCode::Denied { "FORBIDDEN" } else { self::code(code) };
    serde_json::to_string(&Body { error, code }).unwrap_or_default()
}

/// `{code,message,details}`: the payload of an `error` frame, and the `error` of a failed `ack`.
#[derive(Serialize)]
pub(super) struct Refusal<'a> {
    pub code: &'static str,
    pub message: &'a str,
    pub details: Details<'a>,
}

/// What a refusal says beyond its code.
#[derive(Serialize)]
pub(super) struct Details<'a> {
    #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
    pub kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<&'a str>,
}

impl<'a> Refusal<'a> {
    /// The refusal of the frame behind `tag`.
    pub fn new(tag: &'a Tag, reject: &'a Reject) -> Self {
        let hidden = matches!(reject.code, RejectCode::Forbidden | RejectCode::NotFound);
        let passes = matches!(
            reject.code,
            RejectCode::RateLimited | RejectCode::Unavailable | RejectCode::Maintenance
        );
        Self {
            code: code(reject.code),
            // The same text and details for both, or the difference would tell what exists.
            message: if hidden { "no access to this channel" } else { &reject.message },
            details: Details {
                kind: &tag.event,
                field: reject.field.as_deref().filter(|_| !hidden),
                client_id: tag.reference.as_deref(),
                retry_after_ms: reject.retry_after_ms.or(passes.then_some(DEFAULT_RETRY_MS)),
                correlation_id: reject.correlation_id.as_deref(),
            },
        }
    }
}
