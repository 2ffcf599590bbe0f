//! Accents: the finite set of distinct encodings. One event is encoded at most once per accent and node.

/// An event vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dialect {
    /// SeChat Realtime Protocol v2.0 and its legacy v1.
    Sechat,
    /// SocialHub Realtime Service API.
    Socialhub,
}

impl Dialect {
    /// The name used in configuration, metrics and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sechat => "sechat",
            Self::Socialhub => "socialhub",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sechat, Self::Socialhub].into_iter().find(|d| d.as_str() == text)
    }

    /// The accent a connection starts with.
    pub const fn default_accent(self) -> Accent {
        match self {
            Self::Sechat => Accent::SechatV2,
            Self::Socialhub => Accent::Socialhub,
        }
    }
}

/// Dialect and edition, as it sounds on the wire. A connection starts with its dialect's default and may
/// change once, at its first command, before that command's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Accent {
    /// sechat v2 over raw JSON WebSocket.
    SechatV2,
    /// sechat v1 over raw JSON WebSocket.
    SechatV1,
    /// socialhub over raw JSON WebSocket.
    Socialhub,
}

impl Accent {
    /// How many there are: the size of a memo of encoded frames.
    pub const COUNT: usize = 3;

    /// Position in a memo.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The vocabulary it belongs to.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::SechatV2 | Self::SechatV1 => Dialect::Sechat,
            Self::Socialhub => Dialect::Socialhub,
        }
    }

    /// Whether a user's own messages come back to the user's connections (sechat tells recipients only).
    pub const fn echoes_own_messages(self) -> bool {
        matches!(self, Self::Socialhub)
    }

    /// Whether log events carry the recipient's own integer (`,"seq":N}` behind the shared bytes): the one
    /// exception to "same bytes for everybody".
    pub const fn is_sequenced(self) -> bool {
        matches!(self, Self::Socialhub)
    }
}
