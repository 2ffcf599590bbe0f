//! A Socket.IO client in as little memory as possible, over WebSocket or HTTP polling: it joins its namespace,
//! answers pings and reads what comes.
//!
//! Must not know: events.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::socket::Socket;

/// A connected client.
pub enum Client {
    /// A raw WebSocket of one of the dialects that need no Socket.IO.
    Raw(Socket),
    /// Socket.IO over WebSocket.
    Websocket(Socket),
    /// Socket.IO over polling.
    Polling(Box<Polling>),
}

impl Client {
    /// Socket.IO over WebSocket, joined to the main namespace. `path` has a query already.
    pub async fn websocket(address: SocketAddr, source: Option<SocketAddr>, path: &str) -> Result<Self> {
        let mut socket = Socket::open(address, source, &format!("{path}&EIO=4&transport=websocket")).await?;
        let open = socket.next().await?;
        if !open.starts_with('0') {
            bail!("no open packet: {open}");
        }
        socket.send("40").await?;
        joined(&socket.next().await?)?;
        Ok(Self::Websocket(socket))
    }

    /// Socket.IO over polling, joined to the main namespace.
    pub async fn polling(address: SocketAddr, source: Option<SocketAddr>, path: &str) -> Result<Self> {
        let mut poll = Http::open(address, source).await?;
        let base = format!("{path}&EIO=4&transport=polling");
        let open = poll.call("GET", &base, "").await?;
        let sid = open.split('"').nth(3).filter(|_| open.starts_with("0{\"sid\"")).context("no sid")?;
        let path = format!("{base}&sid={sid}");
        let mut polling = Polling { poll, address, source, path };
        polling.post("40").await?;
        joined(&polling.poll.call("GET", &polling.path.clone(), "").await?)?;
        Ok(Self::Polling(Box::new(polling)))
    }

    /// Reads, and so answers pings, until the connection ends.
    pub async fn hold(mut self) -> Result<()> {
        loop {
            match &mut self {
                Self::Raw(socket) => {
                    socket.next().await?;
                }
                Self::Websocket(socket) => {
                    if socket.next().await? == "2" {
                        socket.send("3").await?;
                    }
                }
                Self::Polling(polling) => polling.turn().await?,
            }
        }
    }
}

fn joined(packet: &str) -> Result<()> {
    if packet.starts_with("40{") { Ok(()) } else { bail!("not joined: {packet}") }
}

/// A polling client: one connection holds the poll, posts take one each.
pub struct Polling {
    poll: Http,
    address: SocketAddr,
    source: Option<SocketAddr>,
    path: String,
}

impl Polling {
    async fn turn(&mut self) -> Result<()> {
        let payload = self.poll.call("GET", &self.path, "").await?;
        if payload.split('\u{1e}').any(|packet| packet == "2") {
            self.post("3").await?;
        }
        Ok(())
    }

    async fn post(&self, body: &str) -> Result<()> {
        let answer = Http::open(self.address, self.source).await?.call("POST", &self.path, body).await?;
        if answer == "ok" { Ok(()) } else { bail!("a post was answered {answer}") }
    }
}

/// One HTTP connection, one request at a time.
struct Http {
    stream: TcpStream,
    host: SocketAddr,
}

impl Http {
    async fn open(address: SocketAddr, source: Option<SocketAddr>) -> Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            socket.bind(source).context("no free port")?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: address })
    }

    /// The body of the answer, which must be 200.
    async fn call(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain;charset=UTF-8\r\n\
             content-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.readable().await?;
        let mut buffer = Vec::with_capacity(512);
        loop {
            if let Some(body) = whole(&buffer)? {
                return Ok(body);
            }
            if self.stream.read_buf(&mut buffer).await? == 0 {
                bail!("the connection ended");
            }
        }
    }
}

/// The body, once it is there.
fn whole(buffer: &[u8]) -> Result<Option<String>> {
    let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&buffer[..at])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        bail!("refused: {}", String::from_utf8_lossy(buffer));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.context("no content-length")?.trim().parse()?;
    let body = &buffer[at + 4..];
    if body.len() < length { Ok(None) } else { Ok(Some(String::from_utf8(body[..length].to_vec())?)) }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn an_answer_is_taken_whole_and_only_then() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(whole(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(whole(answer).unwrap().as_deref(), Some("ok"));
        assert!(whole(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err());
    }
}
