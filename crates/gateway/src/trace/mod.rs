//! Tracing of single messages: accepted here, appended to its log, delivered by every node that has somebody to tell.
//! What is sampled is decided once, when a message is accepted, and travels with its record.
//!
//! Owns: which spans there are, and what they say: never who, where or what. Must not know: protocols of clients.
//! Without the cargo feature `otel` everything here is nothing ([`none`]).

#[cfg(feature = "otel")]
mod budget;
#[cfg(feature = "otel")]
mod export;
#[cfg(feature = "otel")]
mod live;
#[cfg(not(feature = "otel"))]
mod none;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use parlance_backplane::{Appended, Fault, Posted};
use parlance_model::{Accepted, Answer, MessageId, Reject, Time};

#[cfg(feature = "otel")]
pub use live::{Accept, Mark, Parent, Tracing, begin, delivered};
#[cfg(not(feature = "otel"))]
pub use none::{Accept, Mark, Parent, Tracing, begin, delivered};

use crate::metrics::word;
use crate::node::Node;

/// What became of something, in one word, and where it is.
pub type Outcome = (&'static str, Option<(MessageId, Time)>);

/// Of a client's send.
pub fn of_answer(done: &Result<Answer, Reject>) -> Outcome {
    match done {
        Ok(Answer::Accepted(accepted)) => of_accepted(Ok(accepted)),
        Ok(_) => ("done", None),
        Err(reject) => of_accepted(Err(reject)),
    }
}

/// Of a send.
pub const fn of_accepted(done: Result<&Accepted, &Reject>) -> Outcome {
    match done {
        Ok(accepted) => (stored(accepted.fresh), Some((accepted.id, accepted.at))),
        Err(reject) => (word(reject.code), None),
    }
}

/// Of the log's answer.
pub const fn of_appended(done: &Result<Appended, Fault>) -> Outcome {
    match done {
        Ok(Appended::New(place)) => ("stored", Some((place.id, place.at))),
        Ok(Appended::Duplicate(place)) => ("duplicate", Some((place.id, place.at))),
        Ok(Appended::NotMember | Appended::NoConversation) => ("refused", None),
        Err(_) => ("unavailable", None),
    }
}

/// Of the log's answer to an application.
pub const fn of_posted(done: &Result<Posted, Fault>) -> Outcome {
    match done {
        Ok(posted) => (stored(posted.fresh), Some((posted.stored.id, posted.stored.at))),
        Err(_) => ("unavailable", None),
    }
}

const fn stored(fresh: bool) -> &'static str {
    if fresh { "stored" } else { "duplicate" }
}

/// Sends out what is still to be exported, when a node stops.
pub async fn flush(node: &Arc<Node>) {
    node.tracing.flush().await;
}

impl<S: Sync> FromRequestParts<S> for Parent {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of_call(&parts.headers))
    }
}
