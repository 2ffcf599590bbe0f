//! One RESP3 connection for subscriptions: commands out, pushes in.
//!
//! Owns: the socket, the greeting, noticing that the server is gone. Must not know: what is subscribed and why.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use redis_protocol::resp3::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::table::Channel;
use crate::topology::{Address, Dialer, Stream};

/// After so long without a byte the server is asked whether it is there; after twice that it is not.
const SILENCE: Duration = Duration::from_secs(2);

/// What the server sends by itself.
#[derive(Debug)]
pub enum Push {
    /// A publication.
    Message {
        /// On which channel.
        channel: String,
        /// Its bytes.
        payload: Bytes,
    },
    /// A subscription is confirmed.
    Subscribed(String),
    /// A subscription ended.
    Unsubscribed(String),
    /// The oldest command cannot be carried out here, now.
    Refused(String),
}

/// A greeted connection.
pub struct Connection {
    stream: Stream,
    buffer: BytesMut,
    asked: bool,
}

fn encode(command: &str, args: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n${}\r\n{command}\r\n", args.len() + 1, command.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
    }
    out
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Connection {
    /// Connects and greets.
    ///
    /// # Errors
    /// When nobody answers in time, or refuses.
    pub async fn open(address: &Address, dialer: &Dialer, patience: Duration) -> io::Result<Self> {
        let connect = async {
            let stream = dialer.dial(address).await?;
            let mut connection = Self { stream, buffer: BytesMut::with_capacity(16 * 1024), asked: false };
            let mut hello = vec!["3"];
            if let Some((user, password)) = &address.login {
                hello.extend(["AUTH", user, password]);
            }
            connection.write("HELLO", &hello).await?;
            match connection.frame().await? {
                BytesFrame::Map { .. } => Ok(connection),
                other => Err(broken(format!("Redis did not greet: {}", error_text(&other)))),
            }
        };
        tokio::time::timeout(patience, connect).await?
    }

    /// Sends a command about channels.
    pub async fn send(&mut self, command: &str, channels: &[Channel]) -> io::Result<()> {
        let args: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
        tokio::time::timeout(SILENCE, self.write(command, &args)).await?
    }

    async fn write(&mut self, command: &str, args: &[&str]) -> io::Result<()> {
        self.stream.write_all(&encode(command, args)).await?;
        self.stream.flush().await
    }

    /// The next push; `None` for what is of no interest. May be dropped and called again.
    pub async fn next(&mut self) -> io::Result<Option<Push>> {
        let frame = match tokio::time::timeout(SILENCE, self.frame()).await {
            Ok(frame) => frame?,
            Err(_) if self.asked => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                self.asked = true;
                tokio::time::timeout(SILENCE, self.write("PING", &[])).await??;
                return Ok(None);
            }
        };
        self.asked = false;
        match frame {
            BytesFrame::Push { data, .. } => push(data),
            BytesFrame::SimpleError { .. } | BytesFrame::BlobError { .. } => {
                let why = error_text(&frame);
                let elsewhere = ["MOVED ", "ASK ", "TRYAGAIN ", "CLUSTERDOWN "];
                let elsewhere = elsewhere.iter().any(|head| why.starts_with(head));
                if elsewhere { Ok(Some(Push::Refused(why))) } else { Err(broken(why)) }
            }
            _ => Ok(None),
        }
    }

    async fn frame(&mut self) -> io::Result<BytesFrame> {
        loop {
            if !self.buffer.is_empty() {
                let decoded =
                    decode_bytes_mut(&mut self.buffer).map_err(|error| broken(error.to_string()))?;
                if let Some((frame, ..)) = decoded {
                    return Ok(frame);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn error_text(frame: &BytesFrame) -> String {
    match frame {
        BytesFrame::SimpleError { data, .. } => data.to_string(),
        BytesFrame::BlobError { data, .. } => String::from_utf8_lossy(data).into_owned(),
        _ => "an unexpected answer".to_owned(),
    }
}

fn push(data: Vec<BytesFrame>) -> io::Result<Option<Push>> {
    let mut parts = data.into_iter().map(|part| match part {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => data,
        _ => Bytes::new(),
    });
    let mut part = || parts.next().unwrap_or_default();
    let (kind, channel) = (part(), part());
    let channel = String::from_utf8(channel.to_vec()).map_err(|_| broken("a channel that is no text"))?;
    Ok(match &kind[..] {
        b"smessage" => Some(Push::Message { channel, payload: part() }),
        b"ssubscribe" => Some(Push::Subscribed(channel)),
        b"sunsubscribe" => Some(Push::Unsubscribed(channel)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Option<Push>> {
        let (frame, ..) = decode_bytes_mut(&mut BytesMut::from(bytes)).unwrap().unwrap();
        let BytesFrame::Push { data, .. } = frame else { panic!("not a push") };
        push(data)
    }

    #[test]
    fn pushes_are_read() {
        let heard = read(b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n").unwrap();
        assert!(
            matches!(heard, Some(Push::Message { channel, payload }) if channel == "c" && payload == "\r\n")
        );
        let heard = read(b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n").unwrap();
        assert!(matches!(heard, Some(Push::Subscribed(channel)) if channel == "c"));
        let heard = read(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n").unwrap();
        assert!(matches!(heard, Some(Push::Unsubscribed(channel)) if channel == "c"));
        assert!(read(b">2\r\n$10\r\ninvalidate\r\n$1\r\nc\r\n").unwrap().is_none());
        assert!(read(b">2\r\n$10\r\nssubscribe\r\n$1\r\n\xff\r\n").is_err());
    }
}
