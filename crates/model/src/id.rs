//! Identifiers of users, conversations, nodes and connections, and the identity a token proves.

use std::fmt;
use std::sync::Arc;

use crate::{RawJson, Time};

/// Why a string is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `[A-Za-z0-9_:.@-]{1,128}`.
    #[error("an id is 1 to 128 characters of A-Z a-z 0-9 _ : . @ -")]
    Pattern,
}

/// Whether `text` is an identifier of the house pattern `[A-Za-z0-9_:.@-]{1,128}`.
pub fn is_house_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'@' | b'-'))
}

macro_rules! house_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the house pattern.
            ///
            /// # Errors
            /// [`IdError::Pattern`] when `text` does not match it.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if is_house_id(text) { Ok(Self(text.into())) } else { Err(IdError::Pattern) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

house_id!(
    /// A user: the subject of a verified token.
    UserId
);
house_id!(
    /// A conversation (sechat and socialhub conversation, famly chat, chatgenius channel).
    ConversationId
);
house_id!(
    /// A gateway node, unique per process start.
    NodeId
);

/// One client connection, unique over all nodes: its node and a counter on that node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId {
    /// The node that owns the connection.
    pub node: NodeId,
    /// Counter on that node.
    pub number: u64,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.number)
    }
}

/// Who a connection is: everything that counts comes from its verified token.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The token's subject.
    pub user: UserId,
    /// Display name (`name` claim).
    pub name: Option<Arc<str>>,
    /// Login name (`username` or `preferred_username` claim).
    pub username: Option<Arc<str>>,
    /// Picture address (`picture` or `imageUrl` claim).
    pub picture: Option<Arc<str>>,
    /// When the token ends.
    pub expires_at: Time,
    /// When the token was issued (`iat`), when it says so.
    pub issued_at: Option<Time>,
    /// The token's own id (`jti`), when it has one.
    pub token_id: Option<Arc<str>>,
    /// A stable hash of the token: names the session over a reconnect without keeping the token.
    pub token_hash: u64,
    /// Whether a token was verified; `false` only where the operator allows sessions without one.
    pub verified: bool,
    /// What vouched for it, while that may be withdrawn.
    pub proof: Proof,
    /// Claims the application's backend is told, as a JSON object; `None` unless configured.
    pub claims: Option<RawJson>,
}

/// What vouches for an identity.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Proof {
    /// Nothing that could be withdrawn.
    #[default]
    None,
    /// The signature of a key: a number that names the key on this node.
    Key(u64),
    /// The verifier of session tokens, which may be asked again: the token itself.
    Session(Arc<str>),
}

/// Never shows a token.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Key(_) => "Key(…)",
            Self::Session(_) => "Session(…)",
        })
    }
}

impl Identity {
    /// The name others are shown: the `name` claim, else the user id.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.user.as_str())
    }
}
