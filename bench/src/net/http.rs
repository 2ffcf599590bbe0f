//! One HTTP connection, one request at a time.
//!
//! Must not know: what is asked.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Dial;

/// An open connection.
pub struct Http {
    stream: TcpStream,
    host: String,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects.
    pub async fn open(dial: Dial) -> Result<Self> {
        Ok(Self { stream: dial.tcp().await?, host: dial.address.to_string() })
    }

    /// Asks, with `headers` (each ended by CRLF), and waits for the whole answer.
    pub async fn call(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.readable().await?;
        let mut buffer = Vec::with_capacity(512);
        loop {
            if let Some(answer) = whole(&buffer)? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut buffer).await? == 0 {
                bail!("the connection ended");
            }
        }
    }
}

/// The answer, once it is there.
pub fn whole(buffer: &[u8]) -> Result<Option<Answer>> {
    let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&buffer[..at])?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP answer")?;
    let body = &buffer[at + 4..];
    if head.contains("transfer-encoding: chunked") {
        return Ok(chunks(body)?.map(|body| Answer { status, body }));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = match length {
        Some(length) => length.trim().parse()?,
        None if status == 204 => 0,
        None => bail!("no content-length"),
    };
    Ok((body.len() >= length).then(|| Answer { status, body: body[..length].to_vec() }))
}

fn chunks(mut body: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    loop {
        let Some(at) = memchr::memmem::find(body, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&body[..at])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16)?;
        let Some(chunk) = body.get(at + 2..at + 2 + size + 2) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(whole));
        }
        whole.extend_from_slice(&chunk[..size]);
        body = &body[at + 2 + size + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn an_answer_is_taken_whole_and_only_then() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(whole(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(whole(answer).unwrap().unwrap().body, b"ok");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n";
        assert_eq!(whole(&chunked[..chunked.len() - 1]).unwrap(), None);
        assert_eq!(whole(chunked).unwrap().unwrap().body, b"ok!");
        assert_eq!(
            whole(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap().status,
            404
        );
    }
}
