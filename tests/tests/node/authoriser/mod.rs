//! The authoriser: the application's backend is asked, and its word holds, in every dialect.

mod callback;
mod connecting;
mod examples;
mod rooms;
mod trouble;

use crate::backend::Backend;
use anyhow::Result;
use parlance_tests::{Gateway, Options, token};
use serde_json::{Value, json};

/// Signs the questions.
pub const SECRET: &str = "the-secret-of-the-authoriser-of-32-bytes";

/// A node that asks that backend, with further options of the section.
pub fn asking(backend: &Backend, more: &str) -> Options {
    let toml = format!("[authoriser]\nurl = \"{}\"\nsecret = \"{SECRET}\"\n{more}\n", backend.url());
    Options::brief().config(&toml).env("PARLANCE_LIMITS_RATES", "false")
}

/// A message as sechat sends it.
pub fn sechat_message(id: &str, place: &str, to: &[&str]) -> Value {
    json!({ "type": "message:send", "messageId": id, "conversationId": place, "toUserIds": to, "body": "SECRET words" })
}

/// What a raw connection is refused with: status, error, code.
pub async fn turned_away(gateway: &Gateway, path: &str, user: &str) -> Result<(u16, Value)> {
    let address = gateway.url(&format!("{path}?token={}", token(user)?));
    let refusal = parlance_tests::Ws::refused(&address).await?;
    Ok((refusal.status, refusal.json()?))
}
