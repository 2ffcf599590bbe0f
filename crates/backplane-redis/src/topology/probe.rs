//! A connection for asking one server about the installation it is part of: one question at a time.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use redis_protocol::resp3::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Address, Dialer, Stream};
use crate::link::Reply;

/// A server that is there answers within this time.
pub const PROMPTLY: Duration = Duration::from_millis(500);

/// The connection.
pub struct Probe {
    stream: Stream,
    buffer: BytesMut,
}

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn reply(frame: BytesFrame) -> io::Result<Reply> {
    Ok(match frame {
        BytesFrame::SimpleError { data, .. } => return Err(broken(data.to_string())),
        BytesFrame::BlobError { data, .. } => return Err(broken(String::from_utf8_lossy(&data))),
        BytesFrame::Number { data, .. } => Reply::Int(data),
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => Reply::Bytes(data),
        BytesFrame::VerbatimString { data, .. } => Reply::Bytes(data),
        BytesFrame::Array { data, .. } => {
            Reply::List(data.into_iter().map(reply).collect::<io::Result<_>>()?)
        }
        BytesFrame::Map { data, .. } => {
            let mut all = Vec::with_capacity(data.len() * 2);
            for (key, value) in data {
                all.extend([reply(key)?, reply(value)?]);
            }
            Reply::List(all)
        }
        _ => Reply::Nil,
    })
}

impl Probe {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When nobody answers promptly, or refuses.
    pub async fn open(dialer: &Dialer, address: &Address) -> io::Result<Self> {
        let open = async {
            let stream = dialer.dial(address).await?;
            let mut probe = Self { stream, buffer: BytesMut::new() };
            let mut hello = vec!["HELLO", "3"];
            if let Some((user, password)) = &address.login {
                hello.extend(["AUTH", user, password]);
            }
            probe.answer(&hello).await?;
            Ok(probe)
        };
        tokio::time::timeout(PROMPTLY, open).await?
    }

    /// Asks; maps are answered as lists. After an error the connection is of no use.
    ///
    /// # Errors
    /// When there is no prompt answer, or it is an error.
    pub async fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        tokio::time::timeout(PROMPTLY, self.answer(words)).await?
    }

    async fn answer(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.write_all(out.as_bytes()).await?;
        self.stream.flush().await?;
        loop {
            if !self.buffer.is_empty() {
                let decoded =
                    decode_bytes_mut(&mut self.buffer).map_err(|error| broken(error.to_string()))?;
                if let Some((frame, ..)) = decoded {
                    return reply(frame);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The value of a field in a flat list of names and values.
pub fn field<'a>(list: &'a [Reply], name: &str) -> Option<&'a str> {
    let mut pairs = list.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
    let found = pairs
        .find(|(key, _)| matches!(key, Reply::Bytes(key) if *key == Bytes::copy_from_slice(name.as_bytes())));
    found.and_then(|(_, value)| value.text().ok())
}
