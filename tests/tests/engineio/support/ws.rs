//! A WebSocket that sends and receives whole messages, text and binary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use parlance_tests::PATIENCE;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Server;

/// An open WebSocket.
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one at a path.
    pub async fn open(server: &Server, path: &str) -> Result<Self> {
        match Self::try_open(server, path).await? {
            Ok(socket) => Ok(socket),
            Err(status) => bail!("refused with {status}"),
        }
    }

    /// Opens one, or returns the status of the refusal; 0 when the connection is just cut.
    pub async fn try_open(server: &Server, path: &str) -> Result<Result<Self, u16>> {
        let stream = TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}{path}", server.address());
        match timeout(PATIENCE, client_async(url, stream)).await.context("no answer to the handshake")? {
            Ok((socket, _)) => Ok(Ok(Self(socket))),
            Err(Error::Http(answer)) => Ok(Err(answer.status().as_u16())),
            Err(Error::Protocol(_) | Error::Io(_)) => Ok(Err(0)),
            Err(other) => Err(other.into()),
        }
    }

    /// Opens a session over a WebSocket; its open packet is taken.
    pub async fn session(server: &Server) -> Result<Self> {
        let mut socket = Self::open(server, &server.path("websocket", None)).await?;
        let open = socket.text().await?;
        if !open.starts_with('0') {
            bail!("no open packet: {open}");
        }
        Ok(socket)
    }

    /// Opens one that is to take over a session.
    pub async fn for_session(server: &Server, sid: &str) -> Result<Self> {
        Self::open(server, &server.path("websocket", Some(sid))).await
    }

    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.message(Message::text(text)).await
    }

    pub async fn message(&mut self, message: Message) -> Result<()> {
        timeout(PATIENCE, self.0.send(message)).await.context("the server does not read")??;
        Ok(())
    }

    /// The next message; `None` when the socket has ended.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            return match timeout(PATIENCE, self.0.next()).await.context("nothing came")? {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => Ok(Some(message)),
                Some(Ok(_) | Err(_)) | None => Ok(None),
            };
        }
    }

    /// The next message, a text.
    pub async fn text(&mut self) -> Result<String> {
        match self.next().await? {
            Some(Message::Text(text)) => Ok(text.as_str().to_owned()),
            other => bail!("no text: {other:?}"),
        }
    }

    /// The next text that is no ping; pings are answered.
    pub async fn message_text(&mut self) -> Result<String> {
        loop {
            match self.text().await?.as_str() {
                "2" => self.send("3").await?,
                text => return Ok(text.to_owned()),
            }
        }
    }

    /// Waits for the end and returns the close code; `None` without one. Messages before it are passed over.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.context("the server does not close")? {
                Some(Ok(Message::Close(frame))) => return Ok(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    /// Makes sure that nothing comes for a while.
    pub async fn silent(&mut self, span: Duration) -> Result<()> {
        match timeout(span, self.0.next()).await {
            Err(_) => Ok(()),
            Ok(came) => bail!("expected silence, got {came:?}"),
        }
    }
}
