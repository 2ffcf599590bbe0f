//! A raw WebSocket as a test sees it: what was refused, what arrived, what did not, how it ended.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::PATIENCE;
use crate::http::{Response, read_body, read_head};

/// An open raw WebSocket.
pub struct Ws {
    stream: WebSocketStream<TcpStream>,
    /// The close code, once the server has closed.
    ended: Option<Option<u16>>,
}

impl Ws {
    /// Opens a socket.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(url: &str) -> Result<Self> {
        match Self::open(url, &[]).await? {
            Ok(socket) => Ok(socket),
            Err(refusal) => bail!("refused with {}: {}", refusal.status, refusal.body),
        }
    }

    /// The HTTP answer that refuses a socket.
    ///
    /// # Errors
    /// When it is not refused.
    pub async fn refused(url: &str) -> Result<Response> {
        match Self::open(url, &[]).await? {
            Ok(_) => bail!("the socket was opened"),
            Err(refusal) => Ok(refusal),
        }
    }

    /// Asks for a socket with further headers: the socket, or the HTTP answer that refuses it.
    ///
    /// # Errors
    /// When there is no proper answer to the handshake.
    pub async fn open(url: &str, headers: &[(&str, &str)]) -> Result<Result<Self, Response>> {
        timeout(PATIENCE, Self::handshake(url, headers)).await.context("no answer to the handshake")?
    }

    async fn handshake(url: &str, headers: &[(&str, &str)]) -> Result<Result<Self, Response>> {
        let url = url::Url::parse(url)?;
        let host = url.host_str().context("a URL without host")?;
        let port = url.port().context("a URL without port")?;
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let key = generate_key();
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = format!(
            "GET {}{query} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n",
            url.path()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (head, rest) = read_head(&mut stream).await?;
        if head.status != 101 {
            return Ok(Err(read_body(&mut stream, head, rest).await?));
        }
        let accept = head.header("sec-websocket-accept").unwrap_or_default();
        ensure!(accept == derive_accept_key(key.as_bytes()), "wrong Sec-WebSocket-Accept: {accept}");
        let stream = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
        Ok(Ok(Self { stream, ended: None }))
    }

    /// Sends a JSON value as a text message.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send(&mut self, message: &Value) -> Result<()> {
        self.send_message(Message::text(message.to_string())).await
    }

    /// Sends any message, for bad input too.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        self.send_all(vec![message]).await
    }

    /// Sends messages in one go: none of them waits until the server has read the one before.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_all(&mut self, messages: Vec<Message>) -> Result<()> {
        let sent = async {
            for message in messages {
                self.stream.feed(message).await?;
            }
            self.stream.flush().await
        };
        timeout(PATIENCE, sent).await.context("the server does not read")??;
        Ok(())
    }

    /// The next JSON message.
    ///
    /// # Errors
    /// When none comes in time, the socket ends, or it is not JSON.
    pub async fn next(&mut self) -> Result<Value> {
        let text = self.text(Instant::now() + PATIENCE).await?;
        text.with_context(|| format!("the socket ended, code {:?}", self.ended.flatten()))
    }

    /// The next text message as it came, JSON or not.
    ///
    /// # Errors
    /// When none comes in time, or the socket ends.
    pub async fn line(&mut self) -> Result<String> {
        let line = self.line_or_end().await?;
        line.with_context(|| format!("the socket ended, code {:?}", self.ended.flatten()))
    }

    /// As [`Self::line`]; `None` when the socket has ended.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn line_or_end(&mut self) -> Result<Option<String>> {
        self.message(Instant::now() + PATIENCE).await?.context("nothing came in time")
    }

    /// The next message whose `type` is `kind`; others are passed over.
    ///
    /// # Errors
    /// When none comes in time; the error shows what came instead.
    pub async fn expect(&mut self, kind: &str) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            let came = self.text(until).await;
            let Some(message) = came.with_context(|| format!("waiting for {kind}, got {others:?}"))? else {
                bail!("the socket ended (code {:?}) before {kind}, got {others:?}", self.ended.flatten());
            };
            if message["type"] == kind {
                return Ok(message);
            }
            others.push(message.to_string());
        }
    }

    /// Makes sure that no message comes for so long, and that the socket stays open.
    ///
    /// # Errors
    /// When one comes, or the socket ends.
    pub async fn assert_silent(&mut self, span: Duration) -> Result<()> {
        match self.message(Instant::now() + span).await? {
            Some(Some(message)) => bail!("expected silence, got {message}"),
            Some(None) => bail!("expected silence, the socket ended with code {:?}", self.ended.flatten()),
            None => Ok(()),
        }
    }

    /// Waits for the end and returns the close code; `None` when the connection ended without one.
    ///
    /// # Errors
    /// When the server does not close in time.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        self.closed_within(PATIENCE).await
    }

    /// The same, where it takes longer.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn closed_within(&mut self, patience: Duration) -> Result<Option<u16>> {
        let until = Instant::now() + patience;
        while self.ended.is_none() {
            ensure!(self.message(until).await?.is_some(), "the server does not close");
        }
        Ok(self.ended.flatten())
    }

    /// Closes from this side with a code.
    ///
    /// # Errors
    /// When the socket is closed already.
    pub async fn close(mut self, code: u16) -> Result<()> {
        let frame =
            tokio_tungstenite::tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
        timeout(PATIENCE, self.stream.close(Some(frame))).await.context("the server does not read")??;
        self.closed().await?;
        Ok(())
    }

    async fn text(&mut self, until: Instant) -> Result<Option<Value>> {
        let text = self.message(until).await?.context("nothing came in time")?;
        text.map(|text| serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))).transpose()
    }

    /// The next text; `Some(None)` when the socket has ended, `None` when the time is up.
    async fn message(&mut self, until: Instant) -> Result<Option<Option<String>>> {
        while self.ended.is_none() {
            let Ok(came) = timeout_at(until, self.stream.next()).await else { return Ok(None) };
            match came {
                Some(Ok(Message::Text(text))) => return Ok(Some(Some(text.as_str().to_owned()))),
                Some(Ok(Message::Close(frame))) => self.ended = Some(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Binary(_))) => bail!("a binary message"),
                Some(Ok(_)) => {}
                // A connection that ends without a close frame is an end like another; the code says which.
                Some(Err(_)) | None => self.ended = Some(None),
            }
        }
        // Reading on sends the answer to the close frame; a server that does not hang up is not waited for.
        let brief = Instant::now() + Duration::from_millis(200);
        let _ = timeout_at(until.min(brief), self.stream.next()).await;
        Ok(Some(None))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::Result;
    use futures_util::SinkExt;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;
    use tokio_tungstenite::{WebSocketStream, accept_async};

    use super::Ws;

    const BRIEF: Duration = Duration::from_millis(50);

    async fn pair() -> Result<(Ws, WebSocketStream<TcpStream>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/ws?token=t", listener.local_addr()?);
        let server = async { Ok::<_, anyhow::Error>(accept_async(listener.accept().await?.0).await?) };
        tokio::try_join!(Ws::connect(&url), server)
    }

    #[tokio::test]
    async fn expect_passes_over_other_types_and_next_does_not() -> Result<()> {
        let (mut client, mut server) = pair().await?;
        for kind in ["a", "b", "c"] {
            server.send(Message::text(json!({ "type": kind }).to_string())).await?;
        }
        assert_eq!(client.expect("b").await?["type"], "b");
        assert_eq!(client.next().await?["type"], "c");
        client.assert_silent(BRIEF).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_message_breaks_the_silence() -> Result<()> {
        let (mut client, mut server) = pair().await?;
        server.send(Message::text("{}")).await?;
        assert!(client.assert_silent(BRIEF).await.is_err());
        drop(server);
        assert!(client.assert_silent(BRIEF).await.is_err(), "an ended socket is not silent, it is gone");
        Ok(())
    }

    #[tokio::test]
    async fn the_close_code_is_seen_and_ends_the_waiting() -> Result<()> {
        let (mut client, mut server) = pair().await?;
        server.close(Some(CloseFrame { code: 1012.into(), reason: "".into() })).await?;
        assert!(client.expect("a").await.is_err());
        assert_eq!(client.closed().await?, Some(1012));
        let (mut client, server) = pair().await?;
        drop(server);
        assert_eq!(client.closed().await?, None);
        Ok(())
    }

    #[tokio::test]
    async fn a_refusal_is_returned_with_its_whole_body() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/ws", listener.local_addr()?);
        let server = async {
            let (mut stream, _) = listener.accept().await?;
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await?;
            }
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 25\r\n\r\n{\"error\":").await?;
            stream.flush().await?;
            stream.write_all(b"\"missing token\"}").await?;
            Ok::<_, anyhow::Error>(stream)
        };
        let (refusal, _stream) = tokio::try_join!(Ws::refused(&url), server)?;
        assert_eq!((refusal.status, refusal.json()?), (401, json!({"error": "missing token"})));
        Ok(())
    }
}
