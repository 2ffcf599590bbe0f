//! Answers of the HTTP listeners outside the server API: always JSON, never cached.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use parlance_model::{Reject, RejectCode};
use parlance_wire::socialhub;

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `{"error":…,"code":…}`, the shape of refusals on the public listener.
pub fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    json(status, serde_json::json!({ "error": message, "code": code }).to_string())
}

/// A refusal in the words clients know from the documented list of codes.
pub fn rejected(reject: &Reject) -> Response {
    let status = match reject.code {
        RejectCode::Unavailable | RejectCode::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        code => {
            StatusCode::from_u16(socialhub::http_status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    let mut response = json(status, socialhub::refusal_body(reject.code, &reject.message));
    if let Some(ms) = reject.retry_after_ms {
        retry_after(&mut response, ms.div_ceil(1000).max(1));
    }
    response
}

/// Says when to come back.
pub fn retry_after(response: &mut Response, seconds: u64) {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
}
