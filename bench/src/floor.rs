//! The floor: a server that can do nothing but hand one's message to all others, in a plain loop of `write()`. No
//! server that speaks WebSocket does less for a delivery; others are measured as multiples of it.
//!
//! Must not know: load.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args as ClapArgs;
use rustix::event::epoll;
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};

use crate::net::frame::{self, CLOSE, PING, PONG, TEXT};

const LISTENER: u64 = u64::MAX;
/// Connections that come at once.
const BACKLOG: i32 = 4096;
/// What may wait for a connection that does not read.
const WAITING: usize = 1 << 20;
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A WebSocket server that does the least: what one client sends, all others get, by a plain loop of write().
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// Where it listens, on 127.0.0.1; 0 for any free port.
    #[arg(long, default_value_t = 9600)]
    pub port: u16,
    /// Bytes of what it sends on: the text it received is filled up to this.
    #[arg(long, default_value_t = 0)]
    pub bytes: usize,
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    waiting: Vec<u8>,
    is_open: bool,
}

struct Floor {
    epoll: OwnedFd,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    /// The same clients as a list: what the loop of `write()` goes over.
    bytes: usize,
    next: u64,
    scratch: Vec<u8>,
}

/// Serves until it is killed.
pub fn run(args: &Args) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port).into())
        .context("cannot listen")?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener: TcpListener = socket.into();
    println!("ready on ws://{}", listener.local_addr()?);
    io::stdout().flush()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener.as_fd(), epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let (clients, scratch) = (HashMap::new(), vec![0; 64 << 10]);
    let mut floor = Floor { epoll, listener, clients, bytes: args.bytes, next: 0, scratch };
    let mut events = [MaybeUninit::uninit(); 256];
    loop {
        let (ready, _) = match epoll::wait(&floor.epoll, &mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &*ready {
            // Copied out: the kernel's structure is packed.
            let (data, flags) = (event.data, event.flags);
            floor.event(data.u64(), flags);
        }
    }
}

impl Floor {
    fn event(&mut self, id: u64, flags: epoll::EventFlags) {
        if id == LISTENER {
            while let Ok((stream, _)) = self.listener.accept() {
                if self.accept(stream).is_err() {
                    self.next += 1;
                }
            }
            return;
        }
        if flags.contains(epoll::EventFlags::OUT)
            && let Some(client) = self.clients.get_mut(&id)
        {
            let flushed = flush(client);
            let drained = client.waiting.is_empty();
            if flushed.is_err() || (drained && interest(&self.epoll, client, id, false).is_err()) {
                self.clients.remove(&id);
                return;
            }
        }
        if !(flags - epoll::EventFlags::OUT).is_empty() && self.read(id).is_err() {
            self.clients.remove(&id);
        }
    }

    fn accept(&mut self, stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let id = self.next;
        self.next += 1;
        epoll::add(&self.epoll, stream.as_fd(), epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
        self.clients.insert(id, Client { stream, input: Vec::new(), waiting: Vec::new(), is_open: false });
        Ok(())
    }

    fn read(&mut self, id: u64) -> Result<()> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        match client.stream.read(&mut self.scratch) {
            Ok(0) => bail!("ended"),
            Ok(read) => client.input.extend_from_slice(&self.scratch[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if !client.is_open {
            let Some(end) = memchr::memmem::find(&client.input, b"\r\n\r\n") else { return Ok(()) };
            let answer = handshake(&client.input[..end])?;
            client.stream.write_all(answer.as_bytes())?;
            client.input.drain(..end + 4);
            client.is_open = true;
        }
        let mut said = Vec::new();
        while let Some(frame) = frame::read(&client.input)? {
            let mut payload = client.input[frame.start..frame.end].to_vec();
            for (byte, mask) in payload.iter_mut().zip(frame.mask.unwrap_or_default().iter().cycle()) {
                *byte ^= mask;
            }
            client.input.drain(..frame.end);
            match frame.opcode {
                PING => {
                    let mut pong = Vec::new();
                    frame::push(&mut pong, PONG, &payload);
                    client.stream.write_all(&pong)?;
                }
                CLOSE => bail!("closed"),
                _ => said.push(payload),
            }
        }
        for mut payload in said {
            payload.resize(payload.len().max(self.bytes), b' ');
            let mut frame = Vec::new();
            frame::push(&mut frame, TEXT, &payload);
            self.broadcast(id, &frame);
        }
        Ok(())
    }

    /// The loop that everybody else is compared with.
    fn broadcast(&mut self, from: u64, frame: &[u8]) {
        let epoll = &self.epoll;
        self.clients.retain(|id, client| {
            if *id == from || !client.is_open {
                return true;
            }
            if !client.waiting.is_empty() {
                client.waiting.extend_from_slice(frame);
                return client.waiting.len() < WAITING;
            }
            match client.stream.write(frame) {
                Ok(written) if written == frame.len() => true,
                Ok(written) => wait(epoll, client, *id, &frame[written..]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(epoll, client, *id, frame),
                Err(_) => false,
            }
        });
    }
}

fn wait(epoll: &OwnedFd, client: &mut Client, id: u64, rest: &[u8]) -> bool {
    client.waiting.extend_from_slice(rest);
    interest(epoll, client, id, true).is_ok()
}

fn interest(epoll: &OwnedFd, client: &Client, id: u64, writable: bool) -> io::Result<()> {
    let flags = if writable { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
    Ok(epoll::modify(epoll, client.stream.as_fd(), epoll::EventData::new_u64(id), flags)?)
}

fn flush(client: &mut Client) -> io::Result<()> {
    match client.stream.write(&client.waiting) {
        Ok(written) => drop(client.waiting.drain(..written)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn handshake(head: &[u8]) -> Result<String> {
    let head = std::str::from_utf8(head)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
    });
    let mut hash = Sha1::new();
    hash.update(key.context("no WebSocket")?.as_bytes());
    hash.update(MAGIC);
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        STANDARD.encode(hash.finalize())
    ))
}

#[cfg(test)]
mod tests {
    use super::handshake;

    #[test]
    fn the_handshake_answers_the_key_of_the_standard() {
        let head = b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        assert!(handshake(head).unwrap().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(handshake(b"GET / HTTP/1.1\r\n").is_err());
    }
}
