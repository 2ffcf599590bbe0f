//! One Socket.IO client on the main namespace, over Engine.IO's WebSocket transport. Pure: texts in, texts out.
//!
//! Owns: the handshake, heartbeats, acknowledgements and what state recovery needs. Must not know: what
//! events mean.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parlance_wire::engineio::{self, Packet as Engine};
use parlance_wire::socketio::{self, Decoder, Kind, MAIN, Packet};
use serde_json::{Map, Value};

use crate::speech::Event;
use crate::update::Ask;

/// Acknowledgements awaited at a time; of more, the oldest is no longer.
const ASKED: usize = 4096;
/// Events that may come before the server's consent: what a recovered connection has missed.
const HELD: usize = 65_536;
/// Attachments of one packet, and how deep its JSON may nest.
const ATTACHMENTS: usize = 10;
const DEPTH: usize = 128;

/// What came of a text.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Heard {
    /// To be written.
    Write(String),
    /// The server has let us in.
    Joined { recovered: bool },
    /// The server will not, at least for now.
    Refused { message: String, data: Value },
    /// An event.
    Event { name: String, args: Vec<Value> },
    /// The answer to an event of ours.
    Answer { ask: Ask, args: Vec<Value> },
    /// The server wants us to leave and not to come back.
    Left,
    /// The connection is of no use any more.
    Broken(&'static str),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// No transport, or nothing said on it yet.
    Opening,
    /// CONNECT is on its way.
    Joining,
    Joined,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    auth: Map<String, Value>,
    decoder: Decoder,
    phase: Phase,
    /// How long the server may be silent, once it has said so.
    silence: Option<Duration>,
    /// When it will have been silent for too long.
    deadline: Option<Instant>,
    next_id: u64,
    asked: BTreeMap<u64, Ask>,
    pid: Option<String>,
    offset: Option<String>,
    held: Vec<(String, Vec<Value>)>,
}

impl Session {
    /// Before the first connection.
    pub(crate) fn new(auth: Map<String, Value>) -> Self {
        Self {
            auth,
            decoder: decoder(),
            phase: Phase::Opening,
            silence: None,
            deadline: None,
            next_id: 0,
            asked: BTreeMap::new(),
            pid: None,
            offset: None,
            held: Vec::new(),
        }
    }

    /// A transport is there; the server has until `deadline` to let us in.
    pub(crate) fn opened(&mut self, deadline: Instant) {
        self.closed();
        self.deadline = Some(deadline);
    }

    /// The transport is gone. What recovery needs stays.
    pub(crate) fn closed(&mut self) {
        self.decoder = decoder();
        self.phase = Phase::Opening;
        self.silence = None;
        self.deadline = None;
        self.asked.clear();
        self.held.clear();
    }

    /// When the server will have been silent for too long.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether an acknowledgement is due: of the message `id`, or any.
    pub(crate) fn awaits(&self, id: Option<&str>) -> bool {
        self.asked.values().any(|ask| match (id, ask) {
            (Some(id), Ask::Message { id: asked }) => id == asked,
            (Some(_), _) => false,
            (None, _) => true,
        })
    }

    /// An event as it is written.
    pub(crate) fn write(&mut self, event: Event) -> String {
        let id = event.ask.map(|ask| {
            let id = self.next_id;
            self.next_id += 1;
            self.asked.insert(id, ask);
            if self.asked.len() > ASKED {
                self.asked.pop_first();
            }
            id
        });
        let args: Vec<String> = event.args.iter().map(Value::to_string).collect();
        engineio::message(&socketio::event_text(MAIN, id, &event.name, &args, None))
    }

    /// What is said before the transport is closed on purpose: nobody is to keep our place.
    pub(crate) fn goodbye(&self) -> Option<String> {
        (self.phase == Phase::Joined).then(|| engineio::message(&socketio::disconnect(MAIN)))
    }

    /// A text came.
    pub(crate) fn text(&mut self, text: &str, now: Instant) -> Vec<Heard> {
        if let (Phase::Joined, Some(silence)) = (self.phase, self.silence) {
            self.deadline = Some(now + silence);
        }
        match engineio::parse(text) {
            Some(Engine::Open(fields)) if self.phase == Phase::Opening => self.open(fields),
            Some(Engine::Ping(data)) => vec![Heard::Write(Engine::Pong(data).to_text())],
            Some(Engine::Message(packet)) => match self.decoder.text(packet) {
                Ok(packet) => packet.map_or_else(Vec::new, |packet| self.packet(&packet, now)),
                Err(malformed) => vec![Heard::Broken(malformed.reason())],
            },
            Some(Engine::Close) => vec![Heard::Broken("closed by the server")],
            Some(Engine::Open(_) | Engine::Pong(_) | Engine::Upgrade | Engine::Noop) => Vec::new(),
            None => vec![Heard::Broken("not an Engine.IO packet")],
        }
    }

    /// An attachment came.
    pub(crate) fn binary(&mut self, bytes: Bytes, now: Instant) -> Vec<Heard> {
        match self.decoder.binary(bytes) {
            Ok(packet) => packet.map_or_else(Vec::new, |packet| self.packet(&packet, now)),
            Err(malformed) => vec![Heard::Broken(malformed.reason())],
        }
    }

    fn open(&mut self, fields: &str) -> Vec<Heard> {
        let Ok(fields) = serde_json::from_str::<Value>(fields) else {
            return vec![Heard::Broken("the handshake is not JSON")];
        };
        let millis = |name| fields.get(name).and_then(Value::as_u64).map(Duration::from_millis);
        self.silence = millis("pingInterval").zip(millis("pingTimeout")).map(|(a, b)| a + b);
        self.phase = Phase::Joining;
        let mut auth = self.auth.clone();
        if let Some(pid) = &self.pid {
            auth.insert("pid".to_owned(), pid.clone().into());
            if let Some(offset) = &self.offset {
                auth.insert("offset".to_owned(), offset.clone().into());
            }
        }
        vec![Heard::Write(engineio::message(&format!("0{}", Value::Object(auth))))]
    }

    fn packet(&mut self, packet: &Packet, now: Instant) -> Vec<Heard> {
        if packet.namespace != MAIN {
            return Vec::new();
        }
        let data = packet.data.as_deref().map_or("null", |data| data.get());
        let Ok(data) = serde_json::from_str::<Value>(data) else {
            return vec![Heard::Broken("text that is no Unicode")];
        };
        match packet.kind {
            Kind::Connect => self.connect(&data, now),
            Kind::ConnectError => vec![refusal(data)],
            Kind::Disconnect => vec![Heard::Left],
            Kind::Event | Kind::BinaryEvent => self.event(data),
            Kind::Ack | Kind::BinaryAck => {
                let ask = packet.id.and_then(|id| self.asked.remove(&id));
                ask.map(|ask| Heard::Answer { ask, args: array(data) }).into_iter().collect()
            }
        }
    }

    fn connect(&mut self, data: &Value, now: Instant) -> Vec<Heard> {
        if self.phase == Phase::Joined {
            return vec![Heard::Broken("let in twice")];
        }
        let pid = data.get("pid").and_then(Value::as_str).map(str::to_owned);
        let recovered = pid.is_some() && pid == self.pid;
        if !recovered {
            self.offset = None;
        }
        self.pid = pid;
        self.phase = Phase::Joined;
        self.deadline = self.silence.map(|silence| now + silence);
        let held = std::mem::take(&mut self.held);
        let events = held.into_iter().map(|(name, args)| self.happened(name, args)).collect::<Vec<_>>();
        std::iter::once(Heard::Joined { recovered }).chain(events).collect()
    }

    fn event(&mut self, data: Value) -> Vec<Heard> {
        let mut args = array(data);
        if args.is_empty() {
            return Vec::new();
        }
        let name = args.remove(0);
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        if self.phase == Phase::Joined {
            return vec![self.happened(name, args)];
        }
        // What was missed comes before the consent; it is told after it.
        if self.held.len() == HELD {
            return vec![Heard::Broken("too much before the consent")];
        }
        self.held.push((name, args));
        Vec::new()
    }

    /// Any text at an event's end is its place, once the server has said that it keeps ours.
    fn happened(&mut self, name: String, args: Vec<Value>) -> Heard {
        if let (Some(_), Some(Value::String(offset))) = (&self.pid, args.last()) {
            self.offset = Some(offset.clone());
        }
        Heard::Event { name, args }
    }
}

const fn decoder() -> Decoder {
    Decoder::of_client(ATTACHMENTS, DEPTH)
}

fn array(data: Value) -> Vec<Value> {
    match data {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn refusal(data: Value) -> Heard {
    let message = data.as_str().or_else(|| data.get("message")?.as_str()).unwrap_or("refused").to_owned();
    Heard::Refused { message, data: data.get("data").cloned().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OPEN: &str =
        r#"0{"sid":"abc","upgrades":[],"pingInterval":3000,"pingTimeout":2000,"maxPayload":9}"#;

    fn session() -> (Session, Instant) {
        let now = Instant::now();
        let mut session = Session::new(Map::from_iter([("token".to_owned(), json!("t"))]));
        session.opened(now + Duration::from_secs(10));
        (session, now)
    }

    fn joined(pid: Option<&str>) -> (Session, Instant) {
        let (mut session, now) = session();
        session.text(OPEN, now);
        let consent = json!({"sid":"s","pid":pid});
        assert_eq!(session.text(&format!("40{consent}"), now), [Heard::Joined { recovered: false }]);
        (session, now)
    }

    fn write(text: &str) -> Vec<Heard> {
        vec![Heard::Write(text.to_owned())]
    }

    #[test]
    fn the_handshake_shows_the_token_and_pings_are_answered() {
        let (mut session, now) = session();
        assert_eq!(session.text(OPEN, now), write(r#"40{"token":"t"}"#));
        assert_eq!(session.text("2", now), write("3"));
        assert_eq!(session.text(r#"40{"sid":"s"}"#, now), [Heard::Joined { recovered: false }]);
    }

    #[test]
    fn a_server_that_falls_silent_is_noticed() {
        let (mut session, now) = joined(None);
        assert_eq!(session.deadline(), Some(now + Duration::from_secs(5)));
        let later = now + Duration::from_secs(3);
        session.text("2", later);
        assert_eq!(session.deadline(), Some(later + Duration::from_secs(5)));
    }

    #[test]
    fn an_answer_finds_its_question_and_only_once() {
        let (mut session, now) = joined(None);
        let ask = Ask::Message { id: "m".into() };
        let event = Event::of("message:send", vec![json!({"a":1})]).asking(ask.clone());
        assert_eq!(session.write(event), r#"420["message:send",{"a":1}]"#);
        assert!(session.awaits(Some("m")) && !session.awaits(Some("other")));
        let args = vec![json!({"ok":true})];
        assert_eq!(session.text(r#"430[{"ok":true}]"#, now), [Heard::Answer { ask, args }]);
        assert_eq!(session.text(r#"430[{"ok":true}]"#, now), []);
        assert!(!session.awaits(None));
    }

    #[test]
    fn a_lost_connection_is_taken_up_where_it_ended() {
        let (mut session, now) = joined(Some("p"));
        session.text(r#"42["message:new",{},"7-3"]"#, now);
        session.opened(now);
        assert_eq!(session.text(OPEN, now), write(r#"40{"offset":"7-3","pid":"p","token":"t"}"#));
        // Missed events come first; they are told after the consent.
        assert_eq!(session.text(r#"42["message:new",{"n":4},"7-4"]"#, now), []);
        let heard = session.text(r#"40{"sid":"s2","pid":"p"}"#, now);
        let missed = Heard::Event { name: "message:new".into(), args: vec![json!({"n":4}), json!("7-4")] };
        assert_eq!(heard, [Heard::Joined { recovered: true }, missed]);
        session.opened(now);
        assert_eq!(session.text(OPEN, now), write(r#"40{"offset":"7-4","pid":"p","token":"t"}"#));
        // A new place: the old one's end means nothing there.
        assert_eq!(session.text(r#"40{"sid":"s3","pid":"q"}"#, now), [Heard::Joined { recovered: false }]);
        session.opened(now);
        assert_eq!(session.text(OPEN, now), write(r#"40{"pid":"q","token":"t"}"#));
    }

    #[test]
    fn without_recovery_a_text_at_the_end_is_just_a_text() {
        let (mut session, now) = joined(None);
        session.text(r#"42["typing:start","bob"]"#, now);
        session.opened(now);
        assert_eq!(session.text(OPEN, now), write(r#"40{"token":"t"}"#));
    }

    #[test]
    fn refusals_and_farewells() {
        let (mut session, now) = session();
        session.text(OPEN, now);
        let data = json!({"code":"X"});
        let heard = session.text(r#"44{"message":"no","data":{"code":"X"}}"#, now);
        assert_eq!(heard, [Heard::Refused { message: "no".into(), data }]);
        let (mut session, now) = joined(None);
        assert_eq!(session.goodbye().as_deref(), Some("41"));
        assert_eq!(session.text("41", now), [Heard::Left]);
        assert!(matches!(session.text("1", now)[..], [Heard::Broken(_)]));
        assert!(matches!(session.text("4x", now)[..], [Heard::Broken(_)]));
    }
}
