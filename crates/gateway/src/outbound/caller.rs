//! Calls to the application's backend: JSON there, and whatever it answers back.
//!
//! Owns: how long a call may take in all, how large an answer may be, how many calls are under way at once, the signature.
//! Must not know: what is asked, whether it is asked again, what an answer means.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use parlance_model::Time;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::signature::Signer;
use super::{Outbound, body};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("parlance/", env!("CARGO_PKG_VERSION")));

/// What calls keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// From when somebody wants to call until the answer is read.
    pub time: Duration,
    /// Calls under way at once; more wait, within the time each has.
    pub at_once: usize,
    /// Bytes of an answer.
    pub answer: usize,
}

/// Calls a backend.
pub(crate) struct Caller {
    client: Outbound,
    bounds: Bounds,
    turns: Semaphore,
    signer: Option<Signer>,
}

/// What a backend answered, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    /// A redirect is an answer like any other: nobody goes where it points.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// All turns were taken for as long as the call might have lasted: nothing was asked.
    #[error("too many calls are under way")]
    Busy,
    /// It did not come in time.
    #[error("no answer in time")]
    Late,
    /// It could not be asked, or its answer not be read.
    #[error("{0}")]
    Broken(String),
}

impl Caller {
    /// Signs when there is a secret.
    pub(crate) fn new(bounds: Bounds, secret: Option<&str>) -> Result<Self, String> {
        Ok(Self {
            client: Outbound::new()?,
            bounds,
            turns: Semaphore::new(bounds.at_once),
            signer: secret.map(Signer::new),
        })
    }

    /// Posts JSON. `at`: the time that is signed. `headers` come beside those of every call.
    pub(crate) async fn post(
        &self,
        url: &Uri,
        at: Time,
        json: Bytes,
        headers: HeaderMap,
    ) -> Result<Answer, Failure> {
        let deadline = tokio::time::Instant::now() + self.bounds.time;
        let Ok(turn) = timeout_at(deadline, self.turns.acquire()).await else { return Err(Failure::Busy) };
        let _turn = turn.map_err(|error| Failure::Broken(error.to_string()))?;
        let request = self.request(url, at, json, headers);
        timeout_at(deadline, self.exchange(request)).await.unwrap_or(Err(Failure::Late))
    }

    fn request(&self, url: &Uri, at: Time, json: Bytes, mut headers: HeaderMap) -> Request<Full<Bytes>> {
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        headers.insert(USER_AGENT, AGENT);
        if let Some(signer) = &self.signer {
            signer.sign(at, &json, &mut headers);
        }
        let mut request = Request::new(Full::new(json));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers;
        request
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let answer = self.client.send(request).await.map_err(Failure::Broken)?;
        let status = answer.status();
        let body = body(answer, self.bounds.answer).await.map_err(Failure::Broken)?;
        Ok(Answer { status, body })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), at_once: 2, answer: 64 };

    /// Answers one connection with this, and then says what it was asked.
    async fn server(answer: String) -> (Uri, impl Future<Output = String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap()).parse().unwrap();
        let served = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        (url, served)
    }

    async fn post(bounds: Bounds, answer: &str, length: usize) -> (Result<Answer, Failure>, String) {
        let head = format!("HTTP/1.1 {answer}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let (url, served) = server(head + &"x".repeat(length)).await;
        let caller = Caller::new(bounds, Some("secret")).unwrap();
        let json = Bytes::from_static(b"{\"a\":1}");
        let headers = HeaderMap::from_iter([("x-more".parse().unwrap(), HeaderValue::from_static("1"))]);
        let (answer, asked) =
            tokio::join!(caller.post(&url, Time::from_millis(7_000), json, headers), served);
        (answer, asked)
    }

    #[tokio::test]
    async fn json_goes_there_signed_and_the_answer_comes_back() {
        let (answer, asked) = post(BOUNDS, "418 Teapot", 3).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body), (418, b"xxx".as_slice()));
        for line in ["POST /hook?x=1 HTTP/1.1", "content-type: application/json", "parlance-timestamp: 7"] {
            assert!(asked.contains(line), "{line} in {asked}");
        }
        assert!(asked.contains("parlance-signature: v1=") && asked.contains("x-more: 1"), "{asked}");
        assert!(asked.ends_with("\r\n\r\n{\"a\":1}"), "{asked}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_too_much_is_none() {
        let (answer, _) = post(BOUNDS, "302 Found\r\nlocation: http://127.0.0.1:1/", 0).await;
        assert_eq!(answer.unwrap().status, 302);
        assert!(post(BOUNDS, "200 OK", 64).await.0.is_ok());
        assert!(matches!(post(BOUNDS, "200 OK", 65).await.0, Err(Failure::Broken(_))));
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_in_vain_has_asked_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let bounds = Bounds { time: Duration::from_millis(200), at_once: 1, answer: 64 };
        let caller = Caller::new(bounds, None).unwrap();
        let call = || caller.post(&url, Time::default(), Bytes::from_static(b"{}"), HeaderMap::new());
        let (first, second) = tokio::join!(call(), call());
        assert!(matches!((first, second), (Err(Failure::Late), Err(Failure::Busy | Failure::Late))));
        let gone: Uri = "http://127.0.0.1:1/".parse().unwrap();
        let broken = caller.post(&gone, Time::default(), Bytes::new(), HeaderMap::new()).await;
        assert!(matches!(broken, Err(Failure::Broken(_))), "{broken:?}");
    }
}
