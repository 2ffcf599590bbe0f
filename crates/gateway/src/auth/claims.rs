//! What a genuine token must say, and the identity read from it.

use std::sync::Arc;

use parlance_model::{Identity, Proof, RawJson, Time, UserId};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::{AuthError, LEEWAY, SUBJECT};

/// A token's payload.
pub(crate) type Claims = Map<String, Value>;

/// What the configuration asks of every token.
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    /// Whether claims that name neither are fine: so with an answer of our own verifier.
    pub(super) may_be_absent: bool,
    /// Claims that are kept with the identity, for the application's backend.
    pub(super) kept: Arc<[String]>,
}

/// Bytes of JSON of a claim that is kept.
const LONGEST_KEPT: usize = 4096;

impl Rules {
    /// Judges the claims of a token whose signature was good.
    pub(super) fn identity(
        &self,
        token: &str,
        claims: &Claims,
        subjects: &[String],
        now: Time,
    ) -> Result<Identity, AuthError> {
        let expires_at = claims.get("exp").and_then(time).ok_or(AuthError::Invalid("exp"))?;
        if expired(expires_at, now) {
            return Err(AuthError::Expired);
        }
        if let Some(not_before) = present(claims, "nbf") {
            let not_before = time(not_before).ok_or(AuthError::Invalid("nbf"))?;
            if not_before > now + LEEWAY {
                return Err(AuthError::Invalid("nbf"));
            }
        }
        self.names_us(claims)?;
        Ok(Identity {
            user: subject(claims, subjects)?,
            name: text(claims, &["name"]),
            username: text(claims, &["username", "preferred_username"]),
            picture: text(claims, &["picture", "imageUrl", "avatar_url"]),
            expires_at,
            issued_at: claims.get("iat").and_then(time),
            token_id: text(claims, &["jti"]),
            token_hash: xxh3_64(token.as_bytes()),
            verified: true,
            proof: Proof::None,
            claims: self.kept(claims),
        })
    }

    fn kept(&self, claims: &Claims) -> Option<RawJson> {
        let chosen = self.kept.iter().filter_map(|name| Some((name.clone(), present(claims, name)?.clone())));
        let small = |(_, value): &(String, Value)| value.to_string().len() <= LONGEST_KEPT;
        let chosen: Claims = chosen.filter(small).collect();
        (!chosen.is_empty()).then(|| RawJson::trusted(Value::Object(chosen).to_string()))
    }

    /// Whether a claim is one of those.
    pub(super) fn keeps(&self, name: &str) -> bool {
        self.kept.iter().any(|kept| kept == name)
    }

    fn names_us(&self, claims: &Claims) -> Result<(), AuthError> {
        let fits = |name: &str, test: &dyn Fn(&Value) -> bool| match present(claims, name) {
            Some(given) => test(given),
            None => self.may_be_absent,
        };
        let issuer = self.issuer.as_ref();
        if issuer.is_some_and(|issuer| !fits("iss", &|given| given.as_str() == Some(issuer))) {
            return Err(AuthError::Invalid("issuer"));
        }
        let audience = self.audience.as_ref();
        if audience.is_some_and(|audience| !fits("aud", &|given| names(given, audience))) {
            return Err(AuthError::Invalid("audience"));
        }
        Ok(())
    }
}

/// Whether a token that ends at `expires_at` is over, leeway included.
pub(super) fn expired(expires_at: Time, now: Time) -> bool {
    now >= expires_at + LEEWAY
}

fn present<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// A NumericDate: seconds, perhaps with a fraction. Anything but a number is no time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "guarded: finite and not negative, and a float too large saturates"
)]
pub(crate) fn time(value: &Value) -> Option<Time> {
    if let Some(seconds) = value.as_u64() {
        return Some(Time::from_millis(seconds.saturating_mul(1000)));
    }
    let seconds = value.as_f64().filter(|s| s.is_finite() && *s >= 0.0)?;
    Some(Time::from_millis((seconds * 1000.0) as u64))
}

/// Whether an `aud` (one name or a list) names the audience.
fn names(given: &Value, audience: &str) -> bool {
    match given {
        Value::String(one) => one == audience,
        Value::Array(many) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// The first present claim wins, also when it is unusable: falling through to a later one would let two
/// systems that share a token disagree on who it is.
fn subject(claims: &Claims, subjects: &[String]) -> Result<UserId, AuthError> {
    let value = subjects.iter().find_map(|name| present(claims, name)).ok_or(AuthError::NoSubject)?;
    let user = match value {
        Value::String(text) => UserId::parse(text),
        // Only exact integers: a number beyond 64 bits was rounded by the parser, and two users would
        // become one.
        Value::Number(number) if number.is_u64() || number.is_i64() => UserId::parse(&number.to_string()),
        _ => return Err(AuthError::Invalid(SUBJECT)),
    };
    user.map_err(|_| AuthError::Invalid(SUBJECT))
}

fn text(claims: &Claims, names: &[&str]) -> Option<Arc<str>> {
    names
        .iter()
        .find_map(|name| claims.get(*name).and_then(Value::as_str).filter(|text| !text.is_empty()))
        .map(Arc::from)
}
