//! Reads packets of one connection: a text, and for binary packets the attachments that follow it.
//!
//! Owns: what is a packet. Must not know: namespaces that exist, acks that are awaited.

use bytes::Bytes;
use parlance_model::RawJson;
use serde_json::value::RawValue;

use super::{Kind, MAIN, Malformed, Packet, placeholders, read};

/// Reads the packets of one connection. After an error the connection is to be closed.
///
/// Follows `socket.io-parser` 4.2 but for JavaScript's accidents: there a blank counts as the digit 0, and a
/// number of attachments may be written `1e0`.
#[derive(Debug)]
pub struct Decoder {
    max_attachments: usize,
    max_depth: usize,
    refusals: bool,
    pending: Option<(Packet, usize)>,
}

impl Decoder {
    /// What a server reads: a CONNECT_ERROR is an error. `max_attachments` per packet (the reference allows
    /// 10), JSON at most `max_depth` containers deep, the data's own array counted.
    pub const fn new(max_attachments: usize, max_depth: usize) -> Self {
        Self { max_attachments, max_depth, refusals: false, pending: None }
    }

    /// What a client reads: a CONNECT_ERROR is a packet.
    pub const fn of_client(max_attachments: usize, max_depth: usize) -> Self {
        Self { max_attachments, max_depth, refusals: true, pending: None }
    }

    /// Takes a text. `None` while its attachments are due.
    ///
    /// # Errors
    /// Anything that ends the connection, a text while attachments are due among it.
    pub fn text(&mut self, text: &str) -> Result<Option<Packet>, Malformed> {
        if self.pending.take().is_some() {
            return Err(Malformed("text while attachments are due"));
        }
        let (packet, due) = self.packet(text)?;
        if due == 0 {
            return Ok(Some(packet));
        }
        self.pending = Some((packet, due));
        Ok(None)
    }

    /// Takes an attachment. `None` while more are due.
    ///
    /// # Errors
    /// An attachment nobody announced; a placeholder without one.
    pub fn binary(&mut self, bytes: Bytes) -> Result<Option<Packet>, Malformed> {
        let (mut packet, due) = self.pending.take().ok_or(Malformed("binary that was not announced"))?;
        packet.attachments.push(bytes);
        if packet.attachments.len() < due {
            self.pending = Some((packet, due));
            return Ok(None);
        }
        if let Some(data) = &packet.data {
            placeholders::check(data, due)?;
        }
        Ok(Some(packet))
    }

    /// Whether attachments are due: a text now is an error.
    pub const fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// Reads the text of a packet: type, attachments and `-`, namespace and `,`, id, data.
    fn packet(&self, text: &str) -> Result<(Packet, usize), Malformed> {
        let kind = text.bytes().next().and_then(Kind::from_digit).ok_or(Malformed("unknown packet type"))?;
        let rest = text.get(1..).unwrap_or_default();
        let (due, rest) = if kind.is_binary() { self.attachments(rest)? } else { (0, rest) };
        let (namespace, rest) =
            if rest.starts_with('/') { rest.split_once(',').unwrap_or((rest, "")) } else { (MAIN, rest) };
        let (id, rest) = id(rest)?;
        let data = if rest.is_empty() { None } else { Some(self.data(kind, rest)?) };
        if kind == Kind::ConnectError && !self.refusals {
            return Err(Malformed("a refusal from a client"));
        }
        Ok((Packet { kind, namespace: namespace.to_owned(), id, data, attachments: Vec::new() }, due))
    }

    fn attachments<'a>(&self, text: &'a str) -> Result<(usize, &'a str), Malformed> {
        let (count, rest) = text.split_once('-').ok_or(Malformed("illegal attachments"))?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed("illegal attachments"));
        }
        match count.parse() {
            Ok(0) => Err(Malformed("illegal attachments")),
            Ok(count) if count <= self.max_attachments => Ok((count, rest)),
            _ => Err(Malformed("too many attachments")),
        }
    }

    fn data(&self, kind: Kind, text: &str) -> Result<Box<RawValue>, Malformed> {
        if kind == Kind::Disconnect {
            return Err(Malformed("a DISCONNECT with data"));
        }
        self.check_depth(text)?;
        let data: &RawValue = serde_json::from_str(text).map_err(|_| Malformed("the data is no JSON"))?;
        let first = data.get().as_bytes().first().copied().unwrap_or_default();
        match kind {
            Kind::Event | Kind::BinaryEvent => read::check_event(data.get())?,
            Kind::Ack | Kind::BinaryAck if first != b'[' => return Err(Malformed("the data is no array")),
            Kind::Connect if first != b'{' => return Err(Malformed("the data is no object")),
            Kind::ConnectError if !matches!(first, b'{' | b'"') => {
                return Err(Malformed("the data is neither object nor string"));
            }
            _ => {}
        }
        Ok(data.to_owned())
    }

    /// Few texts hold more opening brackets than may nest, and counting those is quick.
    fn check_depth(&self, text: &str) -> Result<(), Malformed> {
        let brackets: usize = text.bytes().map(|byte| usize::from(matches!(byte, b'[' | b'{'))).sum();
        if brackets > self.max_depth && RawJson::depth_of(text) > self.max_depth {
            return Err(Malformed("JSON is nested too deeply"));
        }
        Ok(())
    }
}

fn id(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if digits.is_empty() {
        return Ok((None, rest));
    }
    digits.parse().map(|id| (Some(id), rest)).map_err(|_| Malformed("an ack id beyond 64 bits"))
}
