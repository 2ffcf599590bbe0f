//! Calls of the server API that do not come over HTTP: events of an outbox.
//!
//! Owns: which calls may come so, under which names, and what a refusal means for whoever brings them. The calls themselves are
//! those of the handlers beside it: the same checks, the same effects, the same refusals. Must not know: where they come from.

use std::sync::Arc;
use std::time::Duration;

use parlance_model::{Time, is_house_id};
use serde::Deserialize;

use super::errors::ApiError;
use super::input::{self, Named};
use super::once::Key;
use super::{admin, conversations, messages, publish};
use crate::journal::Refused;
use crate::node::Node;
use crate::trace::Parent;

/// Names of the calls.
pub const NAMES: [&str; 7] =
    ["message", "publish", "conversation", "change", "delete", "disconnect", "revoke"];

/// A call.
pub struct Call<'a> {
    /// One of [`NAMES`].
    pub name: &'a str,
    /// The id that its address would have, of those that have one.
    pub target: Option<&'a str>,
    /// Its body; empty: none. `None`: it is beyond `limits.http_body_bytes`.
    pub body: Option<&'a [u8]>,
    /// Its own: repeated with the same one it is carried out once, where it would do something twice.
    pub key: &'a str,
    /// When it was written down.
    pub at: Time,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is carried out; `fresh`: and had not been before, as far as that can be told.
    Done {
        /// Whether it did something.
        fresh: bool,
    },
    /// It is refused, and would be again.
    Refused {
        /// The code, as callers over HTTP are told it.
        code: &'static str,
        /// For people.
        why: String,
    },
    /// Something is away: nothing is known to be done, and it may be repeated.
    Later(String),
}

/// What has to go in order with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Of all calls about the same.
    pub name: String,
    /// It is not enough to go in order: a repetition of what was before it, or of it after what comes behind it, would do
    /// something else.
    pub alone: bool,
}

/// As much of a body as says what it is about.
#[derive(Default, Deserialize)]
struct About {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    user: Option<String>,
}

impl Call<'_> {
    /// What it is about. Of one that cannot be read: itself.
    pub fn lane(&self) -> Lane {
        let about = || {
            let body = self.body.unwrap_or_default();
            serde_json::from_slice::<About>(body).unwrap_or_default()
        };
        let name = match self.name {
            "message" | "change" | "delete" => self.target.map(|id| format!("conversation {id}")),
            // Without an id it is known as its key.
            "conversation" => Some(format!("conversation {}", about().id.as_deref().unwrap_or(self.key))),
            "disconnect" => self.target.map(|id| format!("user {id}")),
            "revoke" => about().user.map(|id| format!("user {id}")),
            "publish" => {
                let about = about();
                let user = about.user_id.map(|id| format!("user {id}"));
                user.or_else(|| about.channel.map(|channel| format!("channel {channel}")))
            }
            _ => None,
        };
        let name = name.unwrap_or_else(|| format!("key {}", self.key));
        Lane { name, alone: !matches!(self.name, "message" | "publish") }
    }

    /// How long carrying it out may take. Over HTTP a change of very many members has no end either.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if matches!(self.name, "conversation" | "change") { 120 } else { 10 })
    }

    /// Its address, where it has one.
    fn named(&self) -> Result<Named, ApiError> {
        let missing = || ApiError::invalid(format!("a {} needs a target", self.name));
        self.target.map(Named::of).ok_or_else(missing)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, node: &Node) -> Result<T, ApiError> {
        let limit = node.config.load().limits.http_body_bytes;
        let body = self.body.filter(|body| body.len() <= limit);
        let body = body.ok_or_else(|| input::body_too_large(limit))?;
        input::json(if body.is_empty() { b"null" } else { body })
    }

    async fn done(&self, node: &Arc<Node>) -> Result<bool, ApiError> {
        if !is_house_id(self.key) {
            return Err(ApiError::invalid("a key is 1 to 128 characters of A-Z a-z 0-9 _ : . @ -"));
        }
        let (addressed, parent) = (self.named(), Parent::default());
        if self.target.is_some() && matches!(self.name, "publish" | "conversation" | "revoke") {
            return Err(ApiError::invalid(format!("a {} has no target", self.name)));
        }
        match self.name {
            "message" => {
                let call: messages::MessageCall = self.read(node)?;
                let sent = messages::carry_out(node, &addressed?, &parent, call.known_as(self.key)).await?;
                Ok(sent.1.is_fresh())
            }
            "publish" => {
                let once = Key::of(self.key);
                let published = publish::carry_out(node, &once, &parent, self.read(node)?).await?;
                Ok(published.1.is_fresh())
            }
            "conversation" => {
                let call: conversations::ConversationCall = self.read(node)?;
                conversations::set(node, call.known_as(self.key)).await.map(|_| true)
            }
            "change" => conversations::change(node, &addressed?, self.read(node)?).await.map(|_| true),
            // Whether an earlier attempt removed it cannot be told: what is not there is removed.
            "delete" => conversations::remove(node, &addressed?).await,
            "disconnect" => admin::end(node, &addressed?, self.read(node)?).await.map(|_| true),
            "revoke" => {
                // Tokens that are still to come are not meant, whichever clock it was written down by.
                let said = self.at.min(node.clock.now());
                admin::withdraw(node, self.read(node)?, said).await.map(|_| true)
            }
            other => Err(ApiError::invalid(format!("there is no call {other:?}"))),
        }
    }

    /// Carries it out.
    pub async fn carry_out(&self, node: &Arc<Node>) -> Outcome {
        let error = match self.done(node).await {
            Ok(fresh) => return Outcome::Done { fresh },
            Err(error) => error,
        };
        if !error.is_final() {
            return Outcome::Later(error.why().to_owned());
        }
        // As of a call over HTTP: whoever asks afterwards finds it.
        let told = error.logged();
        let what = format!("outbox {} {}", self.name, self.target.unwrap_or_default());
        let why = format!("{} ({})", told.why, told.id);
        node.journal.refused(Refused::over_http(told.id, node.clock.now(), &what, (told.code, told.why)));
        Outcome::Refused { code: told.code, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, target: Option<&str>, body: &str) -> Lane {
        let at = Time::from_millis(0);
        Call { name, target, body: Some(body.as_bytes()), key: "k", at }.lane()
    }

    #[test]
    fn what_is_about_the_same_goes_in_order() {
        for (name, target, body, expected, alone) in [
            ("message", Some("c"), "{}", "conversation c", false),
            ("change", Some("c"), "{}", "conversation c", true),
            ("delete", Some("c"), "", "conversation c", true),
            ("conversation", None, r#"{"id":"c","members":["a"]}"#, "conversation c", true),
            ("conversation", None, r#"{"members":["a"]}"#, "conversation k", true),
            ("publish", None, r#"{"channel":"notifications","user_id":"a"}"#, "user a", false),
            ("publish", None, r#"{"channel":"feed:x","payload":[1]}"#, "channel feed:x", false),
            ("disconnect", Some("a"), "", "user a", true),
            ("revoke", None, r#"{"user":"a"}"#, "user a", true),
            ("publish", None, "no JSON", "key k", false),
            ("nonsense", Some("c"), "", "key k", true),
        ] {
            assert_eq!(lane(name, target, body), Lane { name: expected.to_owned(), alone }, "{name} {body}");
        }
    }
}
