//! Finding something in this node's own notes.
//!
//! Owns: what of them is told. Must not know: other nodes, the log.

use parlance_model::{LogKey, Time, UserId};
use parlance_wire::Dialect;

use super::answer::{
    Acceptance, CaughtUp, Connection, Delivered, OfDialect, Part, Place, Present, Question, RefusedCommand,
};
use super::{By, Journal, Page, Refused, Sent, Told};
use crate::node::Node;

/// Of one kind of note at most so many are told.
const MOST: usize = 64;
/// Connections of a room that are told one by one.
const NAMED: usize = 16;

/// What this node knows.
pub fn own(node: &Node, question: &Question) -> Part {
    let journal = &node.journal;
    let place = question.place.as_ref().and_then(|place| Some((place.key()?, place.seq)));
    let search = Search { node, id: question.id.as_deref(), place: place.as_ref() };
    let oldest = [journal.sends.oldest(|note| note.received), journal.told.oldest(|note| note.heard)];
    let full = journal.sends.len() >= journal.most || journal.told.len() >= journal.most;
    Part {
        accepted: journal.sends.pick(MOST, |note| search.sent(note)),
        refused: journal.refusals.pick(MOST, |note| search.refused(note)),
        delivered: search.told(journal),
        caught_up: journal.pages.pick(MOST, |note| search.page(note)),
        present: search.present(),
        since: oldest.into_iter().flatten().max().filter(|_| full).map(Time::to_iso),
        remembers: journal.most > 0,
    }
}

struct Search<'a> {
    node: &'a Node,
    id: Option<&'a str>,
    place: Option<&'a (LogKey, u64)>,
}

impl Search<'_> {
    fn node(&self) -> String {
        self.node.id.to_string()
    }

    fn is_at(&self, key: &LogKey, seq: u64) -> bool {
        self.place.is_some_and(|(known, at)| *at == seq && known == key)
    }

    fn sent(&self, note: &Sent) -> Option<Acceptance> {
        let by_id = self.id.is_some() && note.client_id.as_deref() == self.id;
        let here = self.place.is_some_and(|(key, seq)| {
            *seq == note.seq && matches!(key, LogKey::Conversation(id) if *id == note.conversation)
        });
        (by_id || here).then(|| Acceptance {
            node: self.node(),
            message_id: note.id.to_opaque(note.at.seconds32()),
            place: Place::new(&LogKey::Conversation(note.conversation.clone()), note.seq),
            sender: note.sender.to_string(),
            client_id: note.client_id.as_deref().map(str::to_owned),
            connection: note.by.as_ref().map(|by| self.connection(by, Some(&note.sender))),
            received_at: note.received.to_iso(),
            logged_at: note.at.to_iso(),
            answered_at: note.answered.to_iso(),
            duplicate: !note.fresh,
        })
    }

    fn refused(&self, note: &Refused) -> Option<RefusedCommand> {
        let id = self.id?;
        let known = [note.correlation.as_deref(), note.client_id.as_deref()];
        known.contains(&Some(id)).then(|| RefusedCommand {
            node: self.node(),
            correlation_id: note.correlation.as_deref().map(str::to_owned),
            at: note.at.to_iso(),
            command: note.what.to_string(),
            code: note.code.to_string(),
            message: note.why.to_string(),
            client_id: note.client_id.as_deref().map(str::to_owned),
            conversation: note.conversation.as_ref().map(ToString::to_string),
            connection: note.by.as_ref().map(|by| self.connection(by, note.user.as_ref())),
        })
    }

    fn told(&self, journal: &Journal) -> Vec<Delivered> {
        // Copied under the lock, told after it: whoever delivers waits for the lock.
        let found = journal.told.pick(MOST, |note| {
            let Told { heard, told, written, sockets, reached, too_slow, .. } = *note;
            self.is_at(&note.key, note.seq).then_some(([heard, told, written], sockets, reached, too_slow))
        });
        let told = found.into_iter().map(|([heard, told, written], sockets, reached, too_slow)| Delivered {
            node: self.node(),
            heard_at: heard.to_iso(),
            queued_at: told.to_iso(),
            written_at: (written != Time::default()).then(|| written.to_iso()),
            sockets: sockets.iter().map(|count| u64::from(*count)).sum(),
            by_dialect: by_dialect(sockets),
            too_slow,
            connections: reached.named().iter().map(|number| self.numbered(*number)).collect(),
        });
        told.collect()
    }

    fn page(&self, note: &Page) -> Option<CaughtUp> {
        let (key, seq) = self.place?;
        let within = (note.first..=note.last).contains(seq) && note.key == *key;
        within.then(|| CaughtUp {
            node: self.node(),
            connection: self.connection(&note.by, Some(&note.user)),
            at: note.at.to_iso(),
        })
    }

    fn present(&self) -> Vec<Present> {
        let Some((key, _)) = self.place else { return Vec::new() };
        let (sockets, some) = self.node.hub.glance(&key.topic(), NAMED);
        if sockets == 0 {
            return Vec::new();
        }
        let connections = some.into_iter().map(|number| self.numbered(number)).collect();
        vec![Present { node: self.node(), sockets: sockets as u64, connections }]
    }

    fn connection(&self, by: &By, user: Option<&UserId>) -> Connection {
        Connection {
            id: (by.number > 0).then(|| format!("{}/{}", self.node.id, by.number)),
            user: user.map(ToString::to_string),
            dialect: Some(by.dialect.as_str().to_owned()),
            mount: Some(by.mount.name.clone()),
            ended_at: None,
        }
    }

    /// A connection of which only the number was noted: it is there, or it ended lately.
    fn numbered(&self, number: u64) -> Connection {
        if let Some(link) = self.node.links.get(&number).map(|link| link.clone()) {
            return self.connection(&By::link(&link), Some(&link.listener.user));
        }
        let find = |note: &super::Ended| {
            let user = || str::from_utf8(&note.user).ok().and_then(|user| UserId::parse(user).ok());
            (note.by.number == number).then(|| (user(), note.by.clone(), note.at))
        };
        match self.node.journal.ended.pick(1, find).pop() {
            Some((user, by, at)) => {
                Connection { ended_at: Some(at.to_iso()), ..self.connection(&by, user.as_ref()) }
            }
            None => Connection {
                id: Some(format!("{}/{number}", self.node.id)),
                user: None,
                dialect: None,
                mount: None,
                ended_at: None,
            },
        }
    }
}

fn by_dialect(sockets: [u32; Dialect::ALL.len()]) -> Vec<OfDialect> {
    let counted = Dialect::ALL.into_iter().zip(sockets);
    let some = counted.filter(|(_, sockets)| *sockets > 0);
    some.map(|(dialect, sockets)| OfDialect { dialect: dialect.as_str().to_owned(), sockets }).collect()
}
