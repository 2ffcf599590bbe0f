//! What a stock socket is opened with.

use serde_json::{Map, Value, json};

/// Which transports a socket may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    /// WebSocket alone.
    Websocket,
    /// HTTP long polling alone.
    Polling,
    /// HTTP long polling, upgraded to WebSocket: what the libraries do when they are told nothing.
    Upgrade,
}

impl Transports {
    /// All three, for tests of what must hold on each.
    pub const ALL: [Self; 3] = [Self::Websocket, Self::Polling, Self::Upgrade];

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Websocket => &["websocket"],
            Self::Polling => &["polling"],
            Self::Upgrade => &["polling", "websocket"],
        }
    }
}

/// How a socket is opened. By default in the namespace `/` at the path `/socket.io`, without `auth`, and it connects
/// again (soon) when its connection breaks off.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    namespace: String,
    auth: Value,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    library: Map<String, Value>,
}

impl ConnectOptions {
    /// The defaults, over these transports.
    pub fn new(transports: Transports) -> Self {
        let mut library = Map::new();
        library.insert("transports".to_owned(), json!(transports.names()));
        // The library's own pause of a second would be waited out in every test that reconnects.
        library.insert("reconnectionDelay".to_owned(), json!(50));
        library.insert("reconnectionDelayMax".to_owned(), json!(250));
        Self { namespace: "/".to_owned(), auth: Value::Null, query: Map::new(), headers: Map::new(), library }
    }

    /// The path the server is mounted at.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        self.set("path", json!(path))
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// What goes with CONNECT.
    #[must_use]
    pub fn auth(mut self, auth: Value) -> Self {
        self.auth = auth;
        self
    }

    /// Adds to the query of every request.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.insert(name.to_owned(), json!(value));
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), json!(value));
        self
    }

    /// Whether it connects again by itself.
    #[must_use]
    pub fn reconnection(self, reconnection: bool) -> Self {
        self.set("reconnection", json!(reconnection))
    }

    /// Sets any other option of the library, by its name there.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.library.insert(name.to_owned(), value);
        self
    }

    pub(super) fn auth_value(&self) -> &Value {
        &self.auth
    }

    pub(super) fn url(&self, address: &str) -> String {
        format!("http://{address}{}", self.namespace)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut options = self.library.clone();
        if !self.auth.is_null() {
            options.insert("auth".to_owned(), self.auth.clone());
        }
        if !self.query.is_empty() {
            options.insert("query".to_owned(), json!(self.query));
        }
        if !self.headers.is_empty() {
            options.insert("extraHeaders".to_owned(), json!(self.headers));
        }
        Value::Object(options)
    }
}
