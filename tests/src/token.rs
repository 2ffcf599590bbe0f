//! Signs the tokens of test users.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::SECRET;

/// A token for `user`, valid for an hour.
///
/// # Errors
/// When it cannot be signed.
pub fn token(user: &str) -> Result<String> {
    sign(&json!({ "sub": user, "user_id": user, "exp": expiry(Duration::from_secs(3600)) }), SECRET)
}

/// A token with any claims, signed with any secret (HS256).
///
/// # Errors
/// When it cannot be signed.
pub fn sign(claims: &Value, secret: &str) -> Result<String> {
    Ok(encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// The `exp` of a token that is valid for `span` from now.
#[expect(clippy::disallowed_methods, reason = "a test is outside the gateway and has no clock of its")]
pub fn expiry(span: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now + span).as_secs()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::Value;

    use super::token;
    use crate::SECRET;

    #[test]
    fn a_token_names_its_user_and_verifies_with_the_secret_alone() {
        let token = token("alice").unwrap();
        let read = |secret: &str| {
            decode::<Value>(&token, &DecodingKey::from_secret(secret.as_bytes()), &Validation::default())
        };
        assert_eq!(read(SECRET).unwrap().claims["sub"], "alice");
        assert!(read("another secret").is_err());
    }
}
