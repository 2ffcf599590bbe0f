//! What can be subscribed to: on the bus ([`Topic`]) and by a client ([`Channel`]).

use std::sync::Arc;

use crate::{ConversationId, UserId};

/// A subject on the bus; a node subscribes to those it has local listeners for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Topic {
    /// A conversation's log, cursors and typing.
    Conversation(ConversationId),
    /// One user's feed: notifications, invitations, and signals for the user's connections.
    User(UserId),
    /// One user's presence transitions.
    Presence(UserId),
    /// Everybody's presence transitions.
    PresenceAll,
    /// An application channel such as `feed:updates`.
    App(Arc<str>),
    /// Signals every node hears: maintenance, revocation.
    Nodes,
}

/// A channel as a client names it (socialhub document, "Channels").
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Channel {
    /// `notifications`: the user's own.
    Notifications,
    /// `presence`: everybody.
    PresenceAll,
    /// `presence:{userId}`.
    Presence(UserId),
    /// `conversation:{id}`.
    Conversation(ConversationId),
    /// `feed:{name}`: published by the application's backend.
    Feed(Arc<str>),
}

impl Channel {
    /// Reads a channel's name; `None` when it is ill-formed or of no known kind.
    pub fn parse(name: &str) -> Option<Self> {
        match name.split_once(':') {
            None => match name {
                "notifications" => Some(Self::Notifications),
                "presence" => Some(Self::PresenceAll),
                _ => None,
            },
            Some(("presence", id)) => UserId::parse(id).ok().map(Self::Presence),
            Some(("conversation", id)) => ConversationId::parse(id).ok().map(Self::Conversation),
            Some(("feed", id)) if crate::is_house_id(id) => Some(Self::Feed(name.into())),
            Some(_) => None,
        }
    }

    /// The channel's name, as [`Self::parse`] reads it.
    pub fn name(&self) -> String {
        match self {
            Self::Notifications => "notifications".to_owned(),
            Self::PresenceAll => "presence".to_owned(),
            Self::Presence(user) => format!("presence:{user}"),
            Self::Conversation(id) => format!("conversation:{id}"),
            Self::Feed(name) => name.to_string(),
        }
    }

    /// The bus topic that carries it for `user`.
    pub fn topic(&self, user: &UserId) -> Topic {
        match self {
            Self::Notifications => Topic::User(user.clone()),
            Self::PresenceAll => Topic::PresenceAll,
            Self::Presence(other) => Topic::Presence(other.clone()),
            Self::Conversation(id) => Topic::Conversation(id.clone()),
            Self::Feed(name) => Topic::App(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for name in ["notifications", "presence", "presence:u1", "conversation:c:1", "feed:updates"] {
            assert_eq!(Channel::parse(name).unwrap().name(), name);
        }
        for name in
            ["", "presence:", "conversation:", "conversation:a b", "other", "other:x", "feed:", "Presence"]
        {
            assert_eq!(Channel::parse(name), None, "{name}");
        }
    }
}
