//! A Socket.IO client that is nothing but packets written and read by hand, over a WebSocket: for what a stock
//! client never sends, and for the exact order of what arrives.
//!
//! Must not know: any dialect.
#![allow(dead_code, reason = "every test program uses its own part of this")]

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use parlance_tests::{Gateway, PATIENCE};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// An open Engine.IO session.
pub struct Io {
    stream: WebSocketStream<TcpStream>,
    /// What the open packet said.
    pub handshake: Value,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    Event(String, Vec<Value>),
    Ack(u64, Vec<Value>),
    /// Any other Socket.IO packet, as it is.
    Packet(String),
    /// The end, with the close code where there is one.
    End(Option<u16>),
}

/// An event in the namespace `/`, with an acknowledgement's number where one is asked for.
pub fn event(id: Option<u64>, name: &str, payload: &Value) -> String {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    format!("42{id}{}", json!([name, payload]))
}

impl Io {
    /// Opens a session; `target` is the path with what else belongs into the query (`/socket.io/?token=t`).
    pub async fn open(gateway: &Gateway, target: &str) -> Result<Self> {
        let stream = TcpStream::connect(gateway.address()).await?;
        stream.set_nodelay(true)?;
        let joint = if target.contains('?') { '&' } else { '?' };
        let url = gateway.url(&format!("{target}{joint}EIO=4&transport=websocket"));
        let (stream, _) = timeout(PATIENCE, client_async(url, stream)).await.context("no answer")??;
        let mut session = Self { stream, handshake: Value::Null };
        let open = session.text().await?;
        let open = open.as_ref().map_err(|code| anyhow::anyhow!("ended at once, code {code:?}"))?;
        session.handshake = serde_json::from_str(open.strip_prefix('0').context("no open packet")?)?;
        Ok(session)
    }

    /// Writes packets in one go, so that the server finds the later ones while it deals with the first.
    pub async fn send(&mut self, packets: &[String]) -> Result<()> {
        for packet in packets {
            self.stream.feed(Message::text(packet.clone())).await?;
        }
        timeout(PATIENCE, self.stream.flush()).await.context("the server does not read")??;
        Ok(())
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, data: &[u8]) -> Result<()> {
        self.stream.send(Message::binary(data.to_vec())).await?;
        Ok(())
    }

    /// Joins the namespace `/`.
    pub async fn join(&mut self, auth: &Value) -> Result<()> {
        self.send(&[format!("40{auth}")]).await?;
        match self.next().await? {
            Came::Packet(packet) if packet.starts_with("40{") => Ok(()),
            other => bail!("not connected but {other:?}"),
        }
    }

    /// What comes next; pings are answered.
    pub async fn next(&mut self) -> Result<Came> {
        loop {
            let text = match self.text().await? {
                Ok(text) => text,
                Err(code) => return Ok(Came::End(code)),
            };
            if text == "2" {
                self.send(&["3".to_owned()]).await?;
                continue;
            }
            let digits = text.get(2..).unwrap_or_default();
            let at = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let (id, rest) = digits.split_at(at);
            if text.starts_with("42") {
                let mut args: Vec<Value> = serde_json::from_str(rest)?;
                ensure!(!args.is_empty() && id.is_empty(), "an event without name, or that asks: {text}");
                let name = args.remove(0).as_str().context("a name that is no text")?.to_owned();
                return Ok(Came::Event(name, args));
            }
            if text.starts_with("43") {
                return Ok(Came::Ack(id.parse()?, serde_json::from_str(rest)?));
            }
            return Ok(Came::Packet(text));
        }
    }

    /// The payload of the next event of that name; what comes before it is passed over.
    pub async fn expect(&mut self, name: &str) -> Result<Value> {
        let mut others = Vec::new();
        loop {
            let came = self.next().await.with_context(|| format!("waiting for {name}, got {others:?}"))?;
            match came {
                Came::Event(came, args) if came == name => {
                    return Ok(args.first().cloned().unwrap_or_default());
                }
                Came::End(code) => bail!("ended (code {code:?}) before {name}, got {others:?}"),
                other => others.push(other),
            }
        }
    }

    /// Everything that comes until the end, and the close code.
    pub async fn rest(&mut self) -> Result<(Vec<Came>, Option<u16>)> {
        let mut all = Vec::new();
        loop {
            match self.next().await.with_context(|| format!("it does not end; got {all:?}"))? {
                Came::End(code) => return Ok((all, code)),
                other => all.push(other),
            }
        }
    }

    async fn text(&mut self) -> Result<Result<String, Option<u16>>> {
        loop {
            match timeout(PATIENCE, self.stream.next()).await.context("nothing came in time")? {
                Some(Ok(Message::Text(text))) => return Ok(Ok(text.as_str().to_owned())),
                Some(Ok(Message::Close(frame))) => return Ok(Err(frame.map(|frame| frame.code.into()))),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("not a text: {other:?}"),
                Some(Err(_)) | None => return Ok(Err(None)),
            }
        }
    }
}
