//! What this node did lately, for whoever asks afterwards what became of a message (`parlance explain`): sends that
//! were accepted, commands that were refused, log entries that were handed to sockets.
//!
//! Owns: the notes, in memory of a fixed bound, one per message or page and never one per socket; asking all nodes for
//! theirs ([`gather`]). Must not know: sockets, texts of messages.

mod answer;
mod gather;
mod gone;
mod lines;
mod ring;
mod search;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parlance_backplane::LiveNode;
use parlance_hub::Reached;
use parlance_model::{Accepted, ConversationId, LogKey, MessageId, NodeId, RejectCode, Send, Time, UserId};
use parlance_wire::Dialect;
use smallvec::SmallVec;

pub use answer::{Explanation, Part, Question};
pub use gather::explain;
pub use lines::{Lines, Own};
pub use search::own;

use crate::config::Mount;
use crate::node::Node;
use crate::session::Link;
use gone::Gone;
use ring::Ring;

/// Refusals, pages and ended connections are fewer than messages: so many of each are kept for this many messages.
const SHARE: usize = 2;

/// Of a call so much is noted.
const LONGEST_CALL: usize = 200;

/// What this node did lately.
pub struct Journal {
    sends: Ring<Sent>,
    refusals: Ring<Refused>,
    told: Ring<Told>,
    /// The newest of `told` that are not known to be written yet.
    unwritten: AtomicUsize,
    pages: Ring<Page>,
    ended: Ring<Ended>,
    gone: Gone,
    /// Lines about refusals.
    pub lines: Lines,
    most: usize,
}

/// A connection as notes name it.
#[derive(Clone)]
pub struct By {
    /// Its number on this node; 0: it was never authenticated.
    number: u64,
    dialect: Dialect,
    mount: Arc<Mount>,
}

impl By {
    fn link(link: &Link) -> Self {
        Self { number: link.connection.number, dialect: link.dialect, mount: link.mount.clone() }
    }
}

/// A send that was accepted.
struct Sent {
    id: MessageId,
    seq: u64,
    at: Time,
    fresh: bool,
    conversation: ConversationId,
    sender: UserId,
    client_id: Option<Arc<str>>,
    /// `None`: the server API.
    by: Option<By>,
    received: Time,
    answered: Time,
}

/// A command or call that was refused.
pub struct Refused {
    /// As the client was told.
    pub correlation: Option<Arc<str>>,
    /// When.
    pub at: Time,
    /// Which command or call.
    pub what: Box<str>,
    /// Why, for programs.
    pub code: Cow<'static, str>,
    /// Why, for people.
    pub why: Cow<'static, str>,
    /// The client's own id of what it sent.
    pub client_id: Option<Box<str>>,
    /// Where it was to happen.
    pub conversation: Option<ConversationId>,
    /// Who asked, when known.
    pub user: Option<UserId>,
    /// Connection and mount, unless it came over plain HTTP.
    pub by: Option<By>,
}

impl Refused {
    /// One of nobody yet.
    pub fn new(correlation: Option<Arc<str>>, at: Time, what: &str, code: RejectCode) -> Self {
        Self {
            correlation,
            at,
            what: what.into(),
            code: word(code).into(),
            why: Cow::Borrowed(""),
            client_id: None,
            conversation: None,
            user: None,
            by: None,
        }
    }

    /// A call over plain HTTP.
    pub fn over_http(
        id: Arc<str>,
        at: Time,
        what: &str,
        (code, why): (&'static str, Cow<'static, str>),
    ) -> Self {
        let what = what.get(..what.floor_char_boundary(LONGEST_CALL)).unwrap_or_default();
        Self { code: code.into(), why, ..Self::new(Some(id), at, what, RejectCode::Internal) }
    }

    /// One of a connection; without a link nobody was authenticated yet.
    pub fn of_connection(mut self, dialect: Dialect, mount: Arc<Mount>, link: Option<&Link>) -> Self {
        self.user = link.map(|link| link.listener.user.clone());
        let number = link.map_or(0, |link| link.connection.number);
        self.by = Some(By { number, dialect, mount });
        self
    }
}

/// A log entry that was handed to a room.
struct Told {
    key: LogKey,
    seq: u64,
    /// The feed took it up.
    heard: Time,
    /// It was in every outbox of the room.
    told: Time,
    /// What the sockets take at once was written; 0: not yet.
    written: Time,
    sockets: [u32; Dialect::ALL.len()],
    reached: Reached,
    too_slow: u32,
}

/// A stretch of a log that one connection read because it had not been there.
struct Page {
    key: LogKey,
    first: u64,
    last: u64,
    at: Time,
    user: UserId,
    by: By,
}

/// A connection that is no more. Its user is written down here: what the connection itself had lies in the middle of much that is
/// free when it has gone, and a note of a shared id would keep a page of memory each.
struct Ended {
    user: SmallVec<[u8; 24]>,
    at: Time,
    by: By,
}

/// A log entry as it was handed to a room.
pub struct Handed<'a> {
    /// Of which log.
    pub key: &'a LogKey,
    /// Its place there.
    pub seq: u64,
    /// When the feed took it up.
    pub heard: Time,
    /// By now.
    pub told: Time,
    /// What came of it.
    pub fanout: &'a parlance_hub::Fanout,
}

impl Journal {
    /// Remembers so many messages; 0: nothing.
    pub fn new(most: usize) -> Self {
        let fewer = most.div_ceil(SHARE);
        Self {
            sends: Ring::new(most),
            refusals: Ring::new(fewer),
            told: Ring::new(most),
            unwritten: AtomicUsize::new(0),
            pages: Ring::new(fewer),
            ended: Ring::new(fewer),
            gone: Gone::default(),
            lines: Lines::default(),
            most,
        }
    }

    /// A send was accepted, now or before; `link`: its connection, unless it came over the server API.
    pub fn accepted(
        &self,
        sender: &UserId,
        link: Option<&Link>,
        send: &Send,
        (accepted, (received, answered)): (&Accepted, (Time, Time)),
    ) {
        if self.most == 0 {
            return;
        }
        self.sends.push(Sent {
            id: accepted.id,
            seq: accepted.seq,
            at: accepted.at,
            fresh: accepted.fresh,
            conversation: send.conversation.clone(),
            sender: sender.clone(),
            client_id: send.client_id.clone(),
            by: link.map(By::link),
            received,
            answered,
        });
    }

    /// A command or call was refused.
    pub fn refused(&self, refused: Refused) {
        self.refusals.push(refused);
    }

    /// A log entry was handed to its room.
    pub fn handed(&self, handed: &Handed<'_>) {
        if self.most == 0 {
            return;
        }
        let Handed { key, seq, heard, told, fanout } = *handed;
        let few = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let sockets = fanout.heard.map(|heard| few(heard.delivered));
        self.told.push(Told {
            key: key.clone(),
            seq,
            heard,
            told,
            written: Time::default(),
            reached: fanout.reached,
            sockets,
            too_slow: few(fanout.overflowed),
        });
        self.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// What was handed over was written, as far as sockets took it.
    pub fn wrote(&self, node: &Node) {
        if self.unwritten.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = node.clock.now();
        let mut left = self.unwritten.swap(0, Ordering::Relaxed);
        self.told.touch_newest(|told| {
            left = left.saturating_sub(1);
            if told.written == Time::default() {
                told.written = now;
            }
            left > 0
        });
    }

    /// A connection read a stretch of a log.
    pub fn read(&self, link: &Link, key: &LogKey, (first, last): (u64, u64), at: Time) {
        if self.most > 0 {
            let (user, by) = (link.listener.user.clone(), By::link(link));
            self.pages.push(Page { key: key.clone(), first, last, at, user, by });
        }
    }

    /// A connection ended.
    pub fn ended(&self, link: &Link, at: Time) {
        if self.most > 0 {
            let user = SmallVec::from_slice(link.listener.user.as_str().as_bytes());
            self.ended.push(Ended { user, at, by: By::link(link) });
        }
    }

    /// These nodes are there.
    pub fn saw(&self, own: &NodeId, live: &[LiveNode], now: Time) {
        self.gone.saw(own, live, now);
    }
}

/// What is said of a code in logs and answers.
pub const fn word(code: RejectCode) -> &'static str {
    crate::metrics::word(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page of options says of memory.
    #[test]
    fn a_message_is_remembered_in_about_650_bytes() {
        let share = size_of::<Refused>() + size_of::<Page>() + size_of::<Ended>();
        let each = size_of::<Told>() + size_of::<Sent>() + share / SHARE;
        // The ids that a send names are its own: about 140 bytes more.
        assert!(each <= 510, "{each} bytes");
    }
}
