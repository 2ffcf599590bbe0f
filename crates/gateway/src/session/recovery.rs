//! Socket.IO's connection state recovery: what a connection was inside of and which log events went out to
//! it, in order, so that a client that names the last one it got is given exactly the rest.
//!
//! Owns: the private session id's meaning and what is kept under it. Must not know: packets.

use std::collections::VecDeque;
use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_hub::Notice;
use parlance_model::{ConversationId, Role, UserId};
use parlance_wire::Offset;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::link::Link;
use crate::node::Node;

/// Events remembered beyond what surely arrived. A client that names an older one is told the truth: not
/// recovered.
const REMEMBERED: usize = 512;

/// One conversation of a session: how it is heard and up to where it surely arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    conversation: String,
    role: u8,
    seq: u64,
}

/// A session as it is kept. `sent` follows `places`: events handed out since, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// The private id.
    pid: String,
    /// The public id, which comes back too.
    sid: String,
    user: String,
    mount: String,
    /// By the conversation's integer id.
    places: FxHashMap<u32, Place>,
    sent: VecDeque<(u32, u64)>,
    /// The newest event that `places` includes; `None`: none was ever sent.
    settled: Option<(u32, u64)>,
    /// How many of `sent` went out before the last ping.
    #[serde(skip)]
    pinged: usize,
    /// Places changed since it was kept last.
    #[serde(skip)]
    dirty: bool,
    /// It was begun on an earlier connection.
    #[serde(skip)]
    goes_on: bool,
}

/// From where a recovered session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recovered {
    /// What is kept from here on.
    pub session: Box<Recovery>,
    /// The last event the client got.
    pub last: Offset,
}

const fn role_to(role: Role) -> u8 {
    match role {
        Role::Member => 0,
        Role::Joined => 1,
        Role::Group => 2,
    }
}

const fn role_of(number: u8) -> Role {
    match number {
        0 => Role::Member,
        2 => Role::Group,
        _ => Role::Joined,
    }
}

impl Recovery {
    /// A fresh session.
    pub(super) fn new(pid: String, sid: String, user: &UserId, mount: &str) -> Self {
        Self {
            pid,
            sid,
            user: user.to_string(),
            mount: mount.to_owned(),
            places: FxHashMap::default(),
            sent: VecDeque::new(),
            settled: None,
            pinged: 0,
            dirty: true,
            goes_on: false,
        }
    }

    /// The private id.
    pub(super) fn pid(&self) -> &str {
        &self.pid
    }

    /// Whether it changed since it was kept last.
    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The public id.
    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    /// The connection hears a conversation after `seq`. One it heard before keeps its place.
    pub(super) fn joined(&mut self, number: u32, conversation: &ConversationId, role: Role, seq: u64) {
        let place = Place { conversation: conversation.to_string(), role: role_to(role), seq };
        self.places.entry(number).or_insert(place).role = role_to(role);
        self.dirty = true;
    }

    /// The connection no longer hears a conversation.
    pub(super) fn left(&mut self, conversation: &ConversationId) {
        self.places.retain(|_, place| place.conversation != conversation.as_str());
        self.dirty = true;
    }

    /// A log event was handed to the transport.
    pub(super) fn sent(&mut self, offset: Offset) {
        if self.sent.len() >= REMEMBERED {
            self.settle(1);
        }
        self.sent.push_back((offset.number, offset.seq));
    }

    /// A ping follows everything handed out so far.
    pub(super) fn pinged(&mut self) {
        self.pinged = self.sent.len();
    }

    /// Its pong came: all before it has arrived.
    pub(super) fn ponged(&mut self) {
        let arrived = std::mem::take(&mut self.pinged);
        if arrived > 0 {
            self.settle(arrived);
            self.dirty = true;
        }
    }

    fn settle(&mut self, count: usize) {
        for (number, seq) in self.sent.drain(..count.min(self.sent.len())) {
            if let Some(place) = self.places.get_mut(&number) {
                place.seq = place.seq.max(seq);
            }
            self.settled = Some((number, seq));
        }
        self.pinged = self.pinged.saturating_sub(count);
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
    }

    /// Moves every place to where the client stands that got `last` last. `None`: that cannot be said.
    fn at(mut self, last: Option<Offset>) -> Option<Self> {
        match last.filter(|o| *o != Offset::NONE) {
            None if self.settled.is_some() => return None,
            None => {}
            Some(last) => {
                let last = (last.number, last.seq);
                match self.sent.iter().rposition(|sent| *sent == last) {
                    Some(index) => self.settle(index + 1),
                    None if self.settled == Some(last) => {}
                    None => return self.after_a_crash(last),
                }
            }
        }
        self.sent.clear();
        self.pinged = 0;
        self.dirty = true;
        self.goes_on = true;
        Some(self)
    }

    /// Whether it was begun on an earlier connection.
    pub(super) const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// What was kept is older than what the client got: its node died. That conversation goes on from the event;
    /// of the others what came since may be told again.
    fn after_a_crash(mut self, (number, seq): (u32, u64)) -> Option<Self> {
        let place = self.places.get_mut(&number).filter(|place| seq > place.seq && self.sent.is_empty())?;
        place.seq = seq;
        self.settled = Some((number, seq));
        self.dirty = true;
        self.goes_on = true;
        Some(self)
    }

    /// How and from where on a conversation is heard.
    pub(super) fn place(&self, conversation: &ConversationId) -> Option<(Role, u64)> {
        let place = self.places.values().find(|p| p.conversation == conversation.as_str())?;
        Some((role_of(place.role), place.seq))
    }

    /// Forgets the conversations the user is no longer in.
    pub(super) fn keep(&mut self, mine: impl Fn(&str) -> bool) {
        self.places.retain(|_, place| mine(&place.conversation));
    }
}

fn key(pid: &str) -> String {
    format!("recovery:{pid}")
}

/// Keeps what surely arrived, when it changed or `always`; twice the window, because it is kept again within
/// the window as long as the connection lives.
pub(super) async fn save(node: &Node, link: &Link, always: bool) -> Result<(), Fault> {
    let kept = {
        let mut guard = link.recovery();
        let Some(recovery) = guard.as_mut().filter(|r| r.dirty || always) else { return Ok(()) };
        recovery.dirty = false;
        // Light: what went out since the last pong is kept only when the connection ends.
        let kept = Recovery { sent: VecDeque::new(), ..(**recovery).clone() };
        (key(&recovery.pid), bytes(&kept)?)
    };
    node.backplane.shared.save(&kept.0, kept.1, Some(node.config.load().timings.recovery() * 2)).await
}

/// Keeps everything: the transport is gone, the client may come back.
pub(super) async fn save_last(node: &Node, link: &Link) -> Result<(), Fault> {
    let Some(recovery) = link.recovery().take() else { return Ok(()) };
    let window = node.config.load().timings.recovery();
    node.backplane.shared.save(&key(&recovery.pid), bytes(&recovery)?, Some(window)).await
}

/// The client said goodbye, or is not to come back.
pub(super) async fn forget(node: &Node, link: &Link) -> Result<(), Fault> {
    let Some(recovery) = link.recovery().take() else { return Ok(()) };
    node.backplane.shared.remove(&key(&recovery.pid)).await
}

fn bytes(recovery: &Recovery) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(recovery).map_err(|e| Fault::Corrupt(e.to_string()))
}

/// What a client asks to recover.
pub(super) struct Wanted<'a> {
    pub user: &'a UserId,
    pub mount: &'a str,
    pub pid: &'a str,
    /// The last event's offset as the client sent it.
    pub offset: Option<&'a str>,
}

/// Finds a session and takes it over. The user must be the one it belongs to. `None`: nothing to recover,
/// or nothing that could be recovered without a gap.
pub(super) async fn find(node: &Arc<Node>, wanted: &Wanted<'_>) -> Result<Option<Recovered>, Fault> {
    let last = match wanted.offset.map(Offset::parse) {
        // Some other string behind an event, or somebody's invention.
        Some(None) => return Ok(None),
        Some(Some(offset)) => Some(offset),
        None => None,
    };
    let mine = |r: &Recovery| r.user == wanted.user.as_str() && r.mount == wanted.mount;
    let session = match take_over(node, wanted.pid, mine) {
        Some(live) => Some(*live),
        None => load(node, wanted.pid).await?.filter(mine),
    };
    let at = session.and_then(|session| session.at(last));
    Ok(at.map(|session| Recovered { session: Box::new(session), last: last.unwrap_or(Offset::NONE) }))
}

/// The old connection may not have noticed yet that its transport is dead.
fn take_over(node: &Node, pid: &str, mine: impl Fn(&Recovery) -> bool) -> Option<Box<Recovery>> {
    let link = node.links.iter().find(|l| l.recovery().as_ref().is_some_and(|r| r.pid == pid && mine(r)))?;
    let taken = link.recovery().take();
    link.listener.notify(Notice::Close { code: 1000, reason: "the session goes on elsewhere".to_owned() });
    taken
}

async fn load(node: &Node, pid: &str) -> Result<Option<Recovery>, Fault> {
    let Some(bytes) = node.backplane.shared.load(&key(pid)).await? else { return Ok(None) };
    let read = serde_json::from_slice::<Recovery>(&bytes);
    // Unreadable is as good as absent.
    Ok(read.inspect_err(|error| tracing::warn!(%error, "a kept session is unreadable")).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Recovery {
        let mut session = Recovery::new("p".into(), "s".into(), &UserId::parse("u").unwrap(), "famly");
        session.joined(1, &id("a"), Role::Joined, 10);
        session.joined(2, &id("b"), Role::Member, 20);
        session
    }

    fn id(name: &str) -> ConversationId {
        ConversationId::parse(name).unwrap()
    }

    fn offset(number: u32, seq: u64) -> Offset {
        Offset { number, seq }
    }

    fn places(session: &Recovery) -> [u64; 2] {
        [session.place(&id("a")).unwrap().1, session.place(&id("b")).unwrap().1]
    }

    #[test]
    fn every_conversation_goes_on_from_where_the_last_event_stood_in_the_order_sent() {
        let mut session = session();
        for (number, seq) in [(1, 11), (2, 21), (1, 12), (2, 22), (1, 13)] {
            session.sent(offset(number, seq));
        }
        assert_eq!(places(&session.clone().at(Some(offset(1, 12))).unwrap()), [12, 21]);
        assert_eq!(places(&session.clone().at(Some(offset(1, 13))).unwrap()), [13, 22]);
        assert_eq!(places(&session.at(None).unwrap()), [10, 20], "no event reached the client");
    }

    #[test]
    fn what_a_pong_confirmed_is_not_told_again_and_older_offsets_are_refused() {
        let mut session = session();
        session.sent(offset(1, 11));
        session.sent(offset(2, 21));
        session.pinged();
        session.sent(offset(1, 12));
        session.ponged();
        assert_eq!(places(&session), [11, 21]);
        assert_eq!(places(&session.clone().at(Some(offset(2, 21))).unwrap()), [11, 21]);
        assert_eq!(session.clone().at(Some(offset(1, 11))), None, "the client went back in time");
        assert_eq!(session.clone().at(None), None);
        assert_eq!(session.at(Some(offset(9, 9))), None);
    }

    #[test]
    fn more_than_can_be_remembered_is_said_honestly() {
        let mut session = session();
        for seq in 11..=(11 + REMEMBERED as u64) {
            session.sent(offset(1, seq));
        }
        assert_eq!(session.clone().at(None), None);
        assert_eq!(places(&session.clone().at(Some(offset(1, 11))).unwrap()), [11, 20]);
        assert_eq!(places(&session.at(Some(offset(1, 200))).unwrap()), [200, 20]);
    }

    #[test]
    fn a_checkpoint_is_corrected_by_the_offset() {
        let session = session();
        assert_eq!(places(&session.clone().at(Some(offset(2, 25))).unwrap()), [10, 25]);
        assert_eq!(session.at(Some(offset(2, 5))), None);
    }
}
