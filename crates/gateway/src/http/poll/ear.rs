//! A waiting poll's listener: in the rooms of everything its user hears, for as long as the request lives.
//!
//! Must not know: what is answered.

use std::collections::VecDeque;
use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_hub::{Announce, Limits, Listener, Notice, Outbox, Voice};
use parlance_model::{Identity, LogKey, Role, Topic};
use parlance_wire::socialhub::poll::{Passing, passing};
use parlance_wire::{Accent, Style, websocket};

use crate::config::Mount;
use crate::node::Node;

/// Pieces looked at in one go; more of what passes than that is dropped with them.
const PIECES: usize = 256;

/// Why a poll wakes.
pub(super) enum Wake {
    /// Something happened: this of it is in no log, the rest is there.
    Heard(Vec<Passing>),
    /// The user hears other conversations than before.
    Changed,
    /// The user's connections are to be closed.
    End,
}

/// Listens; dropped, with the answer or because the client went, it is out of every room.
pub(super) struct Ear<'a> {
    node: &'a Node,
    listener: Arc<Listener>,
    topics: Vec<Topic>,
    /// Some of it is out of reach: nothing of it is heard, and nobody says when it is back.
    pub partial: bool,
}

impl<'a> Ear<'a> {
    /// Enters the rooms and sees to it that this node hears what comes there. Nothing is handed over yet.
    pub(super) async fn open(
        node: &'a Node,
        mount: &Mount,
        identity: &Identity,
        topics: Vec<Topic>,
    ) -> Result<Ear<'a>, Fault> {
        let config = node.config.load_full();
        let limits = Limits { bytes: config.limits.outbox_bytes, pieces: config.limits.outbox_frames };
        let voice = Voice {
            accent: Accent::Socialhub,
            style: style(mount),
            announce: Announce { hold_ms: mount.background_ms, throttle_ms: mount.presence_throttle_ms },
        };
        let number = node.next_connection().number;
        let outbox = Arc::new(Outbox::new(limits));
        let listener = Arc::new(Listener::new(number, identity.user.clone(), voice, outbox));
        for topic in &topics {
            node.hub.enter(topic, &listener, Role::Joined);
        }
        let mut ear = Self { node, listener, topics, partial: false };
        let failed = node.feed.open_each(ear.topics.clone()).await?;
        ear.partial = !failed.is_empty();
        match failed.into_iter().next() {
            // The user's own log is where invitations come, and lies beside the integers.
            Some((Topic::User(_), fault)) => Err(fault),
            _ => Ok(ear),
        }
    }

    /// Hears everything from now on, having read every log up to its mark. `false`: some log has more.
    pub(super) fn go_live(&self, mark: impl Fn(&LogKey) -> u64) -> bool {
        let number = self.listener.number;
        let mut all = true;
        for topic in &self.topics {
            match LogKey::of_topic(topic) {
                Some(log) => all &= self.node.hub.go_live(topic, number, mark(&log)).is_ok(),
                None => self.node.hub.go_live_now(topic, number),
            }
        }
        all
    }

    /// Waits until there is something to do.
    pub(super) async fn wake(&self) -> Wake {
        loop {
            if let Some(notice) = self.listener.next_notice() {
                return match notice {
                    Notice::Invited { .. } | Notice::Removed(_) => Wake::Changed,
                    Notice::Revoked | Notice::Close { .. } => Wake::End,
                };
            }
            let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
            self.listener.outbox.take(&mut pieces, &mut marks, PIECES);
            if !pieces.is_empty() {
                let texts = pieces.iter().flat_map(|piece| websocket::texts(piece));
                return Wake::Heard(texts.filter_map(passing).collect());
            }
            if self.listener.outbox.is_overflown() {
                return Wake::Changed;
            }
            self.listener.outbox.ready().await;
        }
    }
}

impl Drop for Ear<'_> {
    fn drop(&mut self) {
        for topic in &self.topics {
            self.node.hub.leave(topic, self.listener.number);
        }
    }
}

/// What distinguishes the bytes of this mount.
pub(super) fn style(mount: &Mount) -> Style {
    Style { strip: mount.sanitize, ..Style::default() }
}
