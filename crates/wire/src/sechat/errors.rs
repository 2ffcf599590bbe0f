//! Refusals in sechat's words: the `error` event and its codes.

use parlance_model::{Reject, RejectCode, Time};
use serde::Serialize;

use super::Frame;
use crate::Tag;

/// `details.event` where a frame had no readable type.
const UNKNOWN: &str = "unknown";

/// The dialect's code. It has none for "no such thing": the field that names it is invalid then.
pub(super) const fn code(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Malformed | RejectCode::UnknownEvent => "INVALID_EVENT",
        RejectCode::MissingField => "MISSING_FIELDS",
        RejectCode::InvalidField | RejectCode::UnknownChannel | RejectCode::NotFound => "INVALID_FIELD",
        RejectCode::Unauthenticated
        | RejectCode::InvalidToken
        | RejectCode::TokenExpired
        | RejectCode::TokenExpiring => "UNAUTHORIZED",
        RejectCode::Forbidden | RejectCode::Denied => "FORBIDDEN",
        RejectCode::RateLimited
        | RejectCode::TooManyConnections
        | RejectCode::LimitReached
        | RejectCode::InProgress => "RATE_LIMITED",
        RejectCode::TooLarge => "PAYLOAD_TOO_LARGE",
        RejectCode::Unavailable | RejectCode::Maintenance => "SERVICE_UNAVAILABLE",
        RejectCode::Internal => "INTERNAL_ERROR",
    }
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    event: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

/// The `error` event for a refused frame.
pub(super) fn error(tag: &Tag, reject: &Reject, now: Time) -> Option<Frame> {
    let event = if tag.event.is_empty() { UNKNOWN } else { &tag.event };
    let r#type = "error";
    let error = Error {
        r#type,
        code: code(reject.code),
        message: &reject.message,
        details: Details {
            event,
            timestamp: now.to_iso(),
            message_id: tag.reference.as_deref(),
            field: reject.field.as_deref(),
            retry_after_ms: reject.retry_after_ms,
            correlation_id: reject.correlation_id.as_deref(),
        },
    };
    super::frame(r#type, &error)
}
