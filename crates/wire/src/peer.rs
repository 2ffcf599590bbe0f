//! One connection's protocol state, sans-IO: frames in, requests out; answers in, frames out.

use std::borrow::Cow;
use std::collections::VecDeque;

use parlance_model::{Answer, RawJson, Reject, RejectCode, Request, Time, UserId};
use serde_json::value::RawValue;

use crate::{
    Accent, Class, Dialect, Encoded, Framing, Style,
    codec::{self, Call, Context, Decoded, Refusal},
    emit, sanitise, socketio,
};

/// How a request is to be answered: given out with the request, handed back with its result.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    /// The frame's type, for the refusal's details. Cut to 64 characters.
    pub(crate) event: String,
    /// The acknowledgement id the client asked to hear.
    pub(crate) ack: Option<String>,
    /// The Socket.IO packet's ack id.
    pub(crate) packet: Option<u64>,
    /// The client's own message id, for the refusal's details.
    pub(crate) reference: Option<String>,
    /// A field of the frame the answer repeats (session id, channel).
    pub(crate) subject: Option<String>,
    /// Whether the frame was of an edition that is on its way out.
    pub(crate) deprecated: bool,
}

impl Tag {
    /// The frame's type, for logs and metrics of known types only.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The client's own id of the message it is about, for logs.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Whether the frame was of an edition that is on its way out (sechat v1), for a metric.
    pub const fn deprecated(&self) -> bool {
        self.deprecated
    }
}

/// What a peer is built with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which vocabulary.
    pub dialect: Dialect,
    /// What carries it.
    pub framing: Framing,
    /// How its output is styled.
    pub style: Style,
    /// Deepest JSON accepted.
    pub max_depth: usize,
    /// Differs between connections.
    pub salt: u64,
}

/// What a Socket.IO CONNECT carries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Auth {
    /// `auth.token`.
    pub token: Option<String>,
    /// `auth.userId` (chatgenius): whom the client claims to be.
    pub user_id: Option<String>,
    /// State recovery: the private session id.
    pub pid: Option<String>,
    /// State recovery: the offset of the last event received.
    pub offset: Option<String>,
}

impl Auth {
    /// Reads a CONNECT's payload. Members of another type are as good as absent: applications put their own
    /// things here.
    pub fn read(data: Option<&RawValue>) -> Self {
        let Some(data) = data else { return Self::default() };
        let object: crate::json::Object<'_> = serde_json::from_str(data.get()).unwrap_or_default();
        let text = |name: &str| object.get(name).and_then(|v| serde_json::from_str::<String>(v.get()).ok());
        let number = |name: &str| object.get(name).and_then(|v| serde_json::from_str::<u64>(v.get()).ok());
        // A number is taken as its decimal string, as in tokens.
        let user_id = text("userId").or_else(|| number("userId").map(|n| n.to_string()));
        Self { token: text("token"), user_id, pid: text("pid"), offset: text("offset") }
    }
}

/// One connection's protocol state: of a raw WebSocket, or of one Socket.IO namespace.
#[derive(Debug)]
pub struct Peer {
    dialect: Dialect,
    style: Style,
    context: Context,
    framing: Framing,
    requests: VecDeque<(Tag, Result<Request, Reject>)>,
    frames: VecDeque<Encoded>,
}

impl Peer {
    /// A peer for a fresh connection.
    pub fn new(settings: Settings) -> Self {
        let context = Context {
            accent: settings.dialect.default_accent(settings.framing),
            settled: false,
            now: Time::default(),
            salt: settings.salt,
            counter: 0,
            max_depth: settings.max_depth,
            strip: settings.style.strip,
            user: None,
        };
        Self {
            dialect: settings.dialect,
            style: settings.style,
            framing: settings.framing,
            context,
            requests: VecDeque::new(),
            frames: VecDeque::new(),
        }
    }

    /// The accent events are to be encoded in now.
    pub const fn accent(&self) -> Accent {
        self.context.accent
    }

    /// Goes on in the accent the client settled on over an earlier connection.
    pub fn resume(&mut self, accent: Accent) {
        let spoken = accent.dialect() == self.dialect && accent.framing() == self.framing;
        if spoken && accent != self.context.accent {
            self.context.accent = accent;
            self.context.settled = true;
        }
    }

    /// The vocabulary.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How output is styled.
    pub const fn style(&self) -> &Style {
        &self.style
    }

    /// Says whom the connection was authenticated as. Frames that name only one side of a conversation of
    /// two are read with it.
    pub fn set_user(&mut self, user: UserId) {
        self.context.user = Some(user);
    }

    /// Takes one raw text frame.
    pub fn receive(&mut self, text: &str, now: Time) {
        self.context.now = now;
        let decoded = codec::decode(self.dialect, text, &mut self.context);
        self.take(decoded);
    }

    /// Takes one Socket.IO event with its packet's ack id.
    pub fn receive_event(&mut self, name: &str, args: &[&RawValue], packet: Option<u64>, now: Time) {
        self.context.now = now;
        let call = Call { name, args, packet };
        let too_deep = args.iter().any(|a| RawJson::depth_of(a.get()) > self.context.max_depth);
        let decoded = if too_deep {
            let event = name.chars().take(64).collect();
            let reject = Reject::new(RejectCode::Malformed, "JSON is nested too deeply");
            Decoded::Refused(Tag { event, packet, ..Tag::default() }, reject)
        } else {
            codec::decode_event(self.dialect, &call, &mut self.context)
        };
        self.take(decoded);
    }

    fn take(&mut self, decoded: Decoded) {
        let request = match decoded {
            Decoded::Request(tag, request) => (tag, Ok(request)),
            Decoded::Nothing => return,
            Decoded::Refused(tag, reject) => (tag, Err(reject)),
        };
        // Nearly always taken before the next one comes.
        self.requests.reserve_exact(1);
        self.requests.push_back(request);
    }

    /// The next request to carry out; or a frame that was refused for its shape, to be answered in its turn.
    pub fn poll_request(&mut self) -> Option<(Tag, Result<Request, Reject>)> {
        let next = self.requests.pop_front();
        // They are large, and an idle connection would keep room for them.
        if self.requests.is_empty() {
            self.requests = VecDeque::new();
        }
        next
    }

    /// Answers a request.
    pub fn answer(&mut self, tag: &Tag, result: &Result<Answer, Reject>, now: Time) {
        self.context.now = now;
        if self.framing == Framing::Raw {
            let texts = codec::answer(self.dialect, tag, result, &mut self.context);
            if !texts.is_empty() {
                self.frames.push_back(Encoded::framed(&texts, Class::Kept));
            }
            return;
        }
        let stripped = match result {
            Ok(answer) if self.style.strip => Cow::Owned(Ok(sanitise::answer(answer).into_owned())),
            _ => Cow::Borrowed(result),
        };
        let says = codec::answer_event(self.dialect, tag, &stripped, &mut self.context);
        self.frames.extend(emit::answers(&says, tag.packet, &self.style));
    }

    /// Tells a Socket.IO client that it is connected.
    pub fn connected(&mut self, sid: &str, pid: Option<&str>) {
        let packet = socketio::connect(emit::namespace(&self.style), sid, pid);
        self.frames.push_back(emit::packet_of(&packet));
    }

    /// Turns a Socket.IO CONNECT down in the dialect's words. `true`: the transport is to be closed after it.
    pub fn refuse(&mut self, sid: &str, reject: &Reject) -> bool {
        match codec::refuse(self.dialect, reject) {
            Refusal::Error(message, data) => {
                let namespace = emit::namespace(&self.style);
                let packet = socketio::connect_error(namespace, &message, data.as_deref());
                self.frames.push_back(emit::packet_of(&packet));
                false
            }
            Refusal::Told(emits) => {
                self.connected(sid, None);
                let style = Style { offsets: false, ..self.style.clone() };
                self.frames.extend(emit::together(&emits, &style));
                self.disconnected();
                true
            }
        }
    }

    /// Tells a Socket.IO client that the server ends its use of the namespace: it will not come back by itself.
    pub fn disconnected(&mut self) {
        self.frames.push_back(emit::packet_of(&socketio::disconnect(emit::namespace(&self.style))));
    }

    /// The next output.
    pub fn poll_frame(&mut self) -> Option<Encoded> {
        let next = self.frames.pop_front();
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        next
    }
}
