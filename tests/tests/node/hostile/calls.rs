//! Every call of both listeners, well-formed: what it is answered, and which methods its address has.

/// Which listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Public,
    Internal,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Anybody,
    /// The user `alice`, by a token in the header.
    Alice,
    /// The application, by its key.
    Backend,
}

/// A call that is in order.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub side: Side,
    pub method: &'static str,
    pub target: &'static str,
    pub who: Who,
    /// Whether it asks for a WebSocket.
    pub socket: bool,
    pub body: Option<&'static str>,
    /// What it is answered.
    pub status: u16,
}

const fn public(method: &'static str, target: &'static str, who: Who, status: u16) -> Call {
    Call { side: Side::Public, method, target, who, socket: false, body: None, status }
}

const fn socket(target: &'static str, who: Who) -> Call {
    Call { socket: true, ..public("GET", target, who, 101) }
}

const fn internal(method: &'static str, target: &'static str, who: Who, status: u16) -> Call {
    Call { side: Side::Internal, ..public(method, target, who, status) }
}

const fn posted(call: Call, body: &'static str) -> Call {
    Call { body: Some(body), ..call }
}

use Who::{Alice, Anybody, Backend};

/// All of them. `c1` is a conversation of `alice` and `bob`, `c2` one of others.
pub const CALLS: &[Call] = &[
    public("GET", "/livez", Anybody, 200),
    public("HEAD", "/livez", Anybody, 200),
    public("OPTIONS", "/livez", Anybody, 204),
    public("OPTIONS", "/socket.io/", Anybody, 204),
    public("GET", "/nothing", Anybody, 404),
    socket("/sechat", Anybody),
    socket("/ws", Alice),
    socket("/socket.io/?EIO=4&transport=websocket", Anybody),
    public("GET", "/socket.io/?EIO=4&transport=polling", Anybody, 200),
    public("GET", "/sechat/socket.io/?EIO=4&transport=polling", Anybody, 200),
    public("GET", "/lingochat/socket.io/?EIO=4&transport=polling", Anybody, 200),
    public("GET", "/api/socket.io/?EIO=4&transport=polling", Anybody, 200),
    public("GET", "/socket.io/?EIO=4&transport=polling&sid=unknown-unknown-unknown", Anybody, 400),
    public("POST", "/socket.io/?EIO=4&transport=polling&sid=unknown-unknown-unknown", Anybody, 400),
    public("GET", "/api/v1/realtime/poll?user_id=alice&timeout=0", Alice, 200),
    posted(
        public("POST", "/api/v1/realtime/poll", Alice, 200),
        r#"{"user_id":"alice","last_poll_id":0,"timeout":0}"#,
    ),
    public("GET", "/api/v1/realtime/poll/missed?user_id=alice&last_sequence=0", Alice, 200),
    public("GET", "/v1/chats/c1/messages", Alice, 200),
    public("GET", "/v1/chats/c1/cursors", Alice, 200),
    public("GET", "/api/v1/conversations/c1/messages", Alice, 200),
    public("GET", "/api/v1/conversations/c2/messages", Alice, 403),
    public("GET", "/api/v1/conversations", Alice, 200),
    posted(public("PUT", "/api/v1/conversations/c1/read", Alice, 200), r#"{"sequence":0}"#),
    internal("GET", "/livez", Anybody, 200),
    internal("GET", "/readyz", Anybody, 200),
    internal("GET", "/metrics", Anybody, 200),
    internal("GET", "/openapi.json", Anybody, 200),
    internal("GET", "/nothing", Anybody, 404),
    posted(
        internal("POST", "/api/v1/conversations", Backend, 200),
        r#"{"id":"c1","type":"group","members":["alice","bob"]}"#,
    ),
    internal("GET", "/api/v1/conversations/c1", Backend, 200),
    posted(internal("PATCH", "/api/v1/conversations/c1", Backend, 200), r#"{"title":"t"}"#),
    internal("DELETE", "/api/v1/conversations/none", Backend, 404),
    internal("GET", "/api/v1/conversations/c1/messages", Backend, 200),
    posted(
        internal("POST", "/api/v1/conversations/none/messages", Backend, 404),
        r#"{"senderId":"alice","body":"hostile"}"#,
    ),
    posted(
        internal("POST", "/api/v1/publish", Backend, 201),
        r#"{"channel":"feed:f","type":"t","payload":{}}"#,
    ),
    internal("GET", "/api/v1/users/alice/presence", Backend, 200),
    posted(internal("POST", "/api/v1/users/nobody/disconnect", Backend, 202), r#"{"reason":"r"}"#),
    posted(internal("POST", "/api/v1/presence", Backend, 200), r#"{"users":["alice"]}"#),
    posted(internal("POST", "/api/v1/tokens/revoke", Backend, 200), r#"{"jti":"some-jti"}"#),
    posted(internal("PUT", "/api/v1/maintenance", Backend, 200), r#"{"enabled":false}"#),
    internal("GET", "/api/v1/nodes", Backend, 200),
    internal("GET", "/internal/engine/socket.io/?EIO=4&transport=polling", Anybody, 401),
    internal("POST", "/internal/engine/socket.io/?EIO=4&transport=polling&sid=x", Anybody, 401),
    internal("POST", "/internal/release/socket.io/?EIO=4&transport=polling&sid=x", Anybody, 401),
];

/// The methods of each address; `None`: Engine.IO's, which has no such answer and says 400.
pub const METHODS: &[(Side, &str, Option<&str>)] = &[
    (Side::Public, "/livez", Some("GET, HEAD")),
    (Side::Public, "/sechat", Some("GET")),
    (Side::Public, "/ws", Some("GET")),
    (Side::Public, "/socket.io/?EIO=4&transport=polling", None),
    (Side::Public, "/sechat/socket.io/?EIO=4&transport=polling", None),
    (Side::Public, "/lingochat/socket.io/?EIO=4&transport=polling", None),
    (Side::Public, "/api/socket.io/?EIO=4&transport=polling", None),
    (Side::Public, "/api/v1/realtime/poll", Some("GET, HEAD, POST")),
    (Side::Public, "/api/v1/realtime/poll/missed", Some("GET, HEAD")),
    (Side::Public, "/v1/chats/c1/messages", Some("GET, HEAD")),
    (Side::Public, "/v1/chats/c1/cursors", Some("GET, HEAD")),
    (Side::Public, "/api/v1/conversations", Some("GET, HEAD")),
    (Side::Public, "/api/v1/conversations/c1/messages", Some("GET, HEAD")),
    (Side::Public, "/api/v1/conversations/c1/read", Some("PUT")),
    (Side::Internal, "/livez", Some("GET, HEAD")),
    (Side::Internal, "/readyz", Some("GET, HEAD")),
    (Side::Internal, "/metrics", Some("GET, HEAD")),
    (Side::Internal, "/openapi.json", Some("GET, HEAD")),
    (Side::Internal, "/api/v1/conversations/c1/members/import", Some("POST")),
    (Side::Internal, "/api/v1/conversations", Some("POST")),
    (Side::Internal, "/api/v1/conversations/c1", Some("DELETE, GET, HEAD, PATCH")),
    (Side::Internal, "/api/v1/conversations/c1/messages", Some("GET, HEAD, POST")),
    (Side::Internal, "/api/v1/publish", Some("POST")),
    (Side::Internal, "/api/v1/users/alice/presence", Some("GET, HEAD")),
    (Side::Internal, "/api/v1/users/alice/disconnect", Some("POST")),
    (Side::Internal, "/api/v1/presence", Some("POST")),
    (Side::Internal, "/api/v1/tokens/revoke", Some("POST")),
    (Side::Internal, "/api/v1/maintenance", Some("PUT")),
    (Side::Internal, "/api/v1/nodes", Some("GET, HEAD")),
];
