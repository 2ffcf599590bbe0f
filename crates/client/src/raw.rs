//! A WebSocket that sends and receives JSON and does nothing by itself: for tests that say exactly what they
//! mean, and see exactly what comes back.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message as Frame;

pub use crate::dial::DialError;
use crate::dial::{Socket, dial};

/// Why nothing was received or sent.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// Nothing (fitting) came in time.
    #[error("nothing fitting came in time; passed over: {passed:?}")]
    Timeout {
        /// What came instead.
        passed: Vec<Value>,
    },
    /// The server closed the connection.
    #[error("closed with code {code:?}: {reason}")]
    Closed {
        /// The close code, if there was a close frame.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// The connection broke.
    #[error("{0}")]
    Broken(#[from] tokio_tungstenite::tungstenite::Error),
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// See the module.
#[derive(Debug)]
pub struct RawSocket {
    socket: Socket,
}

impl RawSocket {
    /// Opens `url` (`ws://…`, token and path included).
    ///
    /// # Errors
    /// When nobody is there or the server refuses.
    pub async fn connect(url: &str) -> Result<Self, DialError> {
        let url = url::Url::parse(url).map_err(|error| DialError::Address(error.to_string()))?;
        Ok(Self { socket: dial(&url).await? })
    }

    /// Sends a value as a text frame.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send_json(&mut self, value: &Value) -> Result<(), RawError> {
        self.send_text(&value.to_string()).await
    }

    /// Sends a text frame, JSON or not.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send_text(&mut self, text: &str) -> Result<(), RawError> {
        Ok(self.socket.send(Frame::text(text)).await?)
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), RawError> {
        Ok(self.socket.send(Frame::binary(bytes)).await?)
    }

    /// The next text frame; pings are answered on the way.
    ///
    /// # Errors
    /// When none comes in time, the server closes, or it is not JSON.
    pub async fn recv_json(&mut self, within: Duration) -> Result<Value, RawError> {
        self.recv_until(Instant::now() + within).await
    }

    /// The next frame that `fits`; others are passed over.
    ///
    /// # Errors
    /// As [`Self::recv_json`]; a timeout names what was passed over.
    pub async fn expect(
        &mut self,
        within: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, RawError> {
        let until = Instant::now() + within;
        let mut passed = Vec::new();
        loop {
            match self.recv_until(until).await {
                Ok(value) if fits(&value) => return Ok(value),
                Ok(value) => passed.push(value),
                Err(RawError::Timeout { .. }) => return Err(RawError::Timeout { passed }),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next frame whose `type` is `kind`; others are passed over.
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub async fn expect_type(&mut self, within: Duration, kind: &str) -> Result<Value, RawError> {
        self.expect(within, |value| value.get("type").and_then(Value::as_str) == Some(kind)).await
    }

    /// Waits for the server to close; the close code, if there was one.
    ///
    /// # Errors
    /// When it does not close in time.
    pub async fn closed(&mut self, within: Duration) -> Result<Option<u16>, RawError> {
        match self.expect(within, |_| false).await {
            Err(RawError::Closed { code, .. }) => Ok(code),
            Err(RawError::Broken(_)) | Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes cleanly.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let _ = self.expect(Duration::from_secs(1), |_| false).await;
    }

    async fn recv_until(&mut self, until: Instant) -> Result<Value, RawError> {
        loop {
            let next = timeout_at(until, self.socket.next()).await;
            match next.map_err(|_| RawError::Timeout { passed: Vec::new() })? {
                Some(Ok(Frame::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Frame::Close(close))) => {
                    let code = close.as_ref().map(|close| u16::from(close.code));
                    let reason = close.map_or_else(String::new, |close| close.reason.to_string());
                    return Err(RawError::Closed { code, reason });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(RawError::Closed { code: None, reason: String::new() }),
            }
        }
    }
}
