//! One client of any dialect: it is told what to do in words that all dialects share, and shows what it heard.
//!
//! Owns: how each dialect connects, asks and knows that it was answered. Must not know: what is tested with it.

mod commands;
pub mod ids;
mod map;

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub use commands::Action;
pub use ids::CoreId;
pub use map::{Answer, Fields, Map, Reply, Row, Seat, Tongue, Word};

use crate::io::Told;
use crate::stock::Report;
use crate::{ConnectOptions, Gateway, IoClient, Stock, StockSocket, Transports, Ws, token};

/// A connection of a user.
pub struct Device {
    /// How it speaks.
    pub tongue: Tongue,
    /// Whose it is.
    pub user: String,
    line: Line,
    /// Came while an answer was waited for.
    seen: VecDeque<Told>,
    asked: u64,
}

enum Line {
    Raw(Ws),
    Io(IoClient),
    Stock(StockSocket),
}

impl Device {
    /// Connects.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(gateway: &Gateway, tongue: &Tongue, user: &str) -> Result<Self> {
        let line = if tongue.socketio {
            Line::Io(IoClient::connect(&gateway.url(&tongue.mount), &auth(tongue, user)?).await?)
        } else {
            Line::Raw(gateway.connect(&tongue.mount, user).await?)
        };
        Ok(Self::over(line, tongue, user))
    }

    /// Connects with a stock client.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn stock(gateway: &Gateway, stock: &Stock, tongue: &Tongue, user: &str) -> Result<Self> {
        let options = ConnectOptions::new(Transports::Upgrade).path(&tongue.mount).auth(auth(tongue, user)?);
        let socket = stock.connect(gateway.address(), options)?;
        socket.expect_connect().await?;
        Ok(Self::over(Line::Stock(socket), tongue, user))
    }

    fn over(line: Line, tongue: &Tongue, user: &str) -> Self {
        Self { tongue: tongue.clone(), user: user.to_owned(), line, seen: VecDeque::new(), asked: 0 }
    }

    /// The column of the table it is in.
    pub fn vocabulary(&self) -> &str {
        &self.tongue.vocabulary
    }

    /// Says `word` and waits until it has been carried out; the answer, `null` where the dialect has none.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn say(&mut self, word: &str, args: &[Value]) -> Result<Value> {
        self.ask(word, args).await.with_context(|| format!("{} says {word}", self.user))
    }

    async fn ask(&mut self, word: &str, args: &[Value]) -> Result<Value> {
        if let Line::Raw(ws) = &mut self.line {
            let mut frame = args.first().cloned().unwrap_or_else(|| json!({}));
            frame["type"] = json!(word);
            if self.tongue.vocabulary == "socialhub" {
                self.asked += 1;
                frame["ack_id"] = json!(self.asked.to_string());
            }
            ws.send(&frame).await?;
            return self.answered().await;
        }
        let mut answer = match &mut self.line {
            Line::Io(io) => io.ask(word, args).await?,
            Line::Stock(stock) => stock.emit_ack(word, args).await?,
            Line::Raw(_) => Vec::new(),
        };
        Ok(if answer.is_empty() { Value::Null } else { answer.swap_remove(0) })
    }

    /// socialhub acknowledges. sechat answers much with silence: there a registration is sent behind, which is
    /// answered after everything before it.
    async fn answered(&mut self) -> Result<Value> {
        let Line::Raw(ws) = &mut self.line else { bail!("not raw") };
        if self.tongue.vocabulary == "sechat" {
            ws.send(&json!({ "type": "register_session", "sessionId": self.user })).await?;
        }
        let ack = json!(self.asked.to_string());
        loop {
            let frame = ws.next().await?;
            if frame["type"] == "session_registered" {
                return Ok(Value::Null);
            }
            if frame["type"] == "ack" && frame["ack_id"] == ack {
                return Ok(frame["payload"].clone());
            }
            self.seen.push_back(raw(frame));
        }
    }

    /// The next event, whatever it is.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn next(&mut self) -> Result<Told> {
        if let Some(told) = self.seen.pop_front() {
            return Ok(told);
        }
        let next = match &mut self.line {
            Line::Raw(ws) => ws.next().await.map(raw),
            Line::Io(io) => io.next().await,
            Line::Stock(stock) => {
                stock.next_event().await.map(|event| Told { name: event.name, args: event.args })
            }
        };
        next.with_context(|| format!("{} hears nothing", self.user))
    }

    /// Everything that was sent to this connection before now: it asks something harmless.
    ///
    /// # Errors
    /// When it is not answered.
    pub async fn until_now(&mut self, place: &str) -> Result<Vec<Told>> {
        self.act(Action::Nothing, place, None).await?;
        let mut told: Vec<Told> = self.seen.drain(..).collect();
        match &mut self.line {
            Line::Io(io) => told.extend(io.seen()?),
            Line::Stock(stock) => {
                let is_event = |report: &&Report| matches!(report, Report::Event(_));
                for _ in 0..stock.queued().await?.iter().filter(is_event).count() {
                    let event = stock.next_event().await?;
                    told.push(Told { name: event.name, args: event.args });
                }
            }
            Line::Raw(_) => {}
        }
        Ok(told)
    }

    /// Disconnects properly.
    ///
    /// # Errors
    /// When it is disconnected already.
    pub async fn close(self) -> Result<()> {
        match self.line {
            Line::Raw(ws) => ws.close(1000).await,
            Line::Io(io) => io.close().await,
            Line::Stock(stock) => stock.disconnect(),
        }
    }
}

fn raw(frame: Value) -> Told {
    Told { name: frame["type"].as_str().unwrap_or_default().to_owned(), args: vec![frame] }
}

/// What a Socket.IO client of the tongue joins its namespace with.
///
/// # Errors
/// When there can be no token.
pub fn auth(tongue: &Tongue, user: &str) -> Result<Value> {
    let token = token(user)?;
    Ok(if tongue.vocabulary == "chatgenius" {
        json!({ "token": format!("Bearer {token}"), "userId": user })
    } else {
        json!({ "token": token })
    })
}
