//! A small HTTP/1.1 client: one request per connection, so that a test sees exactly what the server answers.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, without transfer coding.
    pub body: String,
}

impl Response {
    /// The value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` when it is empty.
    ///
    /// # Errors
    /// When it is neither.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.body).with_context(|| format!("{}: not JSON: {}", self.status, self.body))
    }
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `host:port`, where it goes.
    pub address: &'a str,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Token or key for the `Authorization` header.
    pub bearer: Option<&'a str>,
    /// JSON body.
    pub body: Option<&'a Value>,
}

impl Request<'_> {
    /// Sends it and reads the answer.
    ///
    /// # Errors
    /// When the server cannot be reached, or gives no whole answer in time.
    pub async fn send(&self) -> Result<Response> {
        let what = || format!("{} {}", self.method, self.path);
        timeout(PATIENCE, self.exchange())
            .await
            .with_context(|| format!("{}: no answer", what()))?
            .with_context(what)
    }

    async fn exchange(&self) -> Result<Response> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(self.text().as_bytes()).await?;
        let (head, rest) = read_head(&mut stream).await?;
        read_body(&mut stream, head, rest).await
    }

    fn text(&self) -> String {
        let Self { address, method, path, .. } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        if let Some(bearer) = self.bearer {
            text.push_str(&format!("authorization: Bearer {bearer}\r\n"));
        }
        let body = self.body.map(Value::to_string);
        if let Some(body) = &body {
            text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        text + "\r\n" + body.as_deref().unwrap_or_default()
    }
}

/// Reads a response's head; also returns the bytes that came after it.
///
/// # Errors
/// When the connection ends before, or it is no HTTP response.
pub async fn read_head(stream: &mut TcpStream) -> Result<(Response, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection ended in the response's head");
    };
    let rest = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?.parse()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok((Response { status, headers, body: String::new() }, rest))
}

/// Reads the body that belongs to a head.
///
/// # Errors
/// When it is cut short.
pub async fn read_body(stream: &mut TcpStream, mut head: Response, mut bytes: Vec<u8>) -> Result<Response> {
    let chunked =
        head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = head.header("content-length").map(str::parse::<usize>).transpose()?;
    let whole = |bytes: &[u8]| match length {
        _ if matches!(head.status, 204 | 304) => true,
        _ if chunked => bytes.ends_with(b"0\r\n\r\n"),
        Some(length) => bytes.len() >= length,
        None => false,
    };
    while !whole(&bytes) {
        if stream.read_buf(&mut bytes).await? == 0 {
            ensure!(!chunked && length.is_none(), "the connection ended in the response's body");
            break;
        }
    }
    let bytes = if chunked { dechunk(&bytes)? } else { bytes };
    head.body = String::from_utf8(bytes)?;
    Ok(head)
}

fn dechunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else { bail!("no chunk size") };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(out);
        }
        let chunk = bytes.get(end + 2..end + 2 + size).context("a chunk is cut short")?;
        out.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::{Request, Response};

    /// Answers one request with `answer` and returns what was asked, and what the client made of it.
    async fn exchange(answer: &str) -> Result<(String, Result<Response>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            let mut asked = Vec::new();
            while !asked.ends_with(b"{\"a\":1}") {
                stream.read_buf(&mut asked).await?;
            }
            stream.write_all(answer.as_bytes()).await?;
            Ok::<_, anyhow::Error>(String::from_utf8(asked)?)
        };
        let body = json!({"a": 1});
        let request =
            Request { address: &address, method: "POST", path: "/x", bearer: Some("key"), body: Some(&body) };
        let (asked, answered) = tokio::join!(server, request.send());
        Ok((asked?, answered))
    }

    #[tokio::test]
    async fn a_request_carries_key_and_body_and_the_answer_is_read() -> Result<()> {
        let (asked, answered) =
            exchange("HTTP/1.1 409 Conflict\r\nContent-Length: 7\r\n\r\n{\"b\":2}").await?;
        assert!(asked.starts_with("POST /x HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer key\r\n"), "{asked}");
        assert!(asked.contains("content-length: 7\r\n"), "{asked}");
        let answered = answered?;
        assert_eq!((answered.status, answered.json()?), (409, json!({"b": 2})));
        Ok(())
    }

    #[tokio::test]
    async fn chunks_are_joined() -> Result<()> {
        let chunks =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(exchange(chunks).await?.1?.body, "abc0123456789");
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_short_is_an_error() -> Result<()> {
        let (_, answered) = exchange("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{}").await?;
        assert!(answered.is_err());
        Ok(())
    }
}
