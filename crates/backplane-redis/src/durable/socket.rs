//! A connection of one's own to one server: batches of commands, answered in their order.
//!
//! Nothing is sent twice, and nothing after a break is taken for part of what came before it: a batch is on one
//! connection or it fails. Must not know: what the commands are about.

use std::io;

use bytes::{BufMut, BytesMut};
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use redis_protocol::resp3::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::link::{Command, LinkFault, Reply};
use crate::topology::{Address, Dialer, Stream};

/// The connection. How long its operations may take is the caller's to bound; after an error, or when one was cut
/// short, it is of no use.
pub struct Socket {
    stream: Stream,
    buffer: BytesMut,
}

type Answered = Result<Reply, LinkFault>;

fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Socket {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When nobody answers there, or refuses.
    pub async fn open(dialer: &Dialer, address: &Address) -> io::Result<Self> {
        let stream = dialer.dial(address).await?;
        let mut socket = Self { stream, buffer: BytesMut::with_capacity(4096) };
        let login = dialer.login(address);
        let mut hello = vec!["3"];
        if let Some(login) = &login {
            hello.extend(["AUTH", &login.user, &login.password]);
        }
        let answers = socket.batch(&[Command::new("HELLO", &hello)]).await;
        // Whoever is refused for what it shows hears of it only now.
        let mut answers = answers.map_err(|error| broken(dialer.explained(address, &error)))?;
        match answers.pop().unwrap_or(Ok(Reply::Nil)) {
            Ok(_) => Ok(socket),
            Err(LinkFault::Failed(why) | LinkFault::Forbidden(why)) => Err(broken(why)),
            Err(fault) => Err(broken(format!("{fault:?}"))),
        }
    }

    /// The connection, and what of it was read already.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As it was refused, or [`LinkFault::Failed`] when the connection broke.
    pub async fn ask(&mut self, command: Command) -> Answered {
        match self.batch(&[command]).await {
            Ok(mut answers) => answers.pop().unwrap_or(Ok(Reply::Nil)),
            Err(error) => Err(LinkFault::Failed(format!("Redis: {error}"))),
        }
    }

    /// Sends commands at once, and returns their answers.
    ///
    /// # Errors
    /// When the connection broke: which of them were executed is not known.
    pub async fn batch(&mut self, commands: &[Command]) -> io::Result<Vec<Answered>> {
        let mut out = BytesMut::new();
        for command in commands {
            encode(command, &mut out);
        }
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut answers = Vec::with_capacity(commands.len());
        while answers.len() < commands.len() {
            match self.frame().await? {
                BytesFrame::Push { .. } => {}
                frame => answers.push(answer(frame)),
            }
        }
        Ok(answers)
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

fn encode(command: &Command, out: &mut BytesMut) {
    out.put_slice(format!("*{}\r\n", command.args.len() + 1).as_bytes());
    let words = std::iter::once(command.name.as_bytes()).chain(command.args.iter().map(|arg| &arg[..]));
    for word in words {
        out.put_slice(format!("${}\r\n", word.len()).as_bytes());
        out.put_slice(word);
        out.put_slice(b"\r\n");
    }
}

/// What a frame says.
pub fn answer(frame: BytesFrame) -> Answered {
    Ok(match frame {
        BytesFrame::SimpleError { data, .. } => return Err(LinkFault::of_error(&data)),
        BytesFrame::BlobError { data, .. } => {
            return Err(LinkFault::of_error(&String::from_utf8_lossy(&data)));
        }
        BytesFrame::Number { data, .. } => Reply::Int(data),
        BytesFrame::BlobString { data, .. }
        | BytesFrame::SimpleString { data, .. }
        | BytesFrame::VerbatimString { data, .. } => Reply::Bytes(data),
        BytesFrame::Boolean { data, .. } => Reply::Int(i64::from(data)),
        BytesFrame::Array { data, .. } => {
            Reply::List(data.into_iter().map(answer).collect::<Result<_, _>>()?)
        }
        BytesFrame::Set { data, .. } => Reply::List(data.into_iter().map(answer).collect::<Result<_, _>>()?),
        BytesFrame::Map { data, .. } => {
            let mut all = Vec::with_capacity(data.len() * 2);
            for (key, value) in data {
                all.extend([answer(key)?, answer(value)?]);
            }
            Reply::List(all)
        }
        _ => Reply::Nil,
    })
}
