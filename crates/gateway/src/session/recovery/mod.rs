//! Socket.IO's connection state recovery: what a connection was inside of and which log events went out to
//! it, in order, so that a client that names the last one it got is given exactly the rest.
//!
//! Owns: what a session is and how an offset moves it. Must not know: packets, where sessions are kept (`kept`).

mod kept;

use std::collections::VecDeque;

use parlance_backplane::{Membership, Seen as Lost};
use parlance_model::{ConversationId, LogKey, Role, UserId};
use parlance_wire::{Accent, Offset};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

pub(super) use kept::{Begun, Seen, begin, end, forget, look, save, save_last};

use super::told::Told;

/// Events remembered beyond what surely arrived. A client that names an older one is told the truth: not
/// recovered.
const REMEMBERED: usize = 512;
/// So many of them are kept for the case that the node dies.
const KEPT: usize = 128;

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
    /// What the client named when the session began. It is of an earlier session, and a client goes on naming it
    /// until it has got an event of this one.
    before: Option<(u32, u64)>,
    /// Kept by a connection that ended: nothing was sent beyond it.
    whole: bool,
    /// The accent the client settled on, by its place in the list of all: it does not say it again.
    #[serde(default)]
    accent: Option<u8>,
    /// The cursor versions whose receipts were surely told (lingochat).
    #[serde(default)]
    pub(super) told: Told,
    /// How many of `sent` went out before the last ping.
    #[serde(skip)]
    pinged: usize,
    /// What it is inside of changed since it was kept last.
    #[serde(skip)]
    moved: bool,
    /// It was begun on an earlier connection.
    #[serde(skip)]
    goes_on: bool,
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

/// Whose a session is.
struct Owner<'a> {
    user: &'a UserId,
    mount: &'a str,
}

impl Recovery {
    fn new(owner: &Owner<'_>, before: Option<Offset>) -> Self {
        Self {
            pid: fresh_id(),
            sid: fresh_id(),
            user: owner.user.to_string(),
            mount: owner.mount.to_owned(),
            places: FxHashMap::default(),
            sent: VecDeque::new(),
            settled: None,
            before: before.map(|o| (o.number, o.seq)),
            whole: false,
            accent: None,
            told: Told::new(),
            pinged: 0,
            moved: true,
            goes_on: false,
        }
    }

    fn is_of(&self, owner: &Owner<'_>) -> bool {
        self.user == owner.user.as_str() && self.mount == owner.mount
    }

    /// Whether what it is inside of changed since it was kept last.
    pub(super) const fn has_moved(&self) -> bool {
        self.moved
    }

    /// The connection hears a conversation after `seq`. One it heard before keeps its place.
    pub(super) fn joined(&mut self, number: u32, conversation: &ConversationId, role: Role, seq: u64) {
        let place = Place { conversation: conversation.to_string(), role: role_to(role), seq };
        let known = self.places.entry(number).or_insert_with(|| {
            self.moved = true;
            place
        });
        self.moved |= known.role != role_to(role);
        known.role = role_to(role);
    }

    /// The connection hears a conversation otherwise; `seq`: only what comes after it.
    pub(super) fn changed(&mut self, number: u32, role: Role, seq: Option<u64>) {
        if let Some(place) = self.places.get_mut(&number) {
            place.role = role_to(role);
            place.seq = place.seq.max(seq.unwrap_or_default());
            self.moved = true;
        }
    }

    /// The client settled on an accent.
    pub(super) fn spoke(&mut self, accent: Accent) {
        self.accent = u8::try_from(accent.index()).ok();
        self.moved = true;
    }

    /// The connection no longer hears a conversation.
    pub(super) fn left(&mut self, conversation: &ConversationId) {
        self.places.retain(|_, place| place.conversation != conversation.as_str());
        self.moved = true;
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
        self.settle(self.pinged);
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
        let last = last.filter(|o| *o != Offset::NONE).map(|o| (o.number, o.seq));
        match last.filter(|last| self.before != Some(*last)) {
            None if self.settled.is_some() => return None,
            None => {}
            Some(last) => match self.sent.iter().rposition(|sent| *sent == last) {
                Some(index) => self.settle(index + 1),
                None if self.settled == Some(last) => {}
                None if self.whole => return None,
                None => self.outlive(last)?,
            },
        }
        self.sent.clear();
        self.pinged = 0;
        self.moved = true;
        self.whole = false;
        self.goes_on = true;
        Some(self)
    }

    /// What was kept is older than what the client got: its node died. That conversation goes on from the event;
    /// of the others what came since may be told again.
    fn outlive(&mut self, (number, seq): (u32, u64)) -> Option<()> {
        self.settle(self.sent.len());
        let place = self.places.get_mut(&number).filter(|place| seq > place.seq)?;
        place.seq = seq;
        self.settled = Some((number, seq));
        Some(())
    }

    /// Where every conversation stands.
    fn standing(&self) -> Vec<(ConversationId, u64)> {
        let place = |place: &Place| Some((ConversationId::parse(&place.conversation).ok()?, place.seq));
        self.places.values().filter_map(place).collect()
    }

    /// Whether it was begun on an earlier connection.
    pub(super) const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// How and from where on a conversation is heard.
    pub(super) fn place(&self, number: u32) -> Option<(Role, u64)> {
        self.places.get(&number).map(|place| (role_of(place.role), place.seq))
    }

    /// Forgets the conversations the user is no longer in.
    pub(super) fn keep(&mut self, mine: &[Membership]) {
        let mine: FxHashSet<u32> = mine.iter().map(|m| m.number).collect();
        self.places.retain(|number, _| mine.contains(number));
    }

    /// Whether the logs reach as far as the client got, and lost nothing since: a log that did cannot be gone on with.
    /// A conversation that the user came into again is heard from there on; if it was lost meanwhile, that is told there.
    /// `deaf`: how nothing of a log is heard.
    fn is_within(&self, memberships: &[Membership], deaf: impl Fn(Role) -> bool) -> bool {
        let within = |m: &Membership| match self.place(m.number) {
            Some((role, seq)) => {
                let again = seq < m.joined_seq;
                again || deaf(role) || (seq <= m.head.seq && seq + 1 >= m.head.since)
            }
            // Another number: it began anew. Was nothing noted of its first life, that was lost.
            None => {
                let known = |place: &Place| place.conversation == m.conversation.as_str();
                m.head.since > 1 || !self.places.values().any(known)
            }
        };
        memberships.iter().all(within)
    }

    /// Where the client surely was further than the logs are: they lost it. The numbers, too.
    fn beyond(&self, memberships: &[Membership]) -> Vec<(LogKey, Lost)> {
        let lost = |m: &Membership| {
            let (_, seq) = self.place(m.number).filter(|(_, seq)| *seq > m.head.seq)?;
            let seen = Lost { seq, at: None, epoch: 0, number: m.number, from: m.head.seq + 1 };
            Some((LogKey::Conversation(m.conversation.clone()), seen))
        };
        memberships.iter().filter_map(lost).collect()
    }

    /// The conversations that the user is in no more.
    fn elsewhere(&self, memberships: &[Membership]) -> Vec<LogKey> {
        let mine: FxHashSet<&str> = memberships.iter().map(|m| m.conversation.as_str()).collect();
        let places = self.places.values().filter(|place| !mine.contains(place.conversation.as_str()));
        let id = |place: &Place| ConversationId::parse(&place.conversation).ok().map(LogKey::Conversation);
        places.filter_map(id).collect()
    }

    /// As it is kept while the connection lives.
    fn checkpoint(&self) -> Self {
        let mut kept = self.clone();
        kept.settle(self.sent.len().saturating_sub(KEPT));
        kept
    }
}

const ID_CHARS: usize = 22;

/// A secret, or merely unique, id: 128 random bits in URL-safe characters.
pub(super) fn fresh_id() -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use parlance_model::Head;
    use parlance_model::delivery::Marks;

    use super::*;

    fn session() -> Recovery {
        let user = UserId::parse("u").unwrap();
        let mut session = Recovery::new(&Owner { user: &user, mount: "famly" }, Some(offset(1, 7)));
        session.whole = true;
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
        [session.place(1).unwrap().1, session.place(2).unwrap().1]
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
    fn only_after_a_crash_an_unknown_offset_corrects_what_was_kept() {
        let mut session = session();
        session.sent(offset(1, 11));
        assert_eq!(session.clone().at(Some(offset(2, 25))), None, "it was never sent");
        session.whole = false;
        let session = session.checkpoint();
        assert_eq!(places(&session.clone().at(Some(offset(2, 25))).unwrap()), [11, 25]);
        assert_eq!(places(&session.clone().at(Some(offset(1, 11))).unwrap()), [11, 20]);
        assert_eq!(session.clone().at(Some(offset(2, 5))), None);
        assert_eq!(session.at(Some(offset(3, 25))), None);
    }

    #[test]
    fn a_log_that_lost_something_is_not_gone_on_with() {
        let session = session();
        let membership = |number, name: &str, seq, since| Membership {
            conversation: id(name),
            number,
            joined_seq: 2,
            head: Head { seq, since, ..Head::default() },
            marks: Marks::default(),
        };
        for (membership, within) in [
            (membership(1, "a", 12, 1), true),
            (membership(1, "a", 10, 1), true),
            // Shorter than the client knows it; fenced since.
            (membership(1, "a", 9, 1), false),
            (membership(1, "a", 2000, 1500), false),
            (membership(1, "a", 2000, 11), true),
            // Another life of it, after a deletion; and one that knows of none before.
            (membership(7, "a", 30, 29), true),
            (membership(7, "a", 30, 1), false),
            (membership(7, "other", 30, 1), true),
            (Membership { joined_seq: 12, ..membership(1, "a", 14, 13) }, true),
        ] {
            assert_eq!(
                session.is_within(std::slice::from_ref(&membership), |_| false),
                within,
                "{membership:?}"
            );
        }
        assert!(session.is_within(&[membership(1, "a", 9, 1)], |_| true), "nothing of it is heard");
        let beyond = session.beyond(&[membership(1, "a", 9, 1), membership(2, "b", 20, 1)]);
        assert_eq!(beyond.iter().map(|(_, seen)| (seen.seq, seen.from)).collect::<Vec<_>>(), [(10, 10)]);
        assert_eq!(session.elsewhere(&[membership(1, "a", 10, 1)]), [LogKey::Conversation(id("b"))]);
    }

    #[test]
    fn an_offset_of_the_session_before_counts_as_none_until_an_event_arrived() {
        let mut session = session();
        assert_eq!(places(&session.clone().at(Some(offset(1, 7))).unwrap()), [10, 20]);
        session.sent(offset(1, 11));
        assert_eq!(places(&session.clone().at(Some(offset(1, 7))).unwrap()), [10, 20]);
        session.settle(1);
        assert_eq!(session.at(Some(offset(1, 7))), None);
    }

    #[test]
    fn a_checkpoint_is_small_and_refuses_what_it_leaves_out() {
        let mut session = session();
        for seq in 11..11 + REMEMBERED as u64 {
            session.sent(offset(1, seq));
        }
        session.whole = false;
        let kept = session.checkpoint();
        assert_eq!(kept.sent.len(), KEPT);
        assert_eq!(kept.clone().at(Some(offset(1, 12))), None);
        assert_eq!(places(&kept.at(Some(offset(1, 500))).unwrap()), [500, 20]);
    }
}
