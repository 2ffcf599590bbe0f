//! Connections in as little memory and CPU as possible: frames, raw WebSockets, HTTP, Engine.IO polling.
//!
//! Must not know: dialects, events, what is measured.

mod dial;
pub mod frame;
pub mod http;
mod polling;
mod websocket;

use anyhow::{Result, bail};

pub use dial::Dial;
pub use polling::{LongPoll, Polling};
pub use websocket::WebSocket;

/// A client's connection, whatever carries it. Payloads are whole texts: WebSocket messages, or packets of Socket.IO
/// (Engine.IO is taken care of below this).
pub enum Line {
    /// A WebSocket.
    WebSocket(WebSocket),
    /// Engine.IO over HTTP.
    Polling(Box<Polling>),
    /// SocialHub's long poll.
    LongPoll(Box<LongPoll>),
}

impl Line {
    /// Sends a text: what the system does not take at once is written by the turns that follow.
    pub fn send(&mut self, text: &str) -> Result<()> {
        match self {
            Self::WebSocket(socket) => socket.send(text),
            Self::Polling(polling) => {
                polling.send(text);
                Ok(())
            }
            Self::LongPoll(_) => bail!("nothing can be sent by polling here"),
        }
    }

    /// Waits until something can be read or written, does so, and hands over every whole payload. Pings are answered
    /// on the way. Cancelling it loses nothing.
    pub async fn turn(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        match self {
            Self::WebSocket(socket) => socket.turn(each).await,
            Self::Polling(polling) => polling.turn(each).await,
            Self::LongPoll(polling) => polling.turn(each).await,
        }
    }

    /// Turns until `wanted` has found what it looks for.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let mut found = None;
        loop {
            let mut each = |payload: &[u8]| {
                if found.is_none() {
                    found = wanted(payload);
                }
            };
            self.turn(&mut each).await?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}
