//! Which tokens are accepted, and that everything else is not.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use parlance_model::{Time, UserId};
use serde_json::{Value, json};

use super::*;
use crate::config::{Auth, KeyFile};

const SECRET: &str = "a-test-secret-of-more-than-32-bytes!";
const NOW: u64 = 1_800_000_000;

fn subjects() -> Vec<String> {
    ["sub", "user_id", "userId", "openId"].map(str::to_owned).to_vec()
}

fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(format!("dev-only-{name}.pem"))
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(pem(name)).unwrap()
}

/// A clock to set, in seconds.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(NOW));
    let read = seconds.clone();
    (Clock::from_fn(move || Time(read.load(Ordering::SeqCst) * 1000)), seconds)
}

fn with_secret() -> Auth {
    Auth { secrets: vec![SECRET.to_owned()], ..Auth::default() }
}

fn with_key(name: &str, algorithm: &str) -> Auth {
    let key = KeyFile { path: pem(name), algorithm: algorithm.to_owned(), kid: None };
    Auth { keys: vec![key], ..Auth::default() }
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    install_crypto();
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hs(claims: &Value) -> String {
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

async fn verify(auth: &Auth, token: &str) -> Result<Arc<Identity>, AuthError> {
    Authenticator::new(auth, clock().0).unwrap().verify(token, &subjects()).await
}

#[tokio::test]
async fn every_kind_of_key_verifies_its_tokens() {
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(&read("rsa-private")).unwrap();
    let ec = EncodingKey::from_ec_pem(&read("ec-private")).unwrap();
    let ed = EncodingKey::from_ed_pem(&read("ed-private")).unwrap();
    let cases = [
        (with_secret(), Algorithm::HS256, &secret),
        (with_secret(), Algorithm::HS384, &secret),
        (with_secret(), Algorithm::HS512, &secret),
        (with_key("rsa-public", "RS256"), Algorithm::RS256, &rsa),
        (with_key("rsa-public", "RS512"), Algorithm::RS512, &rsa),
        (with_key("ec-public", "ES256"), Algorithm::ES256, &ec),
        (with_key("ed-public", "EdDSA"), Algorithm::EdDSA, &ed),
    ];
    for (auth, algorithm, key) in cases {
        let token = sign(algorithm, key, &claims());
        let identity = verify(&auth, &token).await.unwrap();
        assert_eq!(identity.user.as_str(), "alice", "{algorithm:?}");
        assert!(identity.verified);
    }
}

#[tokio::test]
async fn a_key_verifies_its_own_algorithm_only() {
    let rsa = EncodingKey::from_rsa_pem(&read("rsa-private")).unwrap();
    let other = sign(Algorithm::RS512, &rsa, &claims());
    assert_eq!(verify(&with_key("rsa-public", "RS256"), &other).await, Err(AuthError::Invalid("no_key")));

    // The old trick: the public key, which everybody has, used as a shared secret.
    for (name, algorithm) in [("rsa-public", "RS256"), ("ec-public", "ES256"), ("ed-public", "EdDSA")] {
        let forged = sign(Algorithm::HS256, &EncodingKey::from_secret(&read(name)), &claims());
        assert_eq!(
            verify(&with_key(name, algorithm), &forged).await,
            Err(AuthError::Invalid("no_key")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn unsigned_and_tampered_tokens_are_refused() {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", ""] {
        let unsigned = format!("{}.{}.", part(&json!({"alg": alg, "typ": "JWT"})), part(&claims()));
        assert_eq!(verify(&with_secret(), &unsigned).await, Err(AuthError::Invalid("malformed")), "{alg}");
    }
    let good = hs(&claims());
    let mut parts: Vec<&str> = good.split('.').collect();
    let swapped = part(&json!({"sub": "bob", "exp": NOW + 60}));
    parts[1] = &swapped;
    assert_eq!(verify(&with_secret(), &parts.join(".")).await, Err(AuthError::Invalid("signature")));

    let stranger = EncodingKey::from_secret(b"another-secret-of-more-than-32-bytes");
    let foreign = sign(Algorithm::HS256, &stranger, &claims());
    assert_eq!(verify(&with_secret(), &foreign).await, Err(AuthError::Invalid("signature")));

    for garbage in ["x", "a.b", "a.b.c", "....", "{}", "null"] {
        assert_eq!(verify(&with_secret(), garbage).await, Err(AuthError::Invalid("malformed")), "{garbage}");
    }
    for nothing in ["", "  ", "Bearer", "Bearer ", "bearer   "] {
        assert_eq!(verify(&with_secret(), nothing).await, Err(AuthError::Missing), "{nothing:?}");
    }
    let long = "a".repeat(LONGEST_TOKEN + 1);
    assert_eq!(verify(&with_secret(), &long).await, Err(AuthError::Invalid("too_long")));
}

#[tokio::test]
async fn a_critical_extension_is_refused() {
    install_crypto();
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::default() };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert_eq!(verify(&with_secret(), &token).await, Err(AuthError::Invalid("critical_extension")));
}

#[tokio::test]
async fn a_scheme_before_the_token_is_ignored() {
    let token = hs(&claims());
    for shown in [format!("Bearer {token}"), format!("bearer  {token} "), format!(" {token}\n")] {
        assert!(verify(&with_secret(), &shown).await.is_ok());
    }
}

#[tokio::test]
async fn times_are_judged_with_five_seconds_of_leeway() {
    let cases = [
        (json!({"exp": NOW + 1}), Ok(())),
        (json!({"exp": NOW - 4}), Ok(())),
        (json!({"exp": NOW - 5}), Err(AuthError::Expired)),
        (json!({"exp": 0}), Err(AuthError::Expired)),
        (json!({"exp": NOW as f64 + 0.5}), Ok(())),
        (json!({}), Err(AuthError::Invalid("exp"))),
        (json!({"exp": null}), Err(AuthError::Invalid("exp"))),
        (json!({"exp": (NOW + 60).to_string()}), Err(AuthError::Invalid("exp"))),
        (json!({"exp": [NOW + 60]}), Err(AuthError::Invalid("malformed"))),
        (json!({"exp": true}), Err(AuthError::Invalid("exp"))),
        (json!({"exp": -1}), Err(AuthError::Invalid("exp"))),
        (json!({"exp": 1e300}), Ok(())),
        (json!({"exp": u64::MAX}), Ok(())),
        (json!({"exp": NOW + 60, "nbf": NOW + 5}), Ok(())),
        (json!({"exp": NOW + 60, "nbf": NOW + 6}), Err(AuthError::Invalid("nbf"))),
        (json!({"exp": NOW + 60, "nbf": "soon"}), Err(AuthError::Invalid("nbf"))),
    ];
    for (mut claims, expected) in cases {
        claims["sub"] = "alice".into();
        assert_eq!(verify(&with_secret(), &hs(&claims)).await.map(drop), expected, "{claims}");
    }
}

#[tokio::test]
async fn issuer_and_audience_count_when_configured() {
    let auth = Auth { issuer: Some("me".into()), audience: Some("chat".into()), ..with_secret() };
    let cases = [
        (json!({"iss": "me", "aud": "chat"}), Ok(())),
        (json!({"iss": "me", "aud": ["mail", "chat"]}), Ok(())),
        (json!({"iss": "you", "aud": "chat"}), Err(AuthError::Invalid("issuer"))),
        (json!({"aud": "chat"}), Err(AuthError::Invalid("issuer"))),
        (json!({"iss": ["me"], "aud": "chat"}), Err(AuthError::Invalid("issuer"))),
        (json!({"iss": "me", "aud": "mail"}), Err(AuthError::Invalid("audience"))),
        (json!({"iss": "me", "aud": []}), Err(AuthError::Invalid("audience"))),
        (json!({"iss": "me"}), Err(AuthError::Invalid("audience"))),
    ];
    for (mut claims, expected) in cases {
        claims["sub"] = "alice".into();
        claims["exp"] = (NOW + 60).into();
        assert_eq!(verify(&auth, &hs(&claims)).await.map(drop), expected, "{claims}");
    }
    let with_both = json!({"sub": "a", "exp": NOW + 60, "iss": "anyone", "aud": "anything"});
    assert!(verify(&with_secret(), &hs(&with_both)).await.is_ok(), "nothing is asked, nothing is refused");
}

#[tokio::test]
async fn the_first_present_claim_names_the_user() {
    let order = ["user_id", "sub"].map(str::to_owned);
    let cases = [
        (json!({"sub": "s", "user_id": "u"}), Ok("u")),
        (json!({"sub": "s"}), Ok("s")),
        (json!({"sub": "s", "user_id": null}), Ok("s")),
        (json!({"user_id": 42}), Ok("42")),
        (json!({"user_id": u64::MAX}), Ok("18446744073709551615")),
        (json!({"openId": "o"}), Err(AuthError::NoSubject)),
        (json!({}), Err(AuthError::NoSubject)),
        (json!({"user_id": "", "sub": "s"}), Err(AuthError::Invalid("subject"))),
        (json!({"user_id": "no spaces", "sub": "s"}), Err(AuthError::Invalid("subject"))),
        (json!({"user_id": 1.5}), Err(AuthError::Invalid("subject"))),
        (json!({"user_id": 1e30}), Err(AuthError::Invalid("subject"))),
        (json!({"user_id": {"id": 1}}), Err(AuthError::Invalid("subject"))),
        (json!({"user_id": true}), Err(AuthError::Invalid("subject"))),
    ];
    for (mut claims, expected) in cases {
        claims["exp"] = (NOW + 60).into();
        let authenticator = Authenticator::new(&with_secret(), clock().0).unwrap();
        let found = authenticator.verify(&hs(&claims), &order).await.map(|identity| identity.user.clone());
        assert_eq!(found.as_ref().map(UserId::as_str).map_err(|error| *error), expected, "{claims}");
    }
}

#[tokio::test]
async fn the_identity_carries_what_the_token_says() {
    let claims = json!({
        "sub": "alice", "exp": NOW + 60, "iat": NOW, "jti": "t1", "name": "Alice",
        "preferred_username": "al", "avatar_url": "https://x/a.png",
    });
    let token = hs(&claims);
    let identity = verify(&with_secret(), &token).await.unwrap();
    assert_eq!(identity.name.as_deref(), Some("Alice"));
    assert_eq!(identity.username.as_deref(), Some("al"));
    assert_eq!(identity.picture.as_deref(), Some("https://x/a.png"));
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(identity.issued_at, Some(Time(NOW * 1000)));
    assert_eq!(identity.expires_at, Time((NOW + 60) * 1000));
    assert_eq!(identity.token_hash, xxhash_rust::xxh3::xxh3_64(token.as_bytes()));
}

#[tokio::test]
async fn a_token_verified_before_still_expires() {
    let (clock, seconds) = clock();
    let authenticator = Authenticator::new(&with_secret(), clock).unwrap();
    let token = hs(&claims());
    for _ in 0..2 {
        assert!(authenticator.verify(&token, &subjects()).await.is_ok());
    }
    assert_eq!(authenticator.verified.len(), 1);
    seconds.store(NOW + 65, Ordering::SeqCst);
    assert_eq!(authenticator.verify(&token, &subjects()).await, Err(AuthError::Expired));
}

#[tokio::test]
async fn several_secrets_are_good_during_rotation() {
    let auth = Auth { secrets: vec!["b".repeat(32), SECRET.to_owned()], ..Auth::default() };
    assert!(verify(&auth, &hs(&claims())).await.is_ok());
}

#[test]
fn unusable_keys_are_refused_by_name() {
    let refusal = |auth: &Auth| Authenticator::new(auth, clock().0).err().unwrap_or_default();
    let short = Auth { secrets: vec!["x".repeat(31)], ..Auth::default() };
    assert!(refusal(&short).starts_with("auth.secrets: "));
    assert!(Authenticator::new(&Auth { allow_short_secrets: true, ..short }, clock().0).is_ok());

    for (name, algorithm) in
        [("missing", "RS256"), ("ec-public", "RS256"), ("rsa-public", "HS256"), ("rsa-public", "none")]
    {
        let line = refusal(&with_key(name, algorithm));
        assert!(line.starts_with("auth.keys: ") && !line.contains('\n'), "{line}");
    }
    for url in ["http://keys.example/jwks", "ftp://127.0.0.1/", "nonsense", "http://127.0.0.1.evil.example/"]
    {
        let line = refusal(&Auth { jwks_url: Some(url.to_owned()), ..Auth::default() });
        assert!(line.starts_with("auth.jwks_url: "), "{url}: {line}");
    }
    let local = Auth { jwks_url: Some("http://127.0.0.1:1/jwks".into()), ..Auth::default() };
    assert!(Authenticator::new(&local, clock().0).is_ok());
}

#[tokio::test]
async fn a_development_token_is_accepted() {
    let user = UserId::parse("alice").unwrap();
    let ttl = std::time::Duration::from_secs(60);
    let token = sign_dev_token(SECRET, &user, Some("Alice"), ttl, Time(NOW * 1000)).unwrap();
    let identity = verify(&with_secret(), &token).await.unwrap();
    assert_eq!((&identity.user, identity.name.as_deref()), (&user, Some("Alice")));
    assert_eq!(identity.expires_at, Time((NOW + 60) * 1000));
}

/// A key set server: what it answers can be changed, how often it was asked can be read.
struct KeyServer {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    #[expect(clippy::disallowed_methods, reason = "a test's server lives as long as the test's runtime")]
    async fn start(answer: &Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((200, answer.to_string())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shown, counter) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shown, counter) = (shown.clone(), counter.clone());
                let service = service_fn(move |_| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let (status, body) = shown.lock().clone();
                    async move {
                        let answer = hyper::Response::builder().status(status);
                        Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, answer, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn auth(&self) -> Auth {
        Auth { jwks_url: Some(self.url.clone()), ..Auth::default() }
    }
}

fn ed_key(kid: &str) -> Value {
    // The raw key is the end of the PEM's DER.
    let text = String::from_utf8(read("ed-public")).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x})
}

fn ed_token(kid: Option<&str>) -> String {
    install_crypto();
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_pem(&read("ed-private")).unwrap();
    jsonwebtoken::encode(&header, &json!({"sub": "alice", "exp": NOW + 9000}), &key).unwrap()
}

#[tokio::test]
async fn fetched_keys_are_cached_and_refetched_for_an_unknown_one() {
    let strange = json!({"kty": "QUANTUM", "kid": "q"});
    let server = KeyServer::start(&json!({"keys": [strange, ed_key("k1")]})).await;
    let (clock, seconds) = clock();
    let authenticator = Authenticator::new(&server.auth(), clock).unwrap();
    assert_eq!(server.asked(), 0);

    for kid in [Some("k1"), None, Some("k1")] {
        assert!(authenticator.verify(&ed_token(kid), &subjects()).await.is_ok(), "{kid:?}");
    }
    assert_eq!(server.asked(), 1);

    // A new key at the issuer: seen as soon as the pause allows, and not asked for before.
    *server.answer.lock() = (200, json!({"keys": [ed_key("k2")]}).to_string());
    let rotated = ed_token(Some("k2"));
    assert_eq!(authenticator.verify(&rotated, &subjects()).await, Err(AuthError::Invalid("no_key")));
    assert_eq!(server.asked(), 1);
    seconds.fetch_add(10, Ordering::SeqCst);
    assert!(authenticator.verify(&rotated, &subjects()).await.is_ok());
    assert_eq!(server.asked(), 2);

    // The withdrawn key is not good any more, also for a token that was verified with it.
    let old = authenticator.verify(&ed_token(Some("k1")), &subjects()).await;
    assert_eq!(old, Err(AuthError::Invalid("no_key")));
}

#[tokio::test]
async fn a_failed_fetch_keeps_the_keys() {
    let server = KeyServer::start(&json!({"keys": [ed_key("k1")]})).await;
    let (clock, seconds) = clock();
    let authenticator = Authenticator::new(&server.auth(), clock).unwrap();
    assert!(authenticator.verify(&ed_token(Some("k1")), &subjects()).await.is_ok());

    for broken in [(500, String::new()), (200, "<html>".to_owned()), (200, "{\"keys\":[]}".to_owned())] {
        *server.answer.lock() = broken;
        let before = server.asked();
        seconds.fetch_add(301, Ordering::SeqCst);
        assert!(authenticator.verify(&ed_token(Some("k1")), &subjects()).await.is_ok());
        assert_eq!(server.asked(), before + 1, "a set older than five minutes is fetched again");
    }
}

#[tokio::test]
async fn kept_keys_are_good_for_a_while_and_withdrawn_only_by_another_set() {
    let server = KeyServer::start(&json!({"keys": [ed_key("k1")]})).await;
    let (clock, seconds) = clock();
    let auth = Auth { jwks_keep_ms: 400_000, secrets: vec![SECRET.to_owned()], ..server.auth() };
    let authenticator = Authenticator::new(&auth, clock).unwrap();
    let token = ed_token(Some("k1"));
    let fetched = authenticator.verify(&token, &subjects()).await.unwrap().proof.clone();
    let shared = authenticator.verify(&hs(&claims()), &subjects()).await.unwrap().proof.clone();
    *server.answer.lock() = (500, String::new());
    // A reload keeps what was fetched, and asks again.
    let authenticator = authenticator.renewed(&auth).unwrap();
    authenticator.tend().await;
    assert_eq!(server.asked(), 2);
    seconds.fetch_add(399, Ordering::SeqCst);
    assert!(authenticator.verify(&token, &subjects()).await.is_ok());
    seconds.fetch_add(1, Ordering::SeqCst);
    // Also the one that was verified before.
    assert_eq!(authenticator.verify(&token, &subjects()).await, Err(AuthError::Unavailable));
    assert!(!authenticator.has_withdrawn(&fetched), "only out of reach");

    *server.answer.lock() = (200, json!({"keys": [ed_key("k1")]}).to_string());
    seconds.fetch_add(10, Ordering::SeqCst);
    authenticator.tend().await;
    assert_eq!(authenticator.verify(&token, &subjects()).await.unwrap().proof, fetched, "the same key");
    let without = authenticator.renewed(&with_secret()).unwrap();
    assert!(without.has_withdrawn(&fetched) && !without.has_withdrawn(&shared));
    let other = Auth { secrets: vec!["another-secret-of-more-than-32-bytes".to_owned()], ..Auth::default() };
    assert!(authenticator.renewed(&other).unwrap().has_withdrawn(&shared));
    assert!(!authenticator.has_withdrawn(&Proof::None));
}

#[tokio::test]
async fn what_is_forgotten_is_verified_again() {
    let authenticator = Authenticator::new(&with_secret(), clock().0).unwrap();
    authenticator.verify(&hs(&claims()), &subjects()).await.unwrap();
    authenticator.forget(&|identity| identity.user.as_str() == "bob", &|_| true);
    assert_eq!(authenticator.verified.len(), 1);
    authenticator.forget(&|identity| identity.user.as_str() == "alice", &|_| true);
    assert_eq!(authenticator.verified.len(), 0);
    assert!(authenticator.verify(&hs(&claims()), &subjects()).await.is_ok());
}

#[tokio::test]
async fn without_any_key_the_token_is_not_judged() {
    let server = KeyServer::start(&json!({})).await;
    let found = verify(&server.auth(), &ed_token(Some("k1"))).await;
    assert_eq!(found, Err(AuthError::Unavailable));
}

#[tokio::test]
async fn a_key_set_holds_public_keys_only() {
    let shared = json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let encrypts = {
        let mut key = ed_key("e");
        key["use"] = "enc".into();
        key
    };
    let wrong_kind = {
        let mut key = ed_key("w");
        key["alg"] = "RS256".into();
        key
    };
    let server = KeyServer::start(&json!({"keys": [shared, encrypts, wrong_kind, ed_key("k1")]})).await;
    let header = Header { kid: Some("s".to_owned()), ..Header::default() };
    install_crypto();
    let forged =
        jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    assert_eq!(verify(&server.auth(), &forged).await, Err(AuthError::Invalid("no_key")));
    for kid in ["e", "w"] {
        let found = verify(&server.auth(), &ed_token(Some(kid))).await;
        assert_eq!(found, Err(AuthError::Invalid("no_key")), "{kid}");
    }
    assert!(verify(&server.auth(), &ed_token(Some("k1"))).await.is_ok());
}
