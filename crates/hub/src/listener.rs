//! A local connection as the hub sees it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use parlance_model::{ConversationId, UserId};
use parlance_wire::{Accent, Encoded};

use crate::outbox::{Limits, Outbox, Pushed};

/// More notices than this unread: the connection's task is stuck, and the connection is closed.
const MAX_NOTICES: usize = 4096;

/// A word for the connection's own task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The user became a member of a conversation: read its log after `since`, then go live.
    Invited {
        /// Which.
        conversation: ConversationId,
        /// The log's head at the join.
        since: u64,
    },
    /// The user is no longer a member: already unsubscribed.
    Removed(ConversationId),
    /// Close the connection.
    Close {
        /// WebSocket close code.
        code: u16,
        /// For people.
        reason: String,
    },
}

/// A local connection: who it is, how it speaks, and its outbox.
#[derive(Debug)]
pub struct Listener {
    /// The connection's number on this node.
    pub number: u64,
    /// Whose it is.
    pub user: UserId,
    /// How long an offline is held back for this connection (milliseconds).
    pub background_ms: u64,
    /// Its outbox.
    pub outbox: Outbox,
    accent: AtomicU8,
    notices: Mutex<VecDeque<Notice>>,
}

const ACCENTS: [Accent; Accent::COUNT] = [Accent::SechatV2, Accent::SechatV1, Accent::Socialhub];

impl Listener {
    /// A listener.
    pub fn new(number: u64, user: UserId, accent: Accent, background_ms: u64, limits: Limits) -> Self {
        Self {
            number,
            user,
            background_ms,
            outbox: Outbox::new(limits),
            accent: AtomicU8::new(accent as u8),
            notices: Mutex::default(),
        }
    }

    /// How it speaks.
    pub fn accent(&self) -> Accent {
        let index = usize::from(self.accent.load(Ordering::Relaxed));
        ACCENTS.get(index).copied().unwrap_or(Accent::SechatV2)
    }

    /// Changes how it speaks; later events are encoded so.
    pub fn set_accent(&self, accent: Accent) {
        self.accent.store(accent as u8, Ordering::Relaxed);
    }

    /// Queues output.
    pub fn push(&self, piece: &Encoded) -> Pushed {
        self.outbox.push(piece)
    }

    /// Leaves a notice for the connection's task. A task that reads none is told to close.
    pub fn notify(&self, notice: Notice) {
        let mut notices = self.notices.lock();
        if notices.len() >= MAX_NOTICES {
            notices.clear();
            notices.push_back(Notice::Close { code: 1013, reason: "too many changes at once".to_owned() });
        } else {
            notices.push_back(notice);
        }
        drop(notices);
        self.outbox.wake();
    }

    /// The next notice.
    pub fn next_notice(&self) -> Option<Notice> {
        let mut notices = self.notices.lock();
        let next = notices.pop_front();
        if notices.is_empty() {
            *notices = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accent_is_kept() {
        for (index, accent) in ACCENTS.into_iter().enumerate() {
            assert_eq!(accent.index(), index);
            let listener =
                Listener::new(1, UserId::parse("u").unwrap(), accent, 0, Limits { bytes: 1, pieces: 1 });
            assert_eq!(listener.accent(), accent);
        }
    }

    #[test]
    fn unread_notices_are_bounded() {
        let listener = Listener::new(
            1,
            UserId::parse("u").unwrap(),
            Accent::Socialhub,
            0,
            Limits { bytes: 1, pieces: 1 },
        );
        for _ in 0..=MAX_NOTICES {
            listener.notify(Notice::Removed(ConversationId::parse("c").unwrap()));
        }
        assert!(matches!(listener.next_notice(), Some(Notice::Close { code: 1013, .. })));
        assert_eq!(listener.next_notice(), None);
    }
}
