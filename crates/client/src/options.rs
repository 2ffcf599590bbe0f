//! What a client is told to do, with the numbers the dialects' documents give.

use std::time::Duration;

use parlance_wire::Dialect;

use crate::backoff::Backoff;
use crate::typing::Timings;

/// How to connect and how to behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ws://host:port`; without a path, the dialect's usual mount.
    pub url: String,
    /// The vocabulary.
    pub dialect: Dialect,
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
    /// How often a message is tried on a working connection before it has failed.
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
    /// The documented behaviour for `user` at `url`.
    pub fn new(url: impl Into<String>, dialect: Dialect, user: impl Into<String>) -> Self {
        let is_sechat = dialect == Dialect::Sechat;
        Self {
            url: url.into(),
            dialect,
            user: user.into(),
            token: None,
            conversations: Vec::new(),
            channels: if is_sechat { Vec::new() } else { vec!["presence".to_owned()] },
            backoff: Backoff {
                // SeChat wants to be back within two seconds; SocialHub gives its row of waits.
                base: Duration::from_millis(if is_sechat { 500 } else { 1000 }),
                max: Duration::from_secs(30),
                jitter: 0.2,
            },
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(if is_sechat { 10 } else { 5 }),
            attempts: 3,
            queue: 1024,
            updates: 1024,
            memory: 4096,
            keepalive: Duration::from_secs(25),
            typing: Timings::default(),
            auto_receipts: true,
            raw: false,
        }
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

    /// The address to open: the mount added when there is none, the token in the query.
    ///
    /// # Errors
    /// When the address is none.
    pub(crate) fn address(&self) -> Result<url::Url, url::ParseError> {
        let mut url = url::Url::parse(&self.url)?;
        if matches!(url.path(), "" | "/") {
            url.set_path(match self.dialect {
                Dialect::Sechat => "/sechat",
                _ => "/ws",
            });
        }
        if let Some(token) = &self.token {
            url.query_pairs_mut().append_pair("token", token);
        }
        Ok(url)
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
}
