//! Tokens of users.

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::load::run::epoch_us;

const DAY: u64 = 24 * 3600;

/// A token for `user`: every dialect finds its subject, and so do plain servers. It is the same all day, because what a
/// server keeps for who comes back may belong to the token.
pub fn sign(secret: &str, user: &str) -> Result<String> {
    let exp = (epoch_us() / 1_000_000 / DAY + 2) * DAY;
    let claims = json!({ "sub": user, "user_id": user, "exp": exp });
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}
