//! Errors of the server API: `{"error":{"code","message","correlationId"}}`.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parlance_backplane::Fault;
use parlance_model::{Reject, RejectCode};
use serde_json::json;

use crate::http::reply;

/// A refused or failed call.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retry_after_ms: Option<u64>,
}

impl ApiError {
    /// An error with its HTTP status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), retry_after_ms: None }
    }

    /// The call itself is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
    }

    /// What it is about is not there.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// A fault of ours: the cause goes to the log, not to the caller.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        tracing::error!(%cause, "server API");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error")
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        tracing::warn!(%fault, "server API");
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
            "temporarily unavailable; the call may be repeated",
        );
        error.retry_after_ms = Some(1_000);
        error
    }
}

impl From<Reject> for ApiError {
    fn from(reject: Reject) -> Self {
        let (status, code) = match reject.code {
            RejectCode::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN"),
            RejectCode::NotFound | RejectCode::UnknownChannel => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            RejectCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
            RejectCode::RateLimited | RejectCode::TooManyConnections | RejectCode::LimitReached => {
                (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED")
            }
            RejectCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE"),
            RejectCode::Maintenance => (StatusCode::SERVICE_UNAVAILABLE, "MAINTENANCE"),
            RejectCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
            _ => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        };
        Self { status, code, message: reject.message, retry_after_ms: reject.retry_after_ms }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let id = uuid::Uuid::new_v4().simple().to_string();
        tracing::info!(status = self.status.as_u16(), code = self.code, correlation_id = %id, "server API refused");
        let error = json!({ "code": self.code, "message": self.message, "correlationId": id });
        let mut response = reply::json(self.status, json!({ "error": error }).to_string());
        if let Some(ms) = self.retry_after_ms {
            reply::retry_after(&mut response, ms.div_ceil(1000).max(1));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
