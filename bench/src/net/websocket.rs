//! A client's WebSocket, raw or carrying Engine.IO: a handshake by hand, and no buffer while nothing is under way.
//!
//! Must not know: Socket.IO, dialects.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::Dial;
use super::frame::{self, BINARY, CLOSE, PING, PONG, TEXT};

/// What may wait to be written before a load counts as hopeless.
const BACKLOG: usize = 64 << 20;

thread_local! {
    /// Every connection of a thread reads through this: ten thousand idle ones must not hold ten thousand buffers.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 128 << 10]);
}

/// An open connection.
pub struct WebSocket {
    stream: TcpStream,
    /// The beginning of a frame that is not whole yet.
    rest: Vec<u8>,
    /// What the system would not take yet.
    out: Vec<u8>,
    /// Whether payloads are packets of Engine.IO.
    engine: bool,
}

impl WebSocket {
    /// Connects and upgrades. With `engine`, payloads are Engine.IO's.
    pub async fn open(dial: Dial, path: &str, engine: bool) -> Result<Self> {
        let mut stream = dial.tcp().await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            dial.address
        );
        stream.write_all(request.as_bytes()).await?;
        let mut rest = Vec::with_capacity(512);
        let end = loop {
            if let Some(at) = memchr::memmem::find(&rest, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut rest).await? == 0 {
                bail!("ended in the handshake");
            }
        };
        if !rest.starts_with(b"HTTP/1.1 101 ") {
            bail!("refused: {}", String::from_utf8_lossy(&rest).lines().next().unwrap_or_default());
        }
        let rest = rest[end..].to_vec();
        Ok(Self { stream, rest, out: Vec::new(), engine })
    }

    /// See [`super::Line::send`].
    pub fn send(&mut self, text: &str) -> Result<()> {
        if self.engine {
            let mut packet = Vec::with_capacity(text.len() + 1);
            packet.push(b'4');
            packet.extend_from_slice(text.as_bytes());
            self.write(TEXT, &packet)
        } else {
            self.write(TEXT, text.as_bytes())
        }
    }

    /// See [`super::Line::turn`].
    pub async fn turn(&mut self, each: &mut impl FnMut(&[u8])) -> Result<()> {
        if !self.rest.is_empty() {
            // What came with the handshake, or behind the last whole frame.
            let bytes = std::mem::take(&mut self.rest);
            if self.frames(&bytes, each)? {
                return Ok(());
            }
        }
        poll_fn(|cx| self.poll(cx, each)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, each: &mut impl FnMut(&[u8])) -> Poll<Result<()>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Ready(Ok(written)) => drop(self.out.drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Err(anyhow::anyhow!("the connection ended")));
            }
            if self.rest.is_empty() {
                self.frames(read, each)?;
            } else {
                let mut bytes = std::mem::take(&mut self.rest);
                bytes.extend_from_slice(read);
                self.frames(&bytes, each)?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Takes the whole frames; keeps what is behind them. Whether there was one.
    fn frames(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) -> Result<bool> {
        let mut any = false;
        while let Some(frame) = frame::read(bytes)? {
            let payload = &bytes[frame.start..frame.end];
            any = true;
            match frame.opcode {
                TEXT | BINARY if self.engine => self.packet(payload, each)?,
                TEXT | BINARY => each(payload),
                PING => self.write(PONG, payload)?,
                CLOSE => bail!("closed by the server: {}", close_code(payload)),
                PONG => {}
                other => bail!("an unexpected frame, opcode {other}"),
            }
            bytes = &bytes[frame.end..];
        }
        self.rest = bytes.to_vec();
        Ok(any)
    }

    fn packet(&mut self, packet: &[u8], each: &mut impl FnMut(&[u8])) -> Result<()> {
        match packet {
            [b'4', message @ ..] => each(message),
            [b'2', ..] => self.write(TEXT, b"3")?,
            [b'1'] => bail!("closed by the server: Engine.IO"),
            // The open packet is for whoever connects.
            [b'0', ..] => each(packet),
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        if self.out.is_empty() {
            let mut frame = Vec::new();
            frame::push_masked(&mut frame, opcode, payload);
            match self.stream.try_write(&frame) {
                Ok(written) => self.out.extend_from_slice(&frame[written..]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.out = frame,
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
        if self.out.len() > BACKLOG {
            bail!("the server reads too slowly");
        }
        frame::push_masked(&mut self.out, opcode, payload);
        Ok(())
    }
}

fn close_code(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "no code".to_owned(),
    }
}
