//! The application's backend as a node asks or tells it: decides by a rule that can be changed, and shows what it was asked.
//!
//! Must not know: dialects, what is tested.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PATIENCE;

/// What is answered to a question: a whole HTTP answer; `None`: nothing, for as long as the asker waits.
type Rule = Arc<dyn Fn(&Value) -> Option<String> + Send + Sync>;

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Everything before the body.
    pub head: String,
    /// The body.
    pub body: Value,
}

/// A running backend; it ends with the test's runtime.
#[derive(Clone)]
pub struct Backend {
    address: String,
    rule: Arc<Mutex<Rule>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    under_way: Arc<Mutex<UnderWay>>,
    held: watch::Sender<bool>,
}

/// Questions that have come and are not answered yet.
#[derive(Default)]
struct UnderWay {
    now: usize,
    most: usize,
}

/// An answer of HTTP.
pub fn http(status: u16, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"))
}

/// Yes.
pub fn yes() -> Option<String> {
    http(200, r#"{"allow":true}"#)
}

/// No, for this reason.
pub fn no(reason: &str) -> Option<String> {
    http(200, &json!({ "allow": false, "reason": reason }).to_string())
}

impl Backend {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When there is none.
    #[expect(clippy::disallowed_methods, reason = "the backend lives as long as the test's runtime")]
    pub async fn start(rule: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let backend = Self {
            address,
            rule: Arc::new(Mutex::new(Arc::new(rule))),
            asked: Arc::default(),
            under_way: Arc::default(),
            held: watch::Sender::new(false),
        };
        let served = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                // Whoever breaks off gets no answer, and the test sees that.
                tokio::spawn(async move { served.serve(stream).await.ok() });
            }
        });
        Ok(backend)
    }

    /// Decides by another rule from now on.
    pub fn decide(&self, rule: impl Fn(&Value) -> Option<String> + Send + Sync + 'static) {
        *lock(&self.rule) = Arc::new(rule);
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}/authorise", self.address)
    }

    /// The questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }

    /// Keeps every answer back until [`Backend::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Gives the answers that were kept back, and all further ones at once.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// The largest number of questions that were under way at one time.
    pub fn most_at_once(&self) -> usize {
        lock(&self.under_way).most
    }

    /// How many were about that.
    pub fn times(&self, action: &str) -> usize {
        self.asked().iter().filter(|asked| asked.body["action"] == action).count()
    }

    /// Waits until it was asked so often.
    ///
    /// # Errors
    /// When it is not within the patience of the tests.
    pub async fn until_asked(&self, times: usize) -> Result<()> {
        let asked = async {
            while self.asked().len() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asked).await.with_context(|| format!("not asked {times} times: {:?}", self.asked()))
    }

    async fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut bytes = Vec::new();
        let asked = loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            if let Some(asked) = whole(&bytes) {
                break asked;
            }
        };
        let rule = lock(&self.rule).clone();
        let answer = rule(&asked.body);
        self.begun();
        lock(&self.asked).push(asked);
        self.held.subscribe().wait_for(|held| !held).await?;
        // Before the answer, which lets the next question come.
        lock(&self.under_way).now -= 1;
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await?,
            None => {
                // Until the other side goes.
                stream.read_buf(&mut bytes).await?;
            }
        }
        Ok(())
    }

    fn begun(&self) {
        let mut under_way = lock(&self.under_way);
        under_way.now += 1;
        under_way.most = under_way.most.max(under_way.now);
    }
}

fn whole(bytes: &[u8]) -> Option<Asked> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body = serde_json::from_str(body).ok()?;
    Some(Asked { head: head.to_owned(), body })
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
