//! A connection for asking one server about the installation it is part of: one question at a time, answered promptly
//! or not at all.

use std::io;
use std::time::Duration;

use super::{Address, Dialer};
use crate::durable::Socket;
use crate::link::{Command, LinkFault, Reply};

/// A server that is there answers within this time.
const PROMPTLY: Duration = Duration::from_secs(1);

/// The connection.
pub struct Probe {
    socket: Socket,
}

impl Probe {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When nobody answers promptly, or refuses.
    pub async fn open(dialer: &Dialer, address: &Address) -> io::Result<Self> {
        let socket = tokio::time::timeout(PROMPTLY, Socket::open(dialer, address)).await??;
        Ok(Self { socket })
    }

    /// Asks; maps are answered as lists. After an error the connection is of no use.
    ///
    /// # Errors
    /// When there is no prompt answer, or it is an error.
    pub async fn ask(&mut self, name: &'static str, words: &[&str]) -> io::Result<Reply> {
        let answer = tokio::time::timeout(PROMPTLY, self.socket.ask(Command::new(name, words))).await?;
        answer.map_err(|fault| match fault {
            LinkFault::Failed(why) | LinkFault::Forbidden(why) | LinkFault::Elsewhere(why) => {
                io::Error::other(why)
            }
            other => io::Error::other(format!("{other:?}")),
        })
    }
}

/// The value of a field in a flat list of names and values.
pub fn field<'a>(list: &'a [Reply], name: &str) -> Option<&'a str> {
    let mut pairs = list.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
    let found = pairs.find(|(key, _)| matches!(key, Reply::Bytes(key) if **key == *name.as_bytes()));
    found.and_then(|(_, value)| value.text().ok())
}
