//! Verification keys, each pinned to the algorithms it may verify.

use std::fs;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use sha2::{Digest, Sha256};

use crate::config::{Auth, KeyFile};

/// Below this a secret can be searched for.
pub(crate) const SHORTEST_SECRET: usize = 32;

/// A key, what it may verify, and its name.
#[derive(Clone)]
pub(super) struct VerifyKey {
    pub(super) key: DecodingKey,
    /// The same for the same key material, wherever it came from and whenever it was read.
    pub(super) id: u64,
    algorithms: Vec<Algorithm>,
    kid: Option<String>,
}

impl VerifyKey {
    /// The header may choose among a key's algorithms, never beyond them: that is what stops a token
    /// "signed" with a public key as if it were a shared secret.
    pub(super) fn may_verify(&self, header: &Header) -> bool {
        let named = match (&self.kid, &header.kid) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        named && self.allows(header.alg)
    }

    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

/// A number for key material of a kind. Cryptographic: it must not give a secret away.
fn id(kind: &str, material: &[u8]) -> u64 {
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(material).finalize();
    hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// The keys of the configuration.
pub(super) fn configured(auth: &Auth) -> Result<Vec<VerifyKey>, String> {
    let secrets = auth.secrets.iter().map(|secret| {
        if secret.len() < SHORTEST_SECRET && !auth.allow_short_secrets {
            return Err(format!("auth.secrets: a secret must have at least {SHORTEST_SECRET} bytes"));
        }
        Ok(VerifyKey {
            key: DecodingKey::from_secret(secret.as_bytes()),
            id: id("secret", secret.as_bytes()),
            algorithms: vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
            kid: None,
        })
    });
    secrets.chain(auth.keys.iter().map(from_file)).collect()
}

fn from_file(file: &KeyFile) -> Result<VerifyKey, String> {
    let shown = file.path.display();
    let pem = fs::read(&file.path).map_err(|error| format!("auth.keys: cannot read {shown}: {error}"))?;
    let algorithm: Algorithm =
        file.algorithm.parse().map_err(|_| format!("auth.keys: unknown algorithm {}", file.algorithm))?;
    let key = match file.algorithm.get(..2) {
        Some("RS" | "PS") => DecodingKey::from_rsa_pem(&pem),
        Some("ES") => DecodingKey::from_ec_pem(&pem),
        Some("Ed") => DecodingKey::from_ed_pem(&pem),
        _ => return Err(format!("auth.keys: {shown}: {} is not a public key algorithm", file.algorithm)),
    }
    .map_err(|_| format!("auth.keys: {shown} holds no PEM public key for {}", file.algorithm))?;
    let id = id(&file.algorithm, &pem);
    Ok(VerifyKey { key, id, algorithms: vec![algorithm], kid: file.kid.clone() })
}

/// A key of a JWK set; `None` for one that is not for verifying signatures, or of a kind not known here.
/// Shared secrets (`oct`) are refused: a set is public.
pub(super) fn from_jwk(jwk: &Jwk) -> Option<VerifyKey> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let (by_type, allowed): (Algorithm, &[Algorithm]) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (
            Algorithm::RS256,
            &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
        ),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => (Algorithm::ES256, &[Algorithm::ES256]),
            EllipticCurve::P384 => (Algorithm::ES384, &[Algorithm::ES384]),
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => (Algorithm::EdDSA, &[Algorithm::EdDSA]),
        _ => return None,
    };
    let algorithm = match jwk.common.key_algorithm {
        Some(named) => algorithm_of(named)?,
        None => by_type,
    };
    if !allowed.contains(&algorithm) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    let material = serde_json::to_vec(&jwk.algorithm).ok()?;
    let id = id("jwk", &material);
    Some(VerifyKey { key, id, algorithms: vec![algorithm], kid: jwk.common.key_id.clone() })
}

fn algorithm_of(named: KeyAlgorithm) -> Option<Algorithm> {
    named.to_string().parse().ok()
}
