//! Errors of the server API: `{"error":{"code","message","correlationId"}}`.
//!
//! Owns: which code goes with which status. Must not know: which call failed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parlance_backplane::Fault;
use parlance_model::{Reject, RejectCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::reply;

/// What kind of refusal it is; to be told apart by programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The call itself is wrong (400).
    InvalidRequest,
    /// No key, or none of the configured ones (401).
    Unauthorized,
    /// The sender is not a member (403).
    Forbidden,
    /// What the call is about is not there, or the address is none (404).
    NotFound,
    /// The address has no such method (405).
    MethodNotAllowed,
    /// The body took too long to arrive (408).
    Timeout,
    /// The number belongs to another conversation, or the conversation has another one (409).
    NumberTaken,
    /// The idempotency key came with another call (409).
    KeyReused,
    /// One is under way already (409).
    AlreadyRunning,
    /// The body, or a part of it, is beyond its limit (413).
    PayloadTooLarge,
    /// The body is of another kind than the call takes (415).
    UnsupportedMediaType,
    /// Too much of it (429).
    RateLimited,
    /// A fault of the gateway's own (500).
    InternalError,
    /// Something the gateway needs is away (503).
    ServiceUnavailable,
    /// Maintenance is on (503).
    Maintenance,
}

impl Code {
    /// The word, as callers are told it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Timeout => "TIMEOUT",
            Self::NumberTaken => "NUMBER_TAKEN",
            Self::KeyReused => "KEY_REUSED",
            Self::AlreadyRunning => "ALREADY_RUNNING",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::RateLimited => "RATE_LIMITED",
            Self::InternalError => "INTERNAL_ERROR",
            Self::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Self::Maintenance => "MAINTENANCE",
        }
    }
}

/// What a caller was told, for whoever notes it: goes along with the answer, not in it.
#[derive(Clone)]
pub struct Told {
    /// The correlation id.
    pub id: Arc<str>,
    /// The code.
    pub code: &'static str,
    /// For people.
    pub why: Cow<'static, str>,
}

/// A refused or failed call.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Code,
    message: Cow<'static, str>,
    retry_after_ms: Option<u64>,
}

/// The body of every refusal.
#[derive(Serialize, ToSchema)]
pub struct Refusal {
    /// What was refused, and why.
    error: RefusalDetail,
}

/// What was refused, and why.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusalDetail {
    code: Code,
    /// For people; its wording may change.
    message: Cow<'static, str>,
    /// The gateway's log names the refusal by it.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    correlation_id: String,
}

impl ApiError {
    /// An error with its HTTP status.
    pub fn new(status: StatusCode, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), retry_after_ms: None }
    }

    /// The call itself is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, message)
    }

    /// What it is about is not there.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// The call, or a part of it, is beyond its limit.
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge, message)
    }

    /// It does not go together with what is there.
    pub fn conflict(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// A fault of ours: the cause goes to the log, not to the caller.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        tracing::error!(%cause, "server API");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError, "internal error")
    }

    /// The same, with when to come back.
    pub(super) const fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        tracing::warn!(%fault, "server API");
        let message = "temporarily unavailable; the call may be repeated";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::ServiceUnavailable, message).retry_after(1_000)
    }
}

impl From<Reject> for ApiError {
    fn from(reject: Reject) -> Self {
        let (status, code) = match reject.code {
            RejectCode::Forbidden | RejectCode::Denied => (StatusCode::FORBIDDEN, Code::Forbidden),
            RejectCode::NotFound | RejectCode::UnknownChannel => (StatusCode::NOT_FOUND, Code::NotFound),
            RejectCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge),
            RejectCode::RateLimited | RejectCode::TooManyConnections | RejectCode::LimitReached => {
                (StatusCode::TOO_MANY_REQUESTS, Code::RateLimited)
            }
            RejectCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::ServiceUnavailable),
            RejectCode::Maintenance => (StatusCode::SERVICE_UNAVAILABLE, Code::Maintenance),
            RejectCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError),
            _ => (StatusCode::BAD_REQUEST, Code::InvalidRequest),
        };
        Self { status, code, message: reject.message, retry_after_ms: reject.retry_after_ms }
    }
}

impl ApiError {
    /// Says it in the log, under an id of its own.
    pub(super) fn logged(&self) -> Told {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (status, code, why) = (self.status.as_u16(), self.code.as_str(), &*self.message);
        if self.status.is_server_error() {
            tracing::warn!("correlationId" = id, status, code, why, "server API failed");
        } else {
            tracing::info!("correlationId" = id, status, code, why, "server API refused");
        }
        Told { id: id.into(), code, why: self.message.clone() }
    }

    /// Whether the same call would be refused again: nothing is away, and there is not too much of it.
    pub(super) fn is_final(&self) -> bool {
        self.status.is_client_error() && self.status != StatusCode::TOO_MANY_REQUESTS
    }

    /// For people.
    pub(super) fn why(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let told = self.logged();
        let detail =
            RefusalDetail { code: self.code, message: self.message, correlation_id: told.id.to_string() };
        // Strings and nothing else: there is nothing in it that could not be written.
        let body = serde_json::to_string(&Refusal { error: detail }).unwrap_or_default();
        let mut response = reply::json(self.status, body);
        response.extensions_mut().insert(told);
        if let Some(ms) = self.retry_after_ms {
            reply::retry_after(&mut response, ms.div_ceil(1000).max(1));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
