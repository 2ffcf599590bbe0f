//! A client that polls: Engine.IO over HTTP, and SocialHub's long poll.
//!
//! Must not know: Socket.IO, dialects' events.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Dial;
use super::http::{Answer, Http};

type Answering<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

const TEXT: &str = "content-type: text/plain;charset=UTF-8\r\n";
/// Between packets of one payload.
const BETWEEN: char = '\u{1e}';

/// An Engine.IO session over HTTP.
pub struct Polling {
    dial: Dial,
    path: String,
    get: Answering<(Http, Answer)>,
    post: Option<Answering<Http>>,
    /// A connection for posts that has none under way.
    rested: Option<Http>,
    /// Packets that wait for a post.
    waiting: String,
}

impl Polling {
    /// Opens a session; `path` may have a query already.
    pub async fn open(dial: Dial, path: &str) -> Result<Self> {
        let mut http = Http::open(dial).await?;
        let mark = if path.contains('?') { '&' } else { '?' };
        let base = format!("{path}{mark}EIO=4&transport=polling");
        let open = http.call("GET", &base, "", "").await?;
        ensure!(open.status == 200, "refused: {} {}", open.status, String::from_utf8_lossy(&open.body));
        let text = String::from_utf8(open.body)?;
        let sid = text.split('"').nth(3).filter(|_| text.starts_with("0{\"sid\"")).context("no sid")?;
        let path = format!("{base}&sid={sid}");
        let get = cycle(http, path.clone(), String::new());
        Ok(Self { dial, path, get, post: None, rested: None, waiting: String::new() })
    }

    /// See [`super::Line::send`].
    pub fn send(&mut self, text: &str) {
        self.push('4', text);
    }

    fn push(&mut self, kind: char, text: &str) {
        if !self.waiting.is_empty() {
            self.waiting.push(BETWEEN);
        }
        self.waiting.push(kind);
        self.waiting.push_str(text);
    }

    /// See [`super::Line::turn`].
    pub async fn turn(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        poll_fn(|cx| self.poll(cx, each)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, each: &mut impl FnMut(&[u8])) -> Poll<Result<()>> {
        loop {
            if self.post.is_none() && !self.waiting.is_empty() {
                let (dial, path) = (self.dial, self.path.clone());
                let (rested, body) = (self.rested.take(), std::mem::take(&mut self.waiting));
                self.post = Some(Box::pin(async move {
                    let mut http = match rested {
                        Some(http) => http,
                        None => Http::open(dial).await?,
                    };
                    post(&mut http, &path, &body).await?;
                    Ok(http)
                }));
            }
            match self.post.as_mut().map(|post| post.as_mut().poll(cx)) {
                Some(Poll::Ready(Ok(http))) => {
                    self.post = None;
                    self.rested = Some(http);
                }
                Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                Some(Poll::Pending) | None => break,
            }
        }
        let Poll::Ready(answered) = self.get.as_mut().poll(cx) else { return Poll::Pending };
        let (http, answer) = answered?;
        Poll::Ready(self.take(http, answer, each))
    }

    fn take(&mut self, http: Http, answer: Answer, each: &mut impl FnMut(&[u8])) -> Result<()> {
        ensure!(answer.status == 200, "a poll was answered {}", answer.status);
        let mut pongs = String::new();
        for packet in answer.body.split(|byte| *byte == BETWEEN as u8) {
            match packet {
                [b'4', message @ ..] => each(message),
                // On the connection that polls, before it polls again: one connection is enough for who is idle.
                [b'2', ..] => pongs.push('3'),
                [b'1', ..] => bail!("closed by the server: Engine.IO"),
                _ => {}
            }
        }
        self.get = cycle(http, self.path.clone(), pongs);
        Ok(())
    }
}

/// A post, if there is something to say, and the next poll.
fn cycle(mut http: Http, path: String, body: String) -> Answering<(Http, Answer)> {
    Box::pin(async move {
        if !body.is_empty() {
            post(&mut http, &path, &body).await?;
        }
        let answer = http.call("GET", &path, "", "").await?;
        Ok((http, answer))
    })
}

async fn post(http: &mut Http, path: &str, body: &str) -> Result<()> {
    let answer = http.call("POST", path, TEXT, body).await?;
    ensure!(answer.status == 200, "a post was answered {}", answer.status);
    Ok(())
}

/// A user of SocialHub who polls; nothing can be sent.
pub struct LongPoll {
    get: Answering<(Http, Answer)>,
    user: String,
    token: String,
}

#[derive(Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    last_poll_id: u64,
}

impl LongPoll {
    /// Begins to poll.
    pub async fn open(dial: Dial, user: &str, token: &str) -> Result<Self> {
        let http = Http::open(dial).await?;
        let get = long(http, user, token, 0);
        Ok(Self { get, user: user.to_owned(), token: token.to_owned() })
    }

    /// See [`super::Line::turn`].
    pub async fn turn(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        let (http, answer) = self.get.as_mut().await?;
        ensure!(
            answer.status == 200,
            "a poll was answered {} (more than the rate a user may poll at? see --no-limits of the server)",
            answer.status
        );
        let events: Events<'_> = serde_json::from_slice(&answer.body).context("no answer to a poll")?;
        for event in &events.events {
            each(event.get().as_bytes());
        }
        self.get = long(http, &self.user, &self.token, events.last_poll_id);
        Ok(())
    }
}

fn long(mut http: Http, user: &str, token: &str, last: u64) -> Answering<(Http, Answer)> {
    let path = format!("/api/v1/realtime/poll?user_id={user}&last_poll_id={last}&timeout=20");
    let headers = format!("authorization: Bearer {token}\r\n");
    Box::pin(async move {
        let answer = http.call("GET", &path, &headers, "").await?;
        Ok((http, answer))
    })
}
