//! Signing tokens for development: a real deployment has an issuer of its own.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use parlance_model::{Time, UserId};
use serde_json::json;

/// An HS256 token for `user`, good for `ttl` from `now`.
///
/// # Errors
/// A line saying what failed.
pub fn sign_dev_token(
    secret: &str,
    user: &UserId,
    name: Option<&str>,
    ttl: Duration,
    now: Time,
) -> Result<String, String> {
    super::install_crypto();
    let issued = now.millis() / 1000;
    let mut claims = json!({
        "sub": user.as_str(),
        "iat": issued,
        "exp": issued.saturating_add(ttl.as_secs()),
    });
    if let Some(name) = name {
        claims["name"] = name.into();
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .map_err(|error| format!("cannot sign the token: {error}"))
}
