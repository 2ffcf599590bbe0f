//! What the application's backend is asked, and what its answer means.
//!
//! Owns: the JSON of both. Must not know: how it is asked, how long an answer is good. Never in a question: what a message
//! says, a token, a client's address.

use std::sync::Arc;

use hyper::StatusCode;
use parlance_model::{ConversationId, Identity, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::{Action, Membership, Mount};
use crate::outbound::Answer;

/// Characters of a reason that a client is told.
const LONGEST_REASON: usize = 200;

/// What a backend decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may.
    Allowed,
    /// It may not, for a reason that the client is told.
    Denied(Option<Arc<str>>),
}

/// A decision, and for how many milliseconds the backend means it.
pub(super) type Ruling = (Decision, Option<u64>);

/// A question about a user.
#[derive(Debug, Serialize)]
pub(crate) struct Question<'a> {
    pub(super) action: Action,
    user: &'a str,
    mount: &'a str,
    dialect: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<&'a str>,
    /// Whether the user is in it already.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<bool>,
    /// Who would be in a conversation that would be created.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a RawValue>,
    /// Nothing but a yes lets the user in.
    #[serde(skip)]
    by_callback: bool,
}

#[derive(Deserialize)]
struct Said {
    allow: bool,
    reason: Option<String>,
    ttl_ms: Option<u64>,
}

impl<'a> Question<'a> {
    pub(crate) fn new(action: Action, mount: &'a Mount, identity: &'a Identity) -> Self {
        // Made by this program of a token's claims: it is JSON.
        let claims = identity.claims.as_ref().and_then(|claims| serde_json::from_str(claims.as_str()).ok());
        Self {
            action,
            user: identity.user.as_str(),
            mount: &mount.name,
            dialect: mount.spoken().as_str(),
            conversation: None,
            member: None,
            members: None,
            claims,
            by_callback: mount.membership == Membership::Callback,
        }
    }

    /// About a conversation that the user is in.
    pub(crate) fn inside(mut self, conversation: &'a ConversationId) -> Self {
        (self.conversation, self.member) = (Some(conversation.as_str()), Some(true));
        self
    }

    /// About one that the user would come into; `members` of one that would be created.
    pub(crate) fn into(mut self, conversation: &'a ConversationId, members: Option<&'a [UserId]>) -> Self {
        (self.conversation, self.member) = (Some(conversation.as_str()), Some(false));
        self.members = members.map(|members| members.iter().map(UserId::as_str).collect());
        self
    }

    /// Whether a yes changes who is in a conversation: it is for this once.
    pub(super) fn lets_in(&self) -> bool {
        self.member == Some(false)
    }

    /// Whether nobody may take silence for a yes: membership would rest on it.
    pub(super) fn needs_a_word(&self) -> bool {
        self.lets_in() && self.by_callback
    }
}

/// What an answer says; `None`: it is none.
pub(super) fn read(answer: &Answer) -> Result<Ruling, String> {
    if !answer.status.is_success() || answer.status == StatusCode::NO_CONTENT {
        return Err(format!("status {}", answer.status.as_u16()));
    }
    let said: Said = serde_json::from_slice(&answer.body).map_err(|_| "no `{\"allow\":…}`".to_owned())?;
    let decision = match said.allow {
        true => Decision::Allowed,
        false => Decision::Denied(said.reason.as_deref().and_then(shown)),
    };
    Ok((decision, said.ttl_ms))
}

/// A reason as people may be shown it; `None` when there is nothing to show.
fn shown(reason: &str) -> Option<Arc<str>> {
    let plain = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = plain.take(LONGEST_REASON).collect();
    let short = short.trim();
    (!short.is_empty()).then(|| short.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn said(status: u16, body: &str) -> Result<Ruling, String> {
        let status = StatusCode::from_u16(status).unwrap();
        read(&Answer { status, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    #[test]
    fn only_a_clear_word_is_an_answer() {
        assert_eq!(said(200, r#"{"allow":true}"#), Ok((Decision::Allowed, None)));
        assert_eq!(said(201, r#"{"allow":true,"ttl_ms":5,"more":[1]}"#), Ok((Decision::Allowed, Some(5))));
        assert_eq!(said(200, r#"{"allow":false}"#), Ok((Decision::Denied(None), None)));
        for (status, body) in [
            (200, ""),
            (200, "true"),
            (200, "[]"),
            (200, "{}"),
            (200, r#"{"allow":"true"}"#),
            (200, r#"{"allow":1}"#),
            (200, r#"{"allow":null}"#),
            (200, r#"{"allow":true,"allow":true}"#),
            (200, r#"{"allow":true,"ttl_ms":-1}"#),
            (200, r#"{"allow":true,"reason":{}}"#),
            (200, r#"{"allow":true} {}"#),
            (204, r#"{"allow":true}"#),
            (302, r#"{"allow":true}"#),
            (403, r#"{"allow":true}"#),
            (500, r#"{"allow":false}"#),
        ] {
            assert!(said(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn a_reason_is_short_and_plain() {
        let reason = |text: &str| {
            let body = serde_json::json!({ "allow": false, "reason": text }).to_string();
            let Ok((Decision::Denied(reason), _)) = said(200, &body) else { panic!("{body}") };
            reason
        };
        assert_eq!(reason("banned\r\nSet-Cookie: x").as_deref(), Some("banned  Set-Cookie: x"));
        assert_eq!(reason(" \n"), None);
        assert_eq!(reason(&"ü".repeat(500)).unwrap().chars().count(), LONGEST_REASON);
    }
}
