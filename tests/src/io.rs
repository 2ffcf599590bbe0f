//! A Socket.IO client over one WebSocket, packet by packet: what comes is what was sent, in its order.
//!
//! Owns: the handshake, pings, acknowledgements, packets no stock client would send. Must not know: any dialect.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::Ws;

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Its arguments; of a logged event the last one may be its recovery offset.
    pub args: Vec<Value>,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// An event of the namespace `/`.
    Event(Told),
    /// The acknowledgement with this number.
    Ack(u64, Vec<Value>),
    /// Any other packet, as it is.
    Packet(String),
    /// The end, with the close code where there is one.
    End(Option<u16>),
}

/// An event in the namespace `/`, with an acknowledgement's number where one is asked for.
pub fn event(id: Option<u64>, name: &str, args: &[Value]) -> String {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    let mut all = vec![json!(name)];
    all.extend_from_slice(args);
    format!("42{id}{}", Value::Array(all))
}

/// An open Engine.IO session.
pub struct IoClient {
    ws: Ws,
    /// Packets that came while something else was waited for.
    kept: VecDeque<String>,
    asked: u64,
    /// What the open packet said.
    pub handshake: Value,
    /// What the namespace was joined with: `sid`, and `pid` where the session can be recovered.
    pub joined: Value,
}

impl IoClient {
    /// Opens a session at `url` (`ws://host:port/path/`, with what else belongs into the query) that has joined no
    /// namespace.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(url: &str) -> Result<Self> {
        let joint = if url.contains('?') { '&' } else { '?' };
        let mut ws = Ws::connect(&format!("{url}{joint}EIO=4&transport=websocket")).await?;
        let open = ws.line().await?;
        let handshake = open.strip_prefix('0').with_context(|| format!("no open packet: {open}"))?;
        let handshake = serde_json::from_str(handshake)?;
        Ok(Self { ws, kept: VecDeque::new(), asked: 0, handshake, joined: Value::Null })
    }

    /// Opens a session and joins the namespace `/` with `auth`.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn connect(url: &str, auth: &Value) -> Result<Self> {
        let mut client = Self::open(url).await?;
        client.join(auth).await?;
        Ok(client)
    }

    /// Joins the namespace `/`. Of a session that `auth` asks for by its `pid`, what was missed comes before the
    /// answer and is kept; before any other answer nothing may come.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn join(&mut self, auth: &Value) -> Result<()> {
        self.send(&[format!("40{auth}")]).await?;
        loop {
            let packet = self.live().await?.context("the connection has ended")?;
            if let Some(joined) = packet.strip_prefix("40") {
                self.joined = serde_json::from_str(joined)?;
                ensure!(self.joined["sid"].is_string(), "no sid: {packet}");
                return Ok(());
            }
            ensure!(packet.starts_with("42") && !auth["pid"].is_null(), "not joined: {packet}");
            self.kept.push_back(packet);
        }
    }

    /// Writes packets in one go, so that the server finds the later ones while it deals with the first.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, packets: &[impl AsRef<str>]) -> Result<()> {
        self.ws.send_all(packets.iter().map(|packet| Message::text(packet.as_ref())).collect()).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_binary(&mut self, data: &[u8]) -> Result<()> {
        self.ws.send_message(Message::binary(data.to_vec())).await
    }

    /// Emits an event without asking for an acknowledgement.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn emit(&mut self, name: &str, args: &[Value]) -> Result<()> {
        self.send(&[event(None, name, args)]).await
    }

    /// Emits an event and waits for its acknowledgement. Events that come before it are kept.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ask(&mut self, name: &str, args: &[Value]) -> Result<Vec<Value>> {
        let id = self.asked;
        self.asked += 1;
        self.send(&[event(Some(id), name, args)]).await?;
        self.ack(id).await.with_context(|| format!("no acknowledgement of {name}"))
    }

    /// Waits for the acknowledgement of an event that was sent by hand. Events that come before it are kept.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ack(&mut self, id: u64) -> Result<Vec<Value>> {
        loop {
            let packet = self.live().await?.context("the connection has ended")?;
            match read(&packet)? {
                Came::Ack(acked, args) if acked == id => return Ok(args),
                Came::Event(_) => self.kept.push_back(packet),
                other => bail!("neither the acknowledgement {id} nor an event: {other:?}"),
            }
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// When none comes in time, or something else does.
    pub async fn next(&mut self) -> Result<Told> {
        match self.came().await? {
            Came::Event(told) => Ok(told),
            other => bail!("no event: {other:?}"),
        }
    }

    /// The next event of that name; what comes before it is passed over.
    ///
    /// # Errors
    /// When none comes in time; the error shows what came instead.
    pub async fn expect(&mut self, name: &str) -> Result<Told> {
        let mut others = Vec::new();
        loop {
            match self.came().await.with_context(|| format!("waiting for {name}, got {others:?}"))? {
                Came::Event(told) if told.name == name => return Ok(told),
                Came::End(code) => bail!("ended (code {code:?}) before {name}, got {others:?}"),
                other => others.push(other),
            }
        }
    }

    /// What comes next, whatever it is.
    ///
    /// # Errors
    /// When nothing comes in time, or it cannot be read.
    pub async fn came(&mut self) -> Result<Came> {
        match self.take().await? {
            Some(packet) => read(&packet),
            None => Ok(Came::End(self.ws.closed().await?)),
        }
    }

    /// The next packet as it is.
    ///
    /// # Errors
    /// When none comes in time, or the connection ends.
    pub async fn packet(&mut self) -> Result<String> {
        match self.take().await? {
            Some(packet) => Ok(packet),
            None => bail!("the connection has ended, code {:?}", self.ws.closed().await?),
        }
    }

    /// The next message as it is, a ping too, which is not answered.
    ///
    /// # Errors
    /// When none comes in time, or the connection ends.
    pub async fn line(&mut self) -> Result<String> {
        self.ws.line().await
    }

    /// The events that came while something else was waited for.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn seen(&mut self) -> Result<Vec<Told>> {
        let told = self.kept.drain(..).map(|packet| match read(&packet)? {
            Came::Event(told) => Ok(told),
            other => bail!("no event: {other:?}"),
        });
        told.collect()
    }

    /// Everything that comes until the end, and the close code.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn rest(&mut self) -> Result<(Vec<Came>, Option<u16>)> {
        let mut all = Vec::new();
        loop {
            match self.came().await.with_context(|| format!("it does not end; got {all:?}"))? {
                Came::End(code) => return Ok((all, code)),
                other => all.push(other),
            }
        }
    }

    /// Waits for the end and returns the close code. Pings that come before it are not answered.
    ///
    /// # Errors
    /// When the server does not close in time.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        self.ws.closed().await
    }

    /// Closes the connection from this side.
    ///
    /// # Errors
    /// When it is closed already.
    pub async fn close(self) -> Result<()> {
        self.ws.close(1000).await
    }

    async fn take(&mut self) -> Result<Option<String>> {
        match self.kept.pop_front() {
            Some(packet) => Ok(Some(packet)),
            None => self.live().await,
        }
    }

    /// The next packet from the wire, `None` at the end; pings are answered.
    async fn live(&mut self) -> Result<Option<String>> {
        loop {
            match self.ws.line_or_end().await? {
                Some(ping) if ping == "2" => self.send(&["3"]).await?,
                other => return Ok(other),
            }
        }
    }
}

fn read(packet: &str) -> Result<Came> {
    let body = packet.get(2..).unwrap_or_default();
    let (id, args) = body.split_at(body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len()));
    if packet.starts_with("42") {
        ensure!(id.is_empty(), "an event that asks: {packet}");
        let mut args: Vec<Value> = serde_json::from_str(args).with_context(|| packet.to_owned())?;
        ensure!(args.first().is_some_and(Value::is_string), "an event without a name: {packet}");
        let Value::String(name) = args.remove(0) else { bail!("an event without a name: {packet}") };
        return Ok(Came::Event(Told { name, args }));
    }
    if packet.starts_with("43") {
        return Ok(Came::Ack(id.parse()?, serde_json::from_str(args).with_context(|| packet.to_owned())?));
    }
    Ok(Came::Packet(packet.to_owned()))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use futures_util::{SinkExt, StreamExt};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::{Came, IoClient, Told, event};

    /// Sends lines, each when what it answers has come; `None`: nothing is waited for.
    async fn serve(listener: TcpListener, lines: &[(Option<&str>, &str)]) -> Result<()> {
        let mut socket = accept_async(listener.accept().await?.0).await?;
        for (after, line) in lines {
            if let Some(after) = after {
                let came = socket.next().await.transpose()?;
                anyhow::ensure!(came == Some(Message::text(*after)), "{came:?} instead of {after}");
            }
            socket.send(Message::text(*line)).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn events_before_an_acknowledgement_are_kept_and_pings_are_answered() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/x/", listener.local_addr()?);
        let lines = [
            (None, r#"0{"sid":"s"}"#),
            (Some(r#"40{"token":"t"}"#), r#"40{"sid":"p"}"#),
            (Some(r#"420["ask",1]"#), "2"),
            (Some("3"), r#"42["told",{"a":1},"offset"]"#),
            (None, r#"430[true]"#),
        ];
        let client = async {
            let mut client = IoClient::connect(&url, &json!({ "token": "t" })).await?;
            assert_eq!(client.ask("ask", &[json!(1)]).await?, [json!(true)]);
            let told = Told { name: "told".to_owned(), args: vec![json!({ "a": 1 }), json!("offset")] };
            assert_eq!(client.next().await?, told);
            Ok(())
        };
        tokio::try_join!(serve(listener, &lines), client)?;
        Ok(())
    }

    #[tokio::test]
    async fn a_refused_namespace_is_an_error() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/x/", listener.local_addr()?);
        let lines = [(None, "0{}"), (Some("40null"), r#"44{"message":"no"}"#)];
        let (_, refused) = tokio::join!(serve(listener, &lines), IoClient::connect(&url, &json!(null)));
        assert!(refused.is_err_and(|error| format!("{error:#}").contains(r#"{"message":"no"}"#)));
        Ok(())
    }

    #[tokio::test]
    async fn what_was_missed_is_kept_and_packets_are_read_one_by_one_until_the_end() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/x/?token=t", listener.local_addr()?);
        let lines = [
            (None, r#"0{"sid":"s"}"#),
            (Some(r#"40{"pid":"q"}"#), r#"42["missed"]"#),
            (None, r#"40{"sid":"p","pid":"q"}"#),
            (Some(r#"427["ask",{}]"#), r#"42["passed over"]"#),
            (Some("41"), r#"42["awaited",1]"#),
            (None, r#"437[2]"#),
            (None, "41"),
        ];
        let client = async {
            let mut client = IoClient::open(&url).await?;
            assert_eq!(client.handshake["sid"], "s");
            client.join(&json!({ "pid": "q" })).await?;
            assert_eq!(client.joined["pid"], "q");
            assert_eq!(client.seen()?, [Told { name: "missed".to_owned(), args: vec![] }]);
            client.send(&[event(Some(7), "ask", &[json!({})]), "41".to_owned()]).await?;
            assert_eq!(client.expect("awaited").await?.args, [json!(1)]);
            let (rest, _) = client.rest().await?;
            assert_eq!(rest, [Came::Ack(7, vec![json!(2)]), Came::Packet("41".to_owned())]);
            Ok(())
        };
        tokio::try_join!(serve(listener, &lines), client)?;
        Ok(())
    }

    #[tokio::test]
    async fn nothing_comes_before_a_fresh_session() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}/x/", listener.local_addr()?);
        let lines = [(None, "0{}"), (Some("40{}"), r#"42["early"]"#), (None, r#"40{"sid":"p"}"#)];
        let auth = json!({});
        let (_, early) = tokio::join!(serve(listener, &lines), IoClient::connect(&url, &auth));
        assert!(early.is_err_and(|error| format!("{error:#}").contains("early")));
        Ok(())
    }
}
