//! Who a token proves its bearer to be: signature, lifetime, issuer, audience, subject.
//!
//! Owns: verification keys (configured and fetched), the verifier of session tokens, and the cache of verified
//! tokens. Must not know: where a client carries its token (that is `http::credentials`, or the dialect in
//! `parlance-wire`) or what its bearer may do. Tokens are never logged.

mod cache;
mod claims;
mod introspect;
#[cfg(test)]
mod introspect_tests;
mod jwks;
mod keys;
pub(crate) mod outbound;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{DecodingKey, Header, Validation};
use parlance_model::{Identity, Proof, Reject, RejectCode, Time};

use crate::clock::Clock;
use crate::config;
use cache::VerifiedTokens;
use introspect::Verifier;
use jwks::Jwks;
use keys::VerifyKey;

pub(crate) use claims::{Claims, time as numeric_date};
pub(crate) use introspect::check as check_sessions;
pub(crate) use jwks::check_url as check_jwks_url;
pub(crate) use keys::SHORTEST_SECRET;
pub use sign::sign_dev_token;

/// How far the clocks of issuer and node may be apart when `exp` and `nbf` are judged.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// Longer ones are refused unread: a token is sent at every connect and hashed at every check.
const LONGEST_TOKEN: usize = 16 * 1024;

/// [`AuthError::Invalid`]'s word for a claim that should name the user and cannot.
const SUBJECT: &str = "subject";

/// Why a token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// It was good once.
    #[error("token expired")]
    Expired,
    /// It proves nothing; the word says why, for logs and metrics.
    #[error("invalid token: {0}")]
    Invalid(&'static str),
    /// It is genuine, but none of the mount's claims names a user.
    #[error("the token names no subject")]
    NoSubject,
    /// It was good until it was revoked.
    #[error("token revoked")]
    Revoked,
    /// Who could say whether it is good cannot be asked now: worth a retry, never an acceptance.
    #[error("tokens cannot be verified now")]
    Unavailable,
}

impl AuthError {
    /// One word for logs and metric labels.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Invalid(word) => word,
            Self::NoSubject => "no_subject",
            Self::Revoked => "revoked",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the bearer is told: why a token proves nothing is for logs, not for whoever presents it.
impl From<AuthError> for Reject {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::new(RejectCode::Unauthenticated, "missing token"),
            AuthError::Expired => Self::new(RejectCode::TokenExpired, "token expired"),
            // A genuine token, so this may be said: lingochat has a sentence for it.
            AuthError::NoSubject | AuthError::Invalid(SUBJECT) => {
                Self::new(RejectCode::InvalidToken, "invalid token").field("sub")
            }
            AuthError::Revoked => Self::new(RejectCode::InvalidToken, "token revoked"),
            AuthError::Invalid(_) => Self::new(RejectCode::InvalidToken, "invalid token"),
            AuthError::Unavailable => {
                Self::new(RejectCode::Unavailable, "tokens cannot be verified now").retry_after(1_000)
            }
        }
    }
}

/// Verifies user tokens. One per node; a reload builds a new one.
pub struct Authenticator {
    keys: Vec<VerifyKey>,
    jwks: Option<Jwks>,
    sessions: Option<Verifier>,
    rules: claims::Rules,
    verified: VerifiedTokens,
    clock: Clock,
}

impl Authenticator {
    /// Reads the configured keys. Nothing is fetched before the first token that needs it.
    ///
    /// # Errors
    /// One line naming the option, when a key cannot be used.
    pub fn new(auth: &config::Auth, clock: Clock) -> Result<Self, String> {
        Self::after(auth, clock, None)
    }

    /// The same for another configuration: what was fetched is taken over.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn renewed(&self, auth: &config::Auth) -> Result<Self, String> {
        Self::after(auth, self.clock.clone(), self.jwks.as_ref())
    }

    fn after(auth: &config::Auth, clock: Clock, jwks: Option<&Jwks>) -> Result<Self, String> {
        install_crypto();
        Ok(Self {
            keys: keys::configured(auth)?,
            jwks: Jwks::new(auth, jwks)?,
            sessions: match &auth.session_url {
                Some(url) => Some(Verifier::new(url, auth, clock.clone())?),
                None => None,
            },
            rules: claims::Rules {
                issuer: auth.issuer.clone(),
                audience: auth.audience.clone(),
                may_be_absent: false,
            },
            verified: VerifiedTokens::default(),
            clock,
        })
    }

    /// Verifies a token, with or without `Bearer ` before it. `subjects` are the claims that may name the
    /// user, in order; the first present one wins.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn verify(&self, token: &str, subjects: &[String]) -> Result<Arc<Identity>, AuthError> {
        let token = bare(token);
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > LONGEST_TOKEN {
            return Err(AuthError::Invalid("too_long"));
        }
        if let Some(sessions) = &self.sessions
            && introspect::is_session(token)
        {
            // Boxed like what follows: whoever brings a token that needs no asking would carry room for it.
            return Box::pin(sessions.verify(token, subjects)).await;
        }
        let now = self.clock.now();
        if let Some(jwks) = &self.jwks
            && Box::pin(jwks.refresh_if_stale(now, false)).await
        {
            self.verified.clear();
        }
        let slot = cache::slot(token, subjects);
        // One that was verified while its key was being withdrawn may have come into the cache after that.
        if let Some(identity) = self.verified.get(&slot).filter(|identity| self.trusts(&identity.proof, now))
        {
            return if claims::expired(identity.expires_at, now) {
                Err(AuthError::Expired)
            } else {
                Ok(identity)
            };
        }
        let (claims, key) = self.check_signature(token, now).await?;
        let mut identity = self.rules.identity(token, &claims, subjects, now)?;
        identity.proof = Proof::Key(key);
        let identity = Arc::new(identity);
        self.verified.put(slot, identity.clone(), now);
        Ok(identity)
    }

    /// Whoever comes is verified anew.
    pub(crate) fn forget_verified(&self) {
        self.verified.clear();
    }

    /// Asks again about the session of a connection that lives, unless that was done since `asked_since`.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub(crate) async fn verify_session(
        &self,
        token: &str,
        subjects: &[String],
        asked_since: Time,
    ) -> Result<Arc<Identity>, AuthError> {
        let sessions = self.sessions.as_ref().ok_or(AuthError::Invalid("session"))?;
        sessions.verify_since(token, subjects, asked_since).await
    }

    /// Fetches what is too old, also while nobody comes.
    pub(crate) async fn tend(&self) {
        if let Some(jwks) = &self.jwks
            && jwks.refresh_if_stale(self.clock.now(), true).await
        {
            self.verified.clear();
        }
    }

    /// Whether its keys are those that it was configured with.
    pub(crate) const fn has_fixed_keys(&self) -> bool {
        self.jwks.is_none()
    }

    /// Whether there are tokens that stand for sessions.
    pub(crate) const fn knows_sessions(&self) -> bool {
        self.sessions.is_some()
    }

    /// Whether what vouched for an identity was taken away since. Keys that cannot be fetched are not: their tokens
    /// are only not accepted anew.
    pub(crate) fn has_withdrawn(&self, proof: &Proof) -> bool {
        let Proof::Key(id) = proof else { return false };
        if self.keys.iter().any(|key| key.id == *id) {
            return false;
        }
        let Some(jwks) = &self.jwks else { return true };
        jwks.ids().is_some_and(|ids| !ids.contains(id))
    }

    /// What is known of tokens that fit is forgotten; `claims` says so of the claims a session token stands for.
    pub(crate) fn forget(&self, fits: &dyn Fn(&Identity) -> bool, claims: &dyn Fn(&Claims) -> bool) {
        self.verified.forget(fits);
        if let Some(sessions) = &self.sessions {
            sessions.forget(claims);
        }
    }

    fn trusts(&self, proof: &Proof, now: Time) -> bool {
        let Proof::Key(id) = proof else { return true };
        self.keys.iter().any(|key| key.id == *id) || self.jwks.as_ref().is_some_and(|j| j.trusts(*id, now))
    }

    /// Tries the keys that may have signed it; more than one only while secrets are rotated. Which one did.
    async fn check_signature(&self, token: &str, now: Time) -> Result<(Claims, u64), AuthError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid("malformed"))?;
        if header.crit.is_some() {
            // Whoever lists an extension as critical wants it refused by those who do not know it.
            return Err(AuthError::Invalid("critical_extension"));
        }
        let mut tried = false;
        for key in self.keys.iter().filter(|key| key.may_verify(&header)) {
            tried = true;
            if let Some(claims) = decode(token, &key.key, &header)? {
                return Ok((claims, key.id));
            }
        }
        let Some(jwks) = &self.jwks else {
            return Err(AuthError::Invalid(if tried { "signature" } else { "no_key" }));
        };
        let fetched = match jwks.find(&header, now) {
            Some(key) => Some(key),
            None => {
                if Box::pin(jwks.refresh_for_unknown(&header, now)).await {
                    self.verified.clear();
                }
                jwks.find(&header, now)
            }
        };
        match fetched {
            Some(key) => match decode(token, &key.key, &header)? {
                Some(claims) => Ok((claims, key.id)),
                None => Err(AuthError::Invalid("signature")),
            },
            None if tried => Err(AuthError::Invalid("signature")),
            None if jwks.is_away(now) => Err(AuthError::Unavailable),
            None => Err(AuthError::Invalid("no_key")),
        }
    }
}

/// Only the signature is the library's to judge: its time checks read the system clock, and it takes a
/// wrongly typed `exp` or `aud` for an absent one. `Ok(None)`: another key may have signed it.
fn decode(token: &str, key: &DecodingKey, header: &Header) -> Result<Option<Claims>, AuthError> {
    use jsonwebtoken::errors::ErrorKind;

    let mut rules = Validation::new(header.alg);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, key, &rules) {
        Ok(data) => Ok(Some(data.claims)),
        Err(error) => match error.kind() {
            ErrorKind::InvalidSignature => Ok(None),
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                Err(AuthError::Invalid("algorithm"))
            }
            _ => Err(AuthError::Invalid("malformed")),
        },
    }
}

/// The token without the scheme some clients put before it.
fn bare(token: &str) -> &str {
    let token = token.trim();
    match token.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer ") => token[7..].trim_start(),
        _ if token.eq_ignore_ascii_case("bearer") => "",
        _ => token,
    }
}

/// Names the crypto library once for the process: left to itself `jsonwebtoken` panics at first use when
/// another crate of the build enables a second one.
fn install_crypto() {
    let _already_installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
