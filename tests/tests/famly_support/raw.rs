//! Socket.IO by hand over a WebSocket: packets no stock client would send.

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use parlance_tests::{Gateway, PATIENCE, token};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// An Engine.IO session over a WebSocket.
pub struct Raw {
    stream: WebSocketStream<TcpStream>,
    last: u64,
    /// The open packet.
    pub handshake: String,
}

impl Raw {
    /// Opens a session that has not joined the namespace; `query` goes with the handshake.
    pub async fn open(gateway: &Gateway, query: &str) -> Result<Self> {
        let stream = TcpStream::connect(gateway.address()).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket{query}", gateway.address());
        let (stream, _) = timeout(PATIENCE, client_async(url, stream)).await.context("no answer")??;
        let mut raw = Self { stream, last: 0, handshake: String::new() };
        raw.handshake = raw.packet().await?;
        ensure!(raw.handshake.starts_with('0'), "no open packet: {}", raw.handshake);
        Ok(raw)
    }

    /// Opens a session in the namespace.
    pub async fn connect(gateway: &Gateway, user: &str) -> Result<Self> {
        let mut raw = Self::open(gateway, "").await?;
        raw.send(&format!("40{}", json!({ "token": token(user)? }))).await?;
        let answer = raw.packet().await?;
        ensure!(answer.starts_with("40{\"sid\":\""), "not connected: {answer}");
        Ok(raw)
    }

    /// Sends a packet as it is.
    pub async fn send(&mut self, packet: &str) -> Result<()> {
        self.message(Message::text(packet)).await
    }

    /// Sends a binary WebSocket message.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.message(Message::binary(bytes.to_vec())).await
    }

    /// The next packet; pings are answered.
    pub async fn packet(&mut self) -> Result<String> {
        loop {
            match self.next().await? {
                Some(packet) if packet == "2" => self.send("3").await?,
                Some(packet) => return Ok(packet),
                None => bail!("the connection has ended"),
            }
        }
    }

    /// Emits an event and waits for its ack; events that come before it are passed over.
    pub async fn emit_ack(&mut self, event: &str, payload: &Value) -> Result<Value> {
        let id = self.last;
        self.last += 1;
        self.send(&format!("42{id}{}", json!([event, payload]))).await?;
        self.ack(id).await
    }

    /// Waits for the ack of a packet.
    pub async fn ack(&mut self, id: u64) -> Result<Value> {
        let start = format!("43{id}[");
        loop {
            let packet = self.packet().await?;
            if packet.starts_with(&start) {
                let mut args: Vec<Value> = serde_json::from_str(&packet[start.len() - 1..])?;
                ensure!(args.len() == 1, "an ack is one object: {packet}");
                return Ok(args.remove(0));
            }
            ensure!(packet.starts_with("42"), "neither the ack nor an event: {packet}");
        }
    }

    /// Waits for the end; packets that come before it are passed over.
    pub async fn closed(&mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    async fn message(&mut self, message: Message) -> Result<()> {
        timeout(PATIENCE, self.stream.send(message)).await.context("the server does not read")??;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<String>> {
        loop {
            return match timeout(PATIENCE, self.stream.next()).await.context("nothing came in time")? {
                Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_))) => bail!("a binary message"),
                Some(Ok(_) | Err(_)) | None => Ok(None),
            };
        }
    }
}
