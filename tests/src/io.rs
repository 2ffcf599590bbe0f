//! A Socket.IO client over one WebSocket, packet by packet: what comes is what was sent, in its order.
//!
//! Owns: the handshake, pings, acknowledgements. Must not know: any dialect.

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

/// A connection that has joined the namespace `/`.
pub struct IoClient {
    ws: Ws,
    /// Came while an acknowledgement was waited for.
    seen: VecDeque<Told>,
    asked: u64,
    /// What the namespace was joined with: `sid`, and `pid` where the session can be recovered.
    pub joined: Value,
}

impl IoClient {
    /// Opens the Engine.IO session at `url` (`ws://host:port/path/`) and joins the namespace with `auth`.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn connect(url: &str, auth: &Value) -> Result<Self> {
        let mut ws = Ws::connect(&format!("{url}?EIO=4&transport=websocket")).await?;
        let open = ws.line().await?;
        ensure!(open.starts_with('0'), "no open packet: {open}");
        let mut client = Self { ws, seen: VecDeque::new(), asked: 0, joined: Value::Null };
        client.write(&format!("40{auth}")).await?;
        while client.joined.is_null() {
            let packet = client.packet().await?;
            match packet.strip_prefix('0') {
                Some(joined) => client.joined = serde_json::from_str(joined)?,
                // What a recovered session missed comes first.
                None => client.seen.push_back(event(&packet).context("not joined")?),
            }
        }
        Ok(client)
    }

    /// Emits an event without asking for an acknowledgement.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn emit(&mut self, name: &str, args: &[Value]) -> Result<()> {
        self.write(&format!("42{}", array(name, args))).await
    }

    /// Emits an event and waits for its acknowledgement. Events that come before it are kept.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ask(&mut self, name: &str, args: &[Value]) -> Result<Vec<Value>> {
        let id = self.asked;
        self.asked += 1;
        self.write(&format!("42{id}{}", array(name, args))).await?;
        loop {
            let packet = self.packet().await.with_context(|| format!("no acknowledgement of {name}"))?;
            let answer = packet.strip_prefix('3').and_then(|rest| rest.strip_prefix(&id.to_string()));
            match answer {
                Some(args) => return Ok(serde_json::from_str(args)?),
                None => self.seen.push_back(event(&packet)?),
            }
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next(&mut self) -> Result<Told> {
        match self.seen.pop_front() {
            Some(told) => Ok(told),
            None => event(&self.packet().await?),
        }
    }

    /// The events that came while an acknowledgement was waited for.
    pub fn seen(&mut self) -> Vec<Told> {
        self.seen.drain(..).collect()
    }

    /// Closes the connection from this side.
    ///
    /// # Errors
    /// When it is closed already.
    pub async fn close(self) -> Result<()> {
        self.ws.close(1000).await
    }

    /// The next Socket.IO packet; pings are answered.
    async fn packet(&mut self) -> Result<String> {
        loop {
            let line = self.ws.line().await?;
            match line.split_at_checked(1) {
                Some(("2", "")) => self.write("3").await?,
                Some(("4", packet)) => return Ok(packet.to_owned()),
                _ => bail!("not a packet of an open session: {line}"),
            }
        }
    }

    async fn write(&mut self, packet: &str) -> Result<()> {
        self.ws.send_message(Message::text(packet)).await
    }
}

fn array(name: &str, args: &[Value]) -> Value {
    let mut all = vec![json!(name)];
    all.extend_from_slice(args);
    Value::Array(all)
}

fn event(packet: &str) -> Result<Told> {
    let text = packet.strip_prefix('2').with_context(|| format!("no event: {packet}"))?;
    let mut args: Vec<Value> = serde_json::from_str(text.trim_start_matches(|c: char| c.is_ascii_digit()))?;
    ensure!(args.first().is_some_and(Value::is_string), "an event without a name: {packet}");
    let Value::String(name) = args.remove(0) else { bail!("an event without a name: {packet}") };
    Ok(Told { name, args })
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use futures_util::{SinkExt, StreamExt};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::{IoClient, Told};

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
}
