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

    /// Turns until `wanted` has found what it looks for. Everything else goes to `other`, also what came together with
    /// it, behind it.
    pub async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
        other: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<T> {
        let mut found = None;
        loop {
            let mut each = |payload: &[u8]| match &found {
                None => {
                    found = wanted(payload);
                    if found.is_none() {
                        other(payload);
                    }
                }
                Some(_) => other(payload),
            };
            self.turn(&mut each).await?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_comes_together_with_what_was_awaited_is_not_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = Dial { address: listener.local_addr().unwrap(), source: None };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            // Three texts in one write: one before what is awaited, and one behind it.
            let texts = b"\x81\x01a\x81\x02ok\x81\x01b";
            stream
                .write_all(&[&b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..], texts].concat())
                .await
                .unwrap();
            stream
        };
        let (_stream, line) = tokio::join!(serve, WebSocket::open(dial, "/", false));
        let (mut line, mut others) = (Line::WebSocket(line.unwrap()), Vec::new());
        line.until(|text| (text == b"ok").then_some(()), &mut |text| others.push(text.to_vec()))
            .await
            .unwrap();
        assert_eq!(others, [b"a", b"b"]);
    }
}
