//! What is asked of the session verifier, how often, and what its answers mean.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use parlance_model::Time;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::config::Auth;

const NOW: u64 = 1_800_000_000;
const TOKEN: &str = "s3ss10n+t/k=n&x=y %";
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock to set, in seconds.
fn clock() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(NOW));
    let read = seconds.clone();
    (Clock::from_fn(move || Time(read.load(Ordering::SeqCst) * 1000)), seconds)
}

fn subjects() -> Vec<String> {
    ["sub", "user_id", "userId", "openId"].map(str::to_owned).to_vec()
}

/// A verifier: what it answers can be changed, what it was asked can be read, and it can be made to wait.
#[derive(Clone)]
struct Sessions {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
    open: Arc<watch::Sender<bool>>,
}

#[derive(Debug, Clone)]
struct Asked {
    method: String,
    headers: hyper::HeaderMap,
    body: String,
}

impl Sessions {
    #[expect(clippy::disallowed_methods, reason = "a test's server lives as long as the test's runtime")]
    async fn start(answer: &Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sessions = Self {
            url: format!("http://{}/introspect", listener.local_addr().unwrap()),
            answer: Arc::new(Mutex::new((200, answer.to_string()))),
            asked: Arc::new(watch::Sender::default()),
            open: Arc::new(watch::Sender::new(true)),
        };
        let served = sessions.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request| served.clone().serve(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        sessions
    }

    async fn serve(
        self,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let asked = Asked { method: parts.method.to_string(), headers: parts.headers, body };
        self.asked.send_modify(|all| all.push(asked));
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let (status, text) = self.answer.lock().clone();
        Ok(hyper::Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
    }

    fn answers(&self, status: u16, body: &str) {
        *self.answer.lock() = (status, body.to_owned());
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }

    /// Waits until so many questions came.
    async fn until_asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        let came = asked.wait_for(|all| all.len() >= times);
        tokio::time::timeout(PATIENCE, came).await.expect("the verifier is asked").unwrap();
    }

    fn auth(&self) -> Auth {
        Auth { session_url: Some(self.url.clone()), session_timeout_ms: 20_000, ..Auth::default() }
    }

    fn authenticator(&self) -> (Authenticator, Arc<AtomicU64>) {
        let (clock, seconds) = clock();
        (Authenticator::new(&self.auth(), clock).unwrap(), seconds)
    }
}

fn active() -> Value {
    json!({ "active": true, "sub": "alice" })
}

#[tokio::test]
async fn the_verifier_is_asked_as_the_standard_says() {
    let answer = json!({
        "active": true, "userId": 42, "exp": NOW + 60, "iat": NOW, "name": "Alice", "username": "al",
        "picture": "https://x/a.png", "jti": "s1",
    });
    let sessions = Sessions::start(&answer).await;
    let auth = Auth { session_secret: Some("hush".to_owned()), ..sessions.auth() };
    let authenticator = Authenticator::new(&auth, clock().0).unwrap();
    let identity = authenticator.verify(&format!("Bearer {TOKEN}"), &subjects()).await.unwrap();
    assert_eq!((identity.user.as_str(), identity.expires_at), ("42", Time((NOW + 60) * 1000)));
    assert_eq!((identity.name.as_deref(), identity.username.as_deref()), (Some("Alice"), Some("al")));
    assert_eq!(
        (identity.picture.as_deref(), identity.token_id.as_deref()),
        (Some("https://x/a.png"), Some("s1"))
    );
    assert!(identity.verified);

    let asked = sessions.asked.borrow()[0].clone();
    let header = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        (asked.method.as_str(), asked.body.as_str()),
        ("POST", "token=s3ss10n%2Bt%2Fk%3Dn%26x%3Dy+%25")
    );
    assert_eq!(header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        (header("accept"), header("authorization")),
        ("application/json".into(), "Bearer hush".into())
    );
}

#[tokio::test]
async fn only_an_active_session_counts() {
    let no = Err(AuthError::Invalid("session"));
    let away = Err(AuthError::Unavailable);
    let long = format!(r#"{{"active":true,"sub":"alice","x":"{}"}}"#, "x".repeat(70_000));
    for (status, body, expected) in [
        (200, r#"{"active":true,"sub":"alice"}"#, Ok(())),
        (200, r#"{"active":false,"sub":"alice"}"#, no),
        (200, r#"{"active":"true","sub":"alice"}"#, no),
        (200, r#"{"active":1,"sub":"alice"}"#, no),
        (200, r#"{"sub":"alice"}"#, no),
        (401, r#"{"active":true,"sub":"alice"}"#, no),
        (404, "", no),
        (200, r#"{"active":true}"#, Err(AuthError::NoSubject)),
        (200, r#"{"active":true,"sub":"no spaces"}"#, Err(AuthError::Invalid("subject"))),
        (200, r#"{"active":true,"sub":"alice","exp":"soon"}"#, Err(AuthError::Invalid("exp"))),
        (200, r#"{"active":true,"sub":"alice","exp":1}"#, Err(AuthError::Expired)),
        (200, "[true]", away),
        (200, "<html>", away),
        (200, "", away),
        (200, &long, away),
        (204, "", away),
        (302, "", away),
        (403, "", away),
        (429, "", away),
        (500, r#"{"active":true,"sub":"alice"}"#, away),
    ] {
        let sessions = Sessions::start(&active()).await;
        sessions.answers(status, body);
        let found = sessions.authenticator().0.verify(TOKEN, &subjects()).await.map(drop);
        assert_eq!(found, expected, "{status} {}", body.get(..60).unwrap_or(body));
    }
}

#[tokio::test]
async fn a_jwt_is_not_the_verifiers_business() {
    let sessions = Sessions::start(&active()).await;
    let authenticator = sessions.authenticator().0;
    for token in ["a.b.c", "..", "eyJ.eyJ."] {
        assert!(authenticator.verify(token, &subjects()).await.is_err(), "{token}");
    }
    assert_eq!(sessions.asked(), 0);
    for (n, token) in ["a", "a.b", "a.b.c.d", "a.b.c.d.e"].into_iter().enumerate() {
        assert!(authenticator.verify(token, &subjects()).await.is_ok(), "{token}");
        assert_eq!(sessions.asked(), n + 1);
    }
    assert_eq!(authenticator.verify(" Bearer ", &subjects()).await, Err(AuthError::Missing));
    assert_eq!(sessions.asked(), 4);
}

#[tokio::test]
async fn a_yes_is_remembered_for_a_while_and_a_no_for_less() {
    let sessions = Sessions::start(&active()).await;
    let (authenticator, seconds) = sessions.authenticator();
    let verify = async |token: &str| authenticator.verify(token, &subjects()).await.map(drop);
    for (later, asked) in [(0, 1), (0, 1), (29, 1), (1, 2), (29, 2)] {
        seconds.fetch_add(later, Ordering::SeqCst);
        assert_eq!((verify("a").await, sessions.asked()), (Ok(()), asked), "{later}");
    }
    sessions.answers(200, r#"{"active":false}"#);
    assert_eq!((verify("a").await, sessions.asked()), (Ok(()), 2), "still good for this long");
    for (later, asked) in [(0, 3), (4, 3), (1, 4)] {
        seconds.fetch_add(later, Ordering::SeqCst);
        assert_eq!((verify("b").await, sessions.asked()), (Err(AuthError::Invalid("session")), asked));
    }
    sessions.answers(500, "");
    for asked in [5, 6] {
        assert_eq!((verify("c").await, sessions.asked()), (Err(AuthError::Unavailable), asked));
    }
    sessions.answers(200, &active().to_string());
    assert_eq!(verify("c").await, Ok(()), "an outage is forgotten at once");
}

#[tokio::test]
async fn a_session_is_not_good_beyond_its_end() {
    let sessions = Sessions::start(&json!({ "active": true, "sub": "alice", "exp": NOW + 10 })).await;
    let (authenticator, seconds) = sessions.authenticator();
    assert!(authenticator.verify(TOKEN, &subjects()).await.is_ok());
    seconds.fetch_add(10, Ordering::SeqCst);
    assert!(authenticator.verify(TOKEN, &subjects()).await.is_ok());
    assert_eq!(sessions.asked(), 2, "what was remembered ended with the session");
    seconds.fetch_add(5, Ordering::SeqCst);
    assert_eq!(authenticator.verify(TOKEN, &subjects()).await, Err(AuthError::Expired));
}

#[tokio::test]
async fn a_connection_lives_a_day_on_one_answer_at_most() {
    let day = 24 * 60 * 60;
    for (exp, expected) in
        [(Value::Null, NOW + day), (json!(NOW + 7 * day), NOW + day), (json!(NOW + 60), NOW + 60)]
    {
        let sessions = Sessions::start(&json!({ "active": true, "sub": "alice", "exp": exp })).await;
        let identity = sessions.authenticator().0.verify(TOKEN, &subjects()).await.unwrap();
        assert_eq!(identity.expires_at, Time(expected * 1000), "{exp}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_named_must_fit() {
    for (claims, expected) in [
        (json!({}), Ok(())),
        (json!({ "iss": "me", "aud": ["chat"] }), Ok(())),
        (json!({ "iss": "you" }), Err(AuthError::Invalid("issuer"))),
        (json!({ "iss": "me", "aud": "mail" }), Err(AuthError::Invalid("audience"))),
    ] {
        let mut answer = active();
        answer.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let sessions = Sessions::start(&answer).await;
        let auth = Auth { issuer: Some("me".into()), audience: Some("chat".into()), ..sessions.auth() };
        let authenticator = Authenticator::new(&auth, clock().0).unwrap();
        assert_eq!(authenticator.verify(TOKEN, &subjects()).await.map(drop), expected, "{answer}");
    }
}

#[tokio::test]
async fn each_mount_reads_its_own_claims() {
    let sessions = Sessions::start(&json!({ "active": true, "sub": "s", "userId": "u" })).await;
    let authenticator = sessions.authenticator().0;
    for (first, expected) in [("sub", "s"), ("userId", "u"), ("sub", "s")] {
        let identity = authenticator.verify(TOKEN, &[first.to_owned()]).await.unwrap();
        assert_eq!(identity.user.as_str(), expected);
    }
    assert_eq!(sessions.asked(), 1);
}

#[tokio::test]
async fn a_claim_too_large_to_keep_is_still_the_first() {
    for large in [json!("u".repeat(3000)), json!({ "id": "u" }), json!(["u"])] {
        let answer = json!({ "active": true, "sub": large, "userId": "u", "name": large, "aud": ["chat"] });
        let sessions = Sessions::start(&answer).await;
        let auth = Auth { audience: Some("chat".into()), ..sessions.auth() };
        let authenticator = Authenticator::new(&auth, clock().0).unwrap();
        let found = authenticator.verify(TOKEN, &subjects()).await;
        assert_eq!(found, Err(AuthError::Invalid("subject")), "{answer:.60}");
        let found = authenticator.verify(TOKEN, &["userId".to_owned()]).await.unwrap();
        assert_eq!((found.user.as_str(), found.name.as_deref()), ("u", None));
    }
}

#[tokio::test]
async fn those_who_come_together_share_one_question() {
    let sessions = Sessions::start(&active()).await;
    sessions.open.send_replace(false);
    let authenticator = sessions.authenticator().0;
    let order = subjects();
    let all = join_all((0..50).map(|_| authenticator.verify(TOKEN, &order)));
    let release = async {
        sessions.until_asked(1).await;
        sessions.open.send_replace(true);
    };
    let (found, ()) = tokio::join!(all, release);
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(sessions.asked(), 1);
}

#[tokio::test]
async fn one_who_goes_away_while_asking_takes_nobody_along() {
    let sessions = Sessions::start(&active()).await;
    sessions.open.send_replace(false);
    let authenticator = sessions.authenticator().0;
    let order = subjects();
    tokio::select! {
        _ = authenticator.verify(TOKEN, &order) => panic!("there was no answer"),
        () = sessions.until_asked(1) => {}
    }
    let release = async {
        sessions.until_asked(2).await;
        sessions.open.send_replace(true);
    };
    let (found, ()) = tokio::join!(authenticator.verify(TOKEN, &order), release);
    assert!(found.is_ok());
}

#[tokio::test]
async fn no_more_than_64_questions_are_under_way() {
    let sessions = Sessions::start(&active()).await;
    sessions.open.send_replace(false);
    let authenticator = sessions.authenticator().0;
    let order = subjects();
    let tokens: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let all = join_all(tokens.iter().map(|token| authenticator.verify(token, &order)));
    let release = async {
        sessions.until_asked(64).await;
        // A 65th that was not held back would have set out before these came.
        let more = tokio::time::timeout(Duration::from_millis(100), sessions.until_asked(65)).await;
        sessions.open.send_replace(true);
        more
    };
    let (found, more) = tokio::join!(all, release);
    assert!(more.is_err(), "more than 64 at once");
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(sessions.asked(), 100);
}

#[tokio::test]
async fn a_verifier_that_does_not_answer_is_an_outage_and_not_a_yes() {
    let sessions = Sessions::start(&active()).await;
    sessions.open.send_replace(false);
    let auth = Auth { session_timeout_ms: 50, ..sessions.auth() };
    let authenticator = Authenticator::new(&auth, clock().0).unwrap();
    let order = subjects();
    let found = join_all((0..10).map(|_| authenticator.verify(TOKEN, &order))).await;
    assert!(found.iter().all(|one| *one == Err(AuthError::Unavailable)), "{found:?}");
    assert_eq!(sessions.asked(), 1);

    let gone = Auth { session_url: Some("http://127.0.0.1:1/".to_owned()), ..Auth::default() };
    let found = Authenticator::new(&gone, clock().0).unwrap().verify(TOKEN, &order).await;
    assert_eq!(found, Err(AuthError::Unavailable));
    let reject = Reject::from(AuthError::Unavailable);
    assert_eq!((reject.code, reject.retry_after_ms), (RejectCode::Unavailable, Some(1_000)));
}

#[tokio::test]
async fn without_a_verifier_session_tokens_are_refused() {
    let secret = Auth { secrets: vec!["a".repeat(32)], ..Auth::default() };
    let authenticator = Authenticator::new(&secret, clock().0).unwrap();
    assert_eq!(authenticator.verify(TOKEN, &subjects()).await, Err(AuthError::Invalid("malformed")));
}

#[test]
fn an_unusable_verifier_is_refused_by_name() {
    let refusal = |auth: &Auth| Authenticator::new(auth, clock().0).err().unwrap_or_default();
    for url in ["http://app.example/x", "ftp://127.0.0.1/", "nonsense", "http://127.0.0.1.evil.example/"] {
        let line = refusal(&Auth { session_url: Some(url.to_owned()), ..Auth::default() });
        assert!(line.starts_with("auth.session_url: "), "{url}: {line}");
    }
    let odd = Auth {
        session_url: Some("https://app.example/x".to_owned()),
        session_secret: Some("a\nb".to_owned()),
        ..Auth::default()
    };
    let line = refusal(&odd);
    assert!(line.starts_with("auth.session_secret: ") && !line.contains("a\nb"), "{line}");
}
