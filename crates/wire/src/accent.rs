//! Accents: the finite set of distinct encodings, and who hears what in which of them. One event is encoded
//! at most once per accent, style and node.

use std::sync::Arc;

use parlance_model::{Event, Role};

/// An event vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dialect {
    /// SeChat Realtime Protocol v2.0 and its legacy v1.
    Sechat,
    /// LingoChat's Socket.IO events.
    Lingochat,
    /// Famly's Socket.IO realtime messaging.
    Famly,
    /// ChatGenius' Socket.IO events.
    Chatgenius,
    /// SocialHub Realtime Service API.
    Socialhub,
}

/// What carries a dialect's events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Framing {
    /// One JSON object per WebSocket text frame.
    Raw,
    /// Socket.IO v5 over Engine.IO v4.
    Socketio,
}

impl Framing {
    /// The name used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Socketio => "socketio",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Raw, Self::Socketio].into_iter().find(|f| f.as_str() == text)
    }
}

impl Dialect {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::Sechat, Self::Lingochat, Self::Famly, Self::Chatgenius, Self::Socialhub];

    /// The name used in configuration, metrics and documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sechat => "sechat",
            Self::Lingochat => "lingochat",
            Self::Famly => "famly",
            Self::Chatgenius => "chatgenius",
            Self::Socialhub => "socialhub",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == text)
    }

    /// Whether the dialect can be spoken in a framing.
    pub const fn speaks(self, framing: Framing) -> bool {
        match framing {
            Framing::Raw => matches!(self, Self::Sechat | Self::Socialhub),
            Framing::Socketio => !matches!(self, Self::Socialhub),
        }
    }

    /// The accent a connection starts with.
    pub const fn default_accent(self, framing: Framing) -> Accent {
        match (self, framing) {
            (Self::Sechat, Framing::Raw) => Accent::SechatV2,
            (Self::Sechat, Framing::Socketio) => Accent::SechatIoV2,
            (Self::Lingochat, _) => Accent::LingochatPositional,
            (Self::Famly, _) => Accent::Famly,
            (Self::Chatgenius, _) => Accent::Chatgenius,
            (Self::Socialhub, _) => Accent::Socialhub,
        }
    }

    /// The role a connection has in the user's conversations by itself; `None` where the client subscribes.
    pub const fn implied_role(self) -> Option<Role> {
        match self {
            Self::Sechat | Self::Chatgenius => Some(Role::Joined),
            Self::Lingochat | Self::Famly => Some(Role::Member),
            Self::Socialhub => None,
        }
    }

    /// Whether an answer must reach the client before the events of what it answers (chatgenius
    /// `message:delivered` before `message:created`).
    pub const fn answers_first(self) -> bool {
        matches!(self, Self::Chatgenius)
    }

    /// Whether the same send, while the first is being carried out, is refused rather than deduplicated.
    pub const fn refuses_repeats_in_flight(self) -> bool {
        matches!(self, Self::Chatgenius)
    }

    /// Whether every refusal carries a correlation id (famly document, "Correlation IDs").
    pub const fn correlates_refusals(self) -> bool {
        matches!(self, Self::Famly)
    }

    /// Whether a CONNECT names the user it comes from (`auth.userId`), to be compared with the token's.
    pub const fn claims_user(self) -> bool {
        matches!(self, Self::Chatgenius)
    }

    /// Whether a client may present its token in its first event instead of at the handshake.
    pub const fn registers_late(self) -> bool {
        matches!(self, Self::Sechat)
    }
}

/// Dialect, edition and place, as it sounds on the wire. A connection starts with its dialect's default and
/// may change once, at its first command, before that command's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Accent {
    /// sechat v2 over raw JSON WebSocket.
    SechatV2,
    /// sechat v1 over raw JSON WebSocket.
    SechatV1,
    /// sechat v2 over Socket.IO.
    SechatIoV2,
    /// sechat v1 over Socket.IO.
    SechatIoV1,
    /// socialhub over raw JSON WebSocket.
    Socialhub,
    /// famly, inside the room, somebody else's message: `message:notification` and `message:new`.
    Famly,
    /// famly, inside the room, the user's own message: `message:new` only.
    FamlyOwn,
    /// famly, a member outside the room: `message:notification` only.
    FamlyAside,
    /// lingochat with positional arguments.
    LingochatPositional,
    /// lingochat with objects.
    LingochatObject,
    /// lingochat with positional arguments, `room:*` events.
    LingochatPositionalGroup,
    /// lingochat with objects, `room:*` events.
    LingochatObjectGroup,
    /// chatgenius.
    Chatgenius,
}

impl Accent {
    /// All of them, by index.
    pub const ALL: [Self; 13] = [
        Self::SechatV2,
        Self::SechatV1,
        Self::SechatIoV2,
        Self::SechatIoV1,
        Self::Socialhub,
        Self::Famly,
        Self::FamlyOwn,
        Self::FamlyAside,
        Self::LingochatPositional,
        Self::LingochatObject,
        Self::LingochatPositionalGroup,
        Self::LingochatObjectGroup,
        Self::Chatgenius,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The vocabulary it belongs to.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::SechatV2 | Self::SechatV1 | Self::SechatIoV2 | Self::SechatIoV1 => Dialect::Sechat,
            Self::Socialhub => Dialect::Socialhub,
            Self::Famly | Self::FamlyOwn | Self::FamlyAside => Dialect::Famly,
            Self::LingochatPositional
            | Self::LingochatObject
            | Self::LingochatPositionalGroup
            | Self::LingochatObjectGroup => Dialect::Lingochat,
            Self::Chatgenius => Dialect::Chatgenius,
        }
    }

    /// What carries it.
    pub const fn framing(self) -> Framing {
        match self {
            Self::SechatV2 | Self::SechatV1 | Self::Socialhub => Framing::Raw,
            _ => Framing::Socketio,
        }
    }

    /// Whether log events carry the recipient's own integer (`,"seq":N}` behind the shared bytes): the one
    /// exception to "same bytes for everybody".
    pub const fn is_sequenced(self) -> bool {
        matches!(self, Self::Socialhub)
    }

    /// Whether a user hears of the user's own presence (sechat does not).
    pub const fn hears_own_presence(self) -> bool {
        matches!(self.dialect(), Dialect::Socialhub)
    }

    /// Whether a user's other connections hear that the user's cursor moved.
    pub const fn hears_own_cursor(self) -> bool {
        matches!(self.dialect(), Dialect::Famly)
    }

    /// The accent in which a connection with this one hears an event of a conversation from where it stands:
    /// `role` in the room, `own` when the user is the event's author. `None`: it does not.
    pub fn placed(self, role: Role, own: bool, event: &Event) -> Option<Self> {
        match self.dialect() {
            Dialect::Sechat => match event {
                Event::Message(_) if own => None,
                _ => Some(self),
            },
            Dialect::Socialhub => Some(self),
            Dialect::Famly => self.famly_placed(role, own, event),
            Dialect::Lingochat => self.lingochat_placed(role, own, event),
            Dialect::Chatgenius => match role {
                Role::Member => None,
                Role::Joined | Role::Group => Some(self),
            },
        }
    }

    fn famly_placed(self, role: Role, own: bool, event: &Event) -> Option<Self> {
        match (event, role, own) {
            (Event::Message(_), Role::Member, true) => None,
            (Event::Message(_), Role::Member, false) => Some(Self::FamlyAside),
            (Event::Message(_), _, true) => Some(Self::FamlyOwn),
            (Event::Conversation(_) | Event::Presence(_) | Event::Resync(_), ..) => Some(self),
            (_, Role::Member, _) => None,
            _ => Some(self),
        }
    }

    fn lingochat_placed(self, role: Role, own: bool, event: &Event) -> Option<Self> {
        match (event, role) {
            (Event::Receipt(_) | Event::Resync(_), _) => Some(self),
            (Event::Room(_), _) if own => None,
            (_, Role::Member) => None,
            (_, Role::Joined) => Some(self),
            (_, Role::Group) => Some(self.in_group()),
        }
    }

    /// The same edition of lingochat in the words of a group room.
    const fn in_group(self) -> Self {
        match self {
            Self::LingochatPositional => Self::LingochatPositionalGroup,
            Self::LingochatObject => Self::LingochatObjectGroup,
            other => other,
        }
    }
}

/// What else distinguishes the bytes two connections of one accent get; fixed when a connection is let in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// The Socket.IO namespace; `None` for the main one and without Socket.IO.
    pub namespace: Option<Arc<str>>,
    /// Markup is removed from message texts.
    pub strip: bool,
    /// Log events end with their recovery offset.
    pub offsets: bool,
}
