//! One RESP3 connection for subscriptions: commands out, pushes in.
//!
//! Owns: the socket, the greeting, noticing that the server is gone. Must not know: what is subscribed and why.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use redis_protocol::resp3::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::table::Channel;
use crate::topology::{Address, Dialer, Stream};

/// After so long without a byte the server is asked whether it is there; after twice that it is not.
const SILENCE: Duration = Duration::from_secs(2);

/// Read at once, at first.
const BUFFER: usize = 16 * 1024;

/// What the server sends by itself.
#[derive(Debug)]
pub enum Push<'a> {
    /// A publication.
    Message {
        /// On which channel.
        channel: &'a str,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// A subscription is confirmed.
    Subscribed(Cow<'a, str>),
    /// A subscription ended.
    Unsubscribed(String),
    /// The oldest command cannot be carried out here, now.
    Refused(String),
}

/// A greeted connection.
pub struct Connection {
    stream: Stream,
    buffer: BytesMut,
    /// So many bytes at the buffer's front were given out.
    taken: usize,
    asked: bool,
}

fn encode<T: AsRef<str>>(out: &mut String, command: &str, args: &[T]) {
    // Writing to a string does not fail.
    let _ = write!(out, "*{}\r\n${}\r\n{command}\r\n", args.len() + 1, command.len());
    for arg in args.iter().map(AsRef::as_ref) {
        let _ = write!(out, "${}\r\n{arg}\r\n", arg.len());
    }
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
            let buffer = BytesMut::with_capacity(BUFFER);
            let mut connection = Self { stream, buffer, taken: 0, asked: false };
            let login = dialer.login(address);
            let mut hello = vec!["3"];
            if let Some(login) = &login {
                hello.extend(["AUTH", &login.user, &login.password]);
            }
            connection.write("HELLO", &hello).await?;
            match connection.frame().await? {
                BytesFrame::Map { .. } => Ok(connection),
                other => Err(broken(format!("Redis did not greet: {}", error_text(&other)))),
            }
        };
        tokio::time::timeout(patience, connect).await?
    }

    /// Sends commands about channels, all at once.
    pub async fn send(&mut self, commands: &[(&str, Vec<Channel>)]) -> io::Result<()> {
        let mut out = String::new();
        commands.iter().for_each(|(command, channels)| encode(&mut out, command, channels));
        tokio::time::timeout(SILENCE, self.write_all(&out)).await?
    }

    async fn write(&mut self, command: &str, args: &[&str]) -> io::Result<()> {
        let mut out = String::new();
        encode(&mut out, command, args);
        self.write_all(&out).await
    }

    async fn write_all(&mut self, out: &str) -> io::Result<()> {
        self.stream.write_all(out.as_bytes()).await?;
        self.stream.flush().await
    }

    /// The next push of what has arrived; `None`: more has to come.
    pub fn arrived(&mut self) -> io::Result<Option<Push<'_>>> {
        loop {
            self.buffer.advance(std::mem::take(&mut self.taken));
            if let Some(found) = Found::at_front_of(&self.buffer) {
                self.taken = found.end;
                return found.message(&self.buffer).map(Some);
            }
            if let Some((channel, end)) = confirmed(&self.buffer) {
                self.taken = end;
                let channel = self.buffer.get(channel).unwrap_or_default();
                let channel =
                    std::str::from_utf8(channel).map_err(|_| broken("a channel that is no text"))?;
                return Ok(Some(Push::Subscribed(channel.into())));
            }
            let decoded = decode_bytes_mut(&mut self.buffer).map_err(|error| broken(error.to_string()))?;
            let Some((frame, ..)) = decoded else { return Ok(None) };
            if let Some(push) = other(frame)? {
                return Ok(Some(push));
            }
        }
    }

    /// Waits until more has come. May be dropped and called again.
    pub async fn more(&mut self) -> io::Result<()> {
        match tokio::time::timeout(SILENCE, self.read()).await {
            Ok(read) => read?,
            Err(_) if self.asked => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {
                self.asked = true;
                return tokio::time::timeout(SILENCE, self.write("PING", &[])).await?;
            }
        }
        self.asked = false;
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.advance(std::mem::take(&mut self.taken));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn frame(&mut self) -> io::Result<BytesFrame> {
        loop {
            let decoded = decode_bytes_mut(&mut self.buffer).map_err(|error| broken(error.to_string()))?;
            match decoded {
                Some((frame, ..)) => return Ok(frame),
                None => self.read().await?,
            }
        }
    }
}

/// A whole publication at the front of what has arrived. Nearly everything that comes is one: it is read where it lies.
struct Found {
    channel: Range<usize>,
    payload: Range<usize>,
    end: usize,
}

impl Found {
    fn at_front_of(buffer: &[u8]) -> Option<Self> {
        const HEAD: &[u8] = b">3\r\n$8\r\nsmessage\r\n";
        if !buffer.starts_with(HEAD) {
            return None;
        }
        let channel = blob(buffer, HEAD.len())?;
        let payload = blob(buffer, channel.end + 2)?;
        let end = payload.end + 2;
        Some(Self { channel, payload, end })
    }

    fn message(self, buffer: &[u8]) -> io::Result<Push<'_>> {
        let channel = buffer.get(self.channel).unwrap_or_default();
        let channel = std::str::from_utf8(channel).map_err(|_| broken("a channel that is no text"))?;
        Ok(Push::Message { channel, payload: buffer.get(self.payload).unwrap_or_default() })
    }
}

/// A whole confirmation at the front of what has arrived: its channel, and where it ends. Every client that comes brings one.
fn confirmed(buffer: &[u8]) -> Option<(Range<usize>, usize)> {
    const HEAD: &[u8] = b">3\r\n$10\r\nssubscribe\r\n";
    if !buffer.starts_with(HEAD) {
        return None;
    }
    let channel = blob(buffer, HEAD.len())?;
    let count = buffer.get(channel.end + 2..)?.strip_prefix(b":")?;
    let end = count.iter().take(20).position(|byte| *byte == b'\n')?;
    let end = channel.end + 2 + 1 + end + 1;
    Some((channel, end))
}

/// Where the bytes of a whole blob string lie that begins at `at`.
fn blob(buffer: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = buffer.get(at..)?.strip_prefix(b"$")?;
    let digits = rest.iter().take(10).position(|byte| *byte == b'\r')?;
    let len: usize = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    let start = at + 1 + digits + 2;
    buffer.get(start..)?.get(len..)?.starts_with(b"\r\n").then_some(start..start + len)
}

/// What is no publication; `None`: of no interest.
fn other(frame: BytesFrame) -> io::Result<Option<Push<'static>>> {
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

fn error_text(frame: &BytesFrame) -> String {
    match frame {
        BytesFrame::SimpleError { data, .. } => data.to_string(),
        BytesFrame::BlobError { data, .. } => String::from_utf8_lossy(data).into_owned(),
        _ => "an unexpected answer".to_owned(),
    }
}

fn push(data: Vec<BytesFrame>) -> io::Result<Option<Push<'static>>> {
    let mut parts = data.into_iter().map(|part| match part {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => data,
        _ => Bytes::new(),
    });
    let mut part = || parts.next().unwrap_or_default();
    let (kind, channel) = (part(), part());
    let channel = String::from_utf8(channel.to_vec()).map_err(|_| broken("a channel that is no text"))?;
    Ok(match &kind[..] {
        b"ssubscribe" => Some(Push::Subscribed(channel.into())),
        b"sunsubscribe" => Some(Push::Unsubscribed(channel)),
        b"smessage" => return Err(broken("a publication in an unknown form")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Option<Push<'static>>> {
        let (frame, ..) = decode_bytes_mut(&mut BytesMut::from(bytes)).unwrap().unwrap();
        other(frame)
    }

    #[test]
    fn pushes_are_read() {
        let heard = read(b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n").unwrap();
        assert!(matches!(heard, Some(Push::Subscribed(channel)) if channel == "c"));
        let heard = read(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n").unwrap();
        assert!(matches!(heard, Some(Push::Unsubscribed(channel)) if channel == "c"));
        assert!(read(b">2\r\n$10\r\ninvalidate\r\n$1\r\nc\r\n").unwrap().is_none());
        assert!(read(b">2\r\n$10\r\nssubscribe\r\n$1\r\n\xff\r\n").is_err());
        assert!(matches!(read(b"-MOVED 1 a:1\r\n").unwrap(), Some(Push::Refused(_))));
        assert!(read(b"-NOPERM\r\n").is_err());
    }

    #[test]
    fn confirmations_are_read_where_they_lie_once_they_are_whole() {
        let bytes = b">3\r\n$10\r\nssubscribe\r\n$2\r\nch\r\n:12\r\n";
        for end in 0..bytes.len() {
            assert!(confirmed(&bytes[..end]).is_none(), "{end}");
        }
        let more = [&bytes[..], b">3\r\n"].concat();
        let (channel, end) = confirmed(&more).unwrap();
        assert_eq!((&more[channel], end), (&b"ch"[..], bytes.len()));
        assert!(confirmed(b">3\r\n$12\r\nsunsubscribe\r\n$2\r\nch\r\n:1\r\n").is_none());
    }

    #[test]
    fn publications_are_read_where_they_lie_once_they_are_whole() {
        let bytes = b">3\r\n$8\r\nsmessage\r\n$2\r\nch\r\n$4\r\n\r\n$1\r\n";
        for end in 0..bytes.len() {
            assert!(Found::at_front_of(&bytes[..end]).is_none(), "{end}");
        }
        let more = [&bytes[..], b">3\r\n"].concat();
        let found = Found::at_front_of(&more).unwrap();
        assert_eq!(found.end, bytes.len());
        let heard = found.message(&more).unwrap();
        assert!(matches!(heard, Push::Message { channel: "ch", payload: b"\r\n$1" }));
        for other in
            [&b">3\r\n$8\r\nsmessage\r\n$99999999999\r\n"[..], b">3\r\n$8\r\nsmessage\r\n$-1\r\n", b"*1\r\n"]
        {
            assert!(Found::at_front_of(other).is_none());
        }
    }
}
