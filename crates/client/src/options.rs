//! What a client is told to do, with the numbers the dialects' documents give.

use std::time::Duration;

use parlance_wire::{Dialect, Framing};
use serde_json::{Map, Value};

use crate::backoff::Backoff;
use crate::outbox::Rules;
use crate::typing::Timings;

/// How to connect and how to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ws://host:port`; without a path, the dialect's usual mount.
    pub url: String,
    /// The vocabulary.
    pub dialect: Dialect,
    /// What carries it.
    pub framing: Framing,
    /// Who we are.
    pub user: String,
    /// What proves it.
    pub token: Option<String>,
    /// Conversations to be in from the start (dialects with subscriptions subscribe to them).
    pub conversations: Vec<String>,
    /// Further channels to subscribe to, where the dialect has channels.
    pub channels: Vec<String>,
    /// Between attempts to connect, and between attempts to send.
    pub backoff: Backoff,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long the server may take to acknowledge a message.
    pub ack_timeout: Duration,
    /// How often a message is sent on a working connection, the first time included, before it has failed.
    pub attempts: u32,
    /// Messages that wait for an acknowledgement, sent or not; more are refused.
    pub queue: usize,
    /// Updates that wait to be read; when it is full the client stops reading its socket.
    pub updates: usize,
    /// Messages remembered as shown, and own messages remembered for receipts.
    pub memory: usize,
    /// Between keepalives.
    pub keepalive: Duration,
    /// When to say "typing".
    pub typing: Timings,
    /// Answers every message with "delivered", where the dialect asks for that.
    pub auto_receipts: bool,
    /// Passes every frame on as [`crate::Update::Raw`], too.
    pub raw: bool,
}

impl Options {
    /// The documented behaviour for `user` at `url`. What has a raw form is spoken raw.
    pub fn new(url: impl Into<String>, dialect: Dialect, user: impl Into<String>) -> Self {
        let is_sechat = dialect == Dialect::Sechat;
        let framing = if dialect.speaks(Framing::Raw) { Framing::Raw } else { Framing::Socketio };
        let mut typing = Timings::default();
        if dialect == Dialect::Lingochat {
            typing.stop_after = Duration::from_secs(2);
        }
        Self {
            url: url.into(),
            dialect,
            framing,
            user: user.into(),
            token: None,
            conversations: Vec::new(),
            channels: if dialect == Dialect::Socialhub { vec!["presence".to_owned()] } else { Vec::new() },
            backoff: Backoff {
                // SeChat wants to be back within two seconds; the others give a row of waits.
                base: Duration::from_millis(if is_sechat { 500 } else { 1000 }),
                max: Duration::from_secs(30),
                jitter: 0.2,
            },
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(if is_sechat { 10 } else { 5 }),
            // SeChat counts attempts, LingoChat the retries after the first.
            attempts: if dialect == Dialect::Lingochat { 4 } else { 3 },
            queue: 1024,
            updates: 1024,
            memory: 4096,
            keepalive: Duration::from_secs(25),
            typing,
            auto_receipts: true,
            raw: false,
        }
    }

    /// How messages are sent again.
    pub(crate) const fn rules(&self) -> Rules {
        let mut backoff = self.backoff;
        // LingoChat gives the waits themselves. Only coming back stays spread: there a herd would come at once.
        if matches!(self.dialect, Dialect::Lingochat) {
            backoff.jitter = 0.0;
        }
        Rules { ack_timeout: self.ack_timeout, attempts: self.attempts, backoff }
    }

    /// In another framing.
    #[must_use]
    pub const fn over(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// With a token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// In a conversation.
    #[must_use]
    pub fn conversation(mut self, conversation: impl Into<String>) -> Self {
        self.conversations.push(conversation.into());
        self
    }

    /// The address to open: the mount added when there is none; the token in the query, except over
    /// Socket.IO, which has a better place for it.
    ///
    /// # Errors
    /// When the address is none, or the dialect cannot be spoken in the framing.
    pub(crate) fn address(&self) -> Result<url::Url, String> {
        let mut url = url::Url::parse(&self.url).map_err(|error| format!("bad address: {error}"))?;
        if !self.dialect.speaks(self.framing) {
            return Err(format!("{} is not spoken over {}", self.dialect.as_str(), self.framing.as_str()));
        }
        if matches!(url.path(), "" | "/") {
            url.set_path(mount(self.dialect, self.framing));
        }
        match (self.framing, &self.token) {
            (Framing::Socketio, _) => {
                url.query_pairs_mut().append_pair("EIO", "4").append_pair("transport", "websocket");
            }
            (Framing::Raw, Some(token)) => {
                url.query_pairs_mut().append_pair("token", token);
            }
            (Framing::Raw, None) => {}
        }
        Ok(url)
    }

    /// What a Socket.IO client proves itself with.
    pub(crate) fn auth(&self) -> Map<String, Value> {
        let mut auth = Map::new();
        let is_chatgenius = self.dialect == Dialect::Chatgenius;
        if let Some(token) = &self.token {
            let token = if is_chatgenius { format!("Bearer {token}") } else { token.clone() };
            auth.insert("token".to_owned(), token.into());
        }
        if is_chatgenius {
            auth.insert("userId".to_owned(), self.user.clone().into());
        }
        auth
    }
}

/// Where a gateway speaks it, unless told otherwise.
const fn mount(dialect: Dialect, framing: Framing) -> &'static str {
    match (dialect, framing) {
        (Dialect::Sechat, Framing::Raw) => "/sechat",
        (Dialect::Sechat, Framing::Socketio) => "/sechat/socket.io/",
        (Dialect::Lingochat, _) => "/lingochat/socket.io/",
        (Dialect::Famly, _) => "/socket.io/",
        (Dialect::Chatgenius, _) => "/api/socket.io/",
        (Dialect::Socialhub, _) => "/ws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_added_only_where_none_is_given() {
        let of =
            |url, dialect| Options::new(url, dialect, "alice").token("a b").address().unwrap().to_string();
        assert_eq!(of("ws://h:1", Dialect::Sechat), "ws://h:1/sechat?token=a+b");
        assert_eq!(of("ws://h:1/", Dialect::Socialhub), "ws://h:1/ws?token=a+b");
        assert_eq!(of("ws://h:1/x?y=1", Dialect::Sechat), "ws://h:1/x?y=1&token=a+b");
    }

    #[test]
    fn a_socket_io_address_keeps_the_token_out_of_the_log() {
        let options = Options::new("ws://h:1", Dialect::Chatgenius, "alice").token("secret");
        assert_eq!(options.address().unwrap().as_str(), "ws://h:1/api/socket.io/?EIO=4&transport=websocket");
        assert_eq!(
            Value::Object(options.auth()),
            serde_json::json!({"token":"Bearer secret","userId":"alice"})
        );
        let sechat = Options::new("ws://h:1", Dialect::Sechat, "alice").over(Framing::Socketio);
        assert_eq!(sechat.address().unwrap().path(), "/sechat/socket.io/");
    }

    #[test]
    fn not_every_dialect_is_spoken_in_every_framing() {
        let raw = Options::new("ws://h:1", Dialect::Famly, "alice").over(Framing::Raw);
        assert_eq!(raw.address().unwrap_err(), "famly is not spoken over raw");
    }
}
