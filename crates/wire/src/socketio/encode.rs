//! Writes packets. Namespaces, names and messages are quoted here; arguments come as JSON and go out unread.
//!
//! Owns: the order of a packet's parts. Must not know: Engine.IO, who is to get the packet.

use super::{Kind, MAIN, Packet};

/// `0{"sid":"…","pid":"…"}`: the server's consent. `pid` is the secret for state recovery.
pub fn connect(namespace: &str, sid: &str, pid: Option<&str>) -> String {
    let mut text = head(Kind::Connect, 0, namespace, None);
    text.push_str("{\"sid\":");
    quote(&mut text, sid);
    if let Some(pid) = pid {
        text.push_str(",\"pid\":");
        quote(&mut text, pid);
    }
    text.push('}');
    text
}

/// `4{"message":"…","data":…}`: the server's refusal. `data` is JSON.
pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> String {
    let mut text = head(Kind::ConnectError, 0, namespace, None);
    text.push_str("{\"message\":");
    quote(&mut text, message);
    if let Some(data) = data {
        text.push_str(",\"data\":");
        text.push_str(data);
    }
    text.push('}');
    text
}

/// `1`: leaves a namespace. A client told so does not come back by itself.
pub fn disconnect(namespace: &str) -> String {
    head(Kind::Disconnect, 0, namespace, None)
}

/// `2["name",…]`: an event. Arguments are JSON; the recovery offset is one more, at the end.
pub fn event_text<T: AsRef<str>>(
    namespace: &str,
    id: Option<u64>,
    name: &str,
    args: &[T],
    offset: Option<&str>,
) -> String {
    let mut text = head(Kind::Event, 0, namespace, id);
    text.reserve(args.iter().map(|arg| arg.as_ref().len() + 1).sum::<usize>() + name.len() + 40);
    text.push('[');
    quote(&mut text, name);
    for arg in args {
        text.push(',');
        text.push_str(arg.as_ref());
    }
    if let Some(offset) = offset {
        text.push(',');
        quote(&mut text, offset);
    }
    text.push(']');
    text
}

/// `3` with id and arguments: answers an event. Arguments are JSON.
pub fn ack<T: AsRef<str>>(namespace: &str, id: u64, args: &[T]) -> String {
    let mut text = head(Kind::Ack, 0, namespace, Some(id));
    text.push('[');
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(arg.as_ref());
    }
    text.push(']');
    text
}

/// `51-["name",{"_placeholder":true,"num":0}]`: an event whose attachments follow it as binary messages, at
/// once and in order. `data` is the whole array; without attachments it is an ordinary event.
pub fn binary_event(namespace: &str, id: Option<u64>, data: &str, attachments: usize) -> String {
    let kind = if attachments == 0 { Kind::Event } else { Kind::BinaryEvent };
    head(kind, attachments, namespace, id) + data
}

/// `61-` with id and data: an answer whose attachments follow; see [`binary_event`].
pub fn binary_ack(namespace: &str, id: u64, data: &str, attachments: usize) -> String {
    let kind = if attachments == 0 { Kind::Ack } else { Kind::BinaryAck };
    head(kind, attachments, namespace, Some(id)) + data
}

impl Packet {
    /// The packet as text; its attachments follow it as binary messages.
    pub fn to_text(&self) -> String {
        let head = head(self.kind, self.attachments.len(), &self.namespace, self.id);
        head + self.data.as_deref().map_or("", |data| data.get())
    }
}

fn head(kind: Kind, attachments: usize, namespace: &str, id: Option<u64>) -> String {
    let mut text = String::with_capacity(24);
    text.push(kind.digit());
    if kind.is_binary() {
        text.push_str(&attachments.to_string());
        text.push('-');
    }
    if namespace != MAIN {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        text.push_str(&id.to_string());
    }
    text
}

fn quote(out: &mut String, value: &str) {
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
}
