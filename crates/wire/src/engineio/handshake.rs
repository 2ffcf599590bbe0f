//! The handshake: the request's query, the open packet, what a refusal says.
//!
//! Owns: names and texts of the handshake. Must not know: which sessions exist, who may connect.

use std::borrow::Cow;

use serde::Serialize;
use url::form_urlencoded;

/// How a session's packets travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// HTTP long polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// The name in the query and in the list of upgrades.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }

    /// What a session of this transport may upgrade to.
    pub const fn upgrades(self) -> &'static [&'static str] {
        match self {
            Self::Polling => &["websocket"],
            Self::WebSocket => &[],
        }
    }
}

/// What the server says first: the fields of the open packet, in the order they are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open<'a> {
    /// The session id, a secret of this client.
    pub sid: &'a str,
    /// Transports the session may move to.
    pub upgrades: &'a [&'a str],
    /// Milliseconds between a pong and the next ping.
    #[serde(rename = "pingInterval")]
    pub ping_interval_ms: u64,
    /// Milliseconds a pong may take.
    #[serde(rename = "pingTimeout")]
    pub ping_timeout_ms: u64,
    /// Bytes of the largest message or payload the server takes.
    pub max_payload: u64,
}

impl Open<'_> {
    /// The whole packet: `0{"sid":…}`.
    pub fn to_text(&self) -> String {
        format!("0{}", serde_json::to_string(self).unwrap_or_default())
    }
}

/// Why a request is refused.
///
/// The reference asks in this order: transport known; with a sid: session known, transport the session's own
/// or an upgrade ([`Problem::BadRequest`]); without: GET, `websocket` only with an upgrade
/// ([`Problem::BadRequest`]), policy, and the protocol version last. It takes a wrong version beside a sid
/// for [`Problem::BadRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Problem {
    /// No such transport.
    UnknownTransport = 0,
    /// No such session.
    UnknownSid = 1,
    /// A handshake is a GET.
    BadHandshakeMethod = 2,
    /// Not what this session may ask now.
    BadRequest = 3,
    /// Refused by policy.
    Forbidden = 4,
    /// Not version 4.
    UnsupportedProtocol = 5,
}

impl Problem {
    /// The number clients know it by.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it says.
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSid => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedProtocol => "Unsupported protocol version",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            _ => 400,
        }
    }

    /// The answer's JSON.
    pub fn body(self) -> String {
        format!("{{\"code\":{},\"message\":\"{}\"}}", self.code(), self.message())
    }
}

/// What a request's query says, percent-decoded. A parameter given twice holds both values joined by a comma,
/// as it does in the reference: no such transport, session or version exists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query<'a> {
    /// `EIO`: the protocol version.
    pub eio: Option<Cow<'a, str>>,
    /// `transport`.
    pub transport: Option<Cow<'a, str>>,
    /// `sid`; an empty one counts as absent.
    pub sid: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Reads the query string, the part of the URL after `?`.
    pub fn parse(query: &'a str) -> Self {
        let mut this = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "EIO" => add(&mut this.eio, value),
                "transport" => add(&mut this.transport, value),
                "sid" => add(&mut this.sid, value),
                _ => {}
            }
        }
        this.sid = this.sid.filter(|sid| !sid.is_empty());
        this
    }

    /// Whether the version is 4.
    pub fn is_version_4(&self) -> bool {
        self.eio.as_deref() == Some("4")
    }

    /// The transport.
    ///
    /// # Errors
    /// [`Problem::UnknownTransport`] for none and for any other.
    pub fn known_transport(&self) -> Result<Transport, Problem> {
        match self.transport.as_deref() {
            Some("polling") => Ok(Transport::Polling),
            Some("websocket") => Ok(Transport::WebSocket),
            _ => Err(Problem::UnknownTransport),
        }
    }
}

fn add<'a>(field: &mut Option<Cow<'a, str>>, value: Cow<'a, str>) {
    match field {
        Some(first) => {
            let all = first.to_mut();
            all.push(',');
            all.push_str(&value);
        }
        None => *field = Some(value),
    }
}

/// Whether a text has the form of a session id: 20 to 128 URL-safe characters.
pub fn is_session_id(text: &str) -> bool {
    (20..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
