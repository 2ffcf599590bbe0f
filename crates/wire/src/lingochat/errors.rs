//! Refusals in lingochat's words: people read them, so a refusal is one sentence.
//!
//! Owns: the sentences the protocol fixes. Must not know: why something is refused.

use parlance_model::{Reject, RejectCode};
use serde::Serialize;

use super::arg;
use crate::codec::{Emit, Refusal, Say};

/// What a client is told while nothing can be sent, whatever the cause: it may try again.
const UNAVAILABLE: &str = "Service temporarily unavailable";
/// How a token that is over is told, at CONNECT and on a connection that lives.
const EXPIRED: &str = "Token expired";
/// The claim a token without a usable subject is refused for.
const SUBJECT: &str = "sub";

#[derive(Serialize)]
struct Failure<'a> {
    success: bool,
    error: &'a str,
}

/// The `error` event, and the failure for whoever asked for an acknowledgement.
pub(super) fn refused(reject: &Reject) -> Vec<Say> {
    let error = sentence(reject);
    vec![
        Say::Emit(Emit::kept("error", vec![arg(error)])),
        Say::Ack(vec![arg(&Failure { success: false, error })]),
    ]
}

/// How a CONNECT is turned down: the application shows the message, and refreshes the token or not by it.
pub(super) fn connect(reject: &Reject) -> Refusal {
    let message = match reject.code {
        RejectCode::Unauthenticated => "Authentication token required",
        RejectCode::InvalidToken if reject.field.as_deref() == Some(SUBJECT) => {
            "Invalid token: missing user identification"
        }
        RejectCode::InvalidToken => "Invalid or expired token",
        _ => sentence(reject),
    };
    Refusal::Error(message.to_owned(), None)
}

fn sentence(reject: &Reject) -> &str {
    match reject.code {
        RejectCode::Unavailable | RejectCode::Maintenance => UNAVAILABLE,
        RejectCode::TokenExpired => EXPIRED,
        _ => &reject.message,
    }
}
