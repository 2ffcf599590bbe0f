//! Asking the log and every node what became of a message.
//!
//! Owns: who is asked, in which order, and saying what could not be found out. Must not know: HTTP, notes.

use std::sync::Arc;

use futures_util::future::join_all;
use parlance_backplane::{Fault, Find, MANY, NodeState, Range};
use parlance_model::{ConversationId, Entry, LogKey, MessageId, NodeId, Record, Time, UserId};

use super::answer::{AskedNode, Explanation, LogState, Logged, Part, Place, Question, Receipt, Receipts};
use super::search;
use crate::forward;
use crate::node::Node;

/// Recipients that each list names at most.
const NAMED: usize = 100;
/// A node that has been gone for longer is named only where the message is as old.
const LATELY_MS: u64 = 3_600_000;

/// What became of the message, command or call that goes by this id; `sender`: whose own id it is, where that is known.
pub async fn explain(node: &Arc<Node>, id: String, sender: Option<UserId>) -> Explanation {
    let mut inquiry = Inquiry { node, missing: Vec::new(), parts: Vec::new(), asked: Vec::new() };
    let mut place = inquiry.find(&id, sender).await;
    let live = inquiry.live().await;
    let question = |id, place: Option<&(LogKey, u64)>| Question {
        id,
        place: place.map(|(key, seq)| Place::new(key, *seq)),
    };
    inquiry.ask(&live, question(Some(id.clone()), place.as_ref())).await;
    if place.is_none() {
        place = inquiry.accepted_at();
        if place.is_some() {
            // What the log says of it was not known before; which nodes answer was.
            inquiry.asked.clear();
            inquiry.ask(&live, question(None, place.as_ref())).await;
        }
    }
    let logged = match &place {
        Some((key, seq)) => inquiry.logged(key, *seq).await,
        None => None,
    };
    let receipts = match (&place, &logged) {
        (Some((LogKey::Conversation(conversation), seq)), Some(logged)) => {
            inquiry.receipts(conversation, *seq, logged.sender.as_deref()).await
        }
        _ => None,
    };
    inquiry.name_the_gone(&live, logged.as_ref());
    inquiry.assemble(id, logged, receipts)
}

struct Inquiry<'a> {
    node: &'a Arc<Node>,
    missing: Vec<String>,
    parts: Vec<Part>,
    asked: Vec<AskedNode>,
}

impl Inquiry<'_> {
    /// Whatever cannot be found out now is said, and the rest is told all the same.
    fn there<T>(&mut self, what: &str, answer: Result<T, Fault>) -> Option<T> {
        answer.map_err(|fault| self.missing.push(format!("{what}: {fault}"))).ok()
    }

    async fn find(&mut self, id: &str, sender: Option<UserId>) -> Option<(LogKey, u64)> {
        let log = &self.node.backplane.log;
        if let Some(id) = MessageId::from_any(id) {
            let found = log.find(Find::Id(id)).await;
            if let Some(found) = self.there("finding the message in the log", found)? {
                return Some(found);
            }
        }
        let what = Find::ClientId { author: sender?, id: id.into(), conversation: None };
        let found = self.node.backplane.log.find(what).await;
        self.there("finding the sender's id in the log", found)?
    }

    /// The nodes of the cluster, this one left out.
    async fn live(&mut self) -> Vec<Arc<NodeState>> {
        let live = self.node.backplane.nodes.live().await;
        let live = self.there("listing the nodes", live);
        let listed = live.map(|live| live.into_iter().map(|node| Arc::new(node.state)).collect());
        let mut nodes: Vec<Arc<NodeState>> = listed.unwrap_or_default();
        // Those that went a moment ago are still known here, and are to be named.
        for state in self.node.forward.roster.all() {
            if !nodes.iter().any(|node| node.id == state.id) {
                nodes.push(state);
            }
        }
        nodes.retain(|node| node.id != self.node.id);
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    async fn ask(&mut self, live: &[Arc<NodeState>], question: Question) {
        let own = search::own(self.node, &question);
        self.asked.push(AskedNode {
            id: self.node.id.to_string(),
            address: forward::state(self.node).address,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            answered: true,
            why: forgetful(&own),
            remembers_since: own.since.clone(),
        });
        self.parts.push(own);
        let answers = join_all(live.iter().map(|other| forward::ask(self.node, other, &question))).await;
        for (other, answer) in live.iter().zip(answers) {
            let (why, since) = match &answer {
                Ok(part) => (forgetful(part), part.since.clone()),
                Err(why) => (Some(why.clone()), None),
            };
            self.asked.push(AskedNode {
                id: other.id.to_string(),
                address: other.address.clone(),
                version: other.version.clone(),
                answered: answer.is_ok(),
                why,
                remembers_since: since,
            });
            self.parts.extend(answer);
        }
    }

    /// Where a message lies that a node accepted under a client's own id.
    fn accepted_at(&self) -> Option<(LogKey, u64)> {
        let accepted = self.parts.iter().flat_map(|part| &part.accepted);
        let newest = accepted.max_by(|a, b| a.logged_at.cmp(&b.logged_at))?;
        Some((newest.place.key()?, newest.place.seq))
    }

    async fn logged(&mut self, key: &LogKey, seq: u64) -> Option<Logged> {
        let range = Range::After { seq: seq.saturating_sub(1), limit: 1 };
        let page = self.node.backplane.log.range(key, range).await;
        let page = self.there("reading the log", page)?;
        let entry = page.entries.first().filter(|entry| entry.seq == seq);
        let bare = Logged {
            place: Place::new(key, seq),
            state: if seq < page.first && page.head > 0 { LogState::Expired } else { LogState::Gone },
            message_id: None,
            kind: None,
            sender: None,
            client_id: None,
            at: None,
            head: page.head,
        };
        Some(entry.map_or_else(|| bare.clone(), |entry| of_entry(bare.clone(), entry)))
    }

    async fn receipts(
        &mut self,
        conversation: &ConversationId,
        seq: u64,
        sender: Option<&str>,
    ) -> Option<Receipts> {
        let cursors = self.node.backplane.cursors.cursors(conversation).await;
        let (_, cursors) = self.there("reading the receipts", cursors)?;
        let outline = self.node.backplane.members.outline(conversation).await;
        let outline = self.there("reading the members", outline)?;
        let others = || cursors.iter().filter(|cursor| Some(cursor.user.as_str()) != sender);
        let receipt = |user: &UserId, up_to: u64, at: Option<Time>| Receipt {
            user: user.to_string(),
            last_read_at: at.map(Time::to_iso),
            up_to,
        };
        let read = others().filter(|cursor| cursor.read >= seq);
        let mut read: Vec<_> = read.map(|c| receipt(&c.user, c.read, Some(c.read_at))).collect();
        let only = others().filter(|cursor| cursor.read < seq && cursor.delivered >= seq);
        let mut delivered: Vec<_> = only.map(|c| receipt(&c.user, c.delivered, None)).collect();
        let spoken = |user: &UserId| others().any(|c| c.user == *user && c.delivered >= seq);
        let members = outline.filter(|outline| !outline.many).map(|outline| outline.conversation.members);
        let mut none = members.map(|members| {
            // Whoever came later was never meant.
            let meant = members.into_iter().filter(|m| m.joined_seq < seq && Some(m.user.as_str()) != sender);
            let silent = meant.filter(|member| !spoken(&member.user));
            silent.map(|member| member.user.to_string()).take(MANY).collect::<Vec<_>>()
        });
        let long = read.len().saturating_sub(NAMED) + delivered.len().saturating_sub(NAMED);
        let left_out = long + none.as_ref().map_or(0, |none| none.len().saturating_sub(NAMED));
        read.truncate(NAMED);
        delivered.truncate(NAMED);
        if let Some(none) = &mut none {
            none.truncate(NAMED);
        }
        Some(Receipts { read, delivered, none, left_out })
    }

    /// Nodes that may have had a part in it, and are no more.
    fn name_the_gone(&mut self, live: &[Arc<NodeState>], logged: Option<&Logged>) {
        let there: Vec<NodeId> = live.iter().map(|node| node.id.clone()).collect();
        let at = logged.and_then(|logged| logged.at.as_deref()).and_then(Time::parse_iso);
        let now = self.node.clock.now();
        for seen in self.node.journal.gone.but(&there) {
            let had_part = match at {
                Some(at) => seen.last >= at,
                None => seen.last.millis() + LATELY_MS >= now.millis(),
            };
            if had_part {
                let how = if seen.leaving { "it stopped" } else { "it is gone" };
                let why =
                    format!("{how}, last heard of at {}; what it remembered is lost", seen.last.to_iso());
                self.asked.push(AskedNode {
                    id: seen.id.to_string(),
                    address: seen.address,
                    version: seen.version,
                    answered: false,
                    why: Some(why),
                    remembers_since: None,
                });
            }
        }
    }

    fn assemble(self, id: String, logged: Option<Logged>, receipts: Option<Receipts>) -> Explanation {
        let (mut accepted, mut refused, mut delivered) = (Vec::new(), Vec::new(), Vec::new());
        let (mut caught_up, mut present) = (Vec::new(), Vec::new());
        for part in self.parts {
            accepted.extend(part.accepted);
            refused.extend(part.refused);
            delivered.extend(part.delivered);
            caught_up.extend(part.caught_up);
            present.extend(part.present);
        }
        // By time; the two rounds may have found the same.
        accepted.sort_by(|a, b| (&a.received_at, &a.node).cmp(&(&b.received_at, &b.node)));
        accepted.dedup();
        refused.sort_by(|a, b| a.at.cmp(&b.at));
        delivered.sort_by(|a, b| a.heard_at.cmp(&b.heard_at));
        caught_up.sort_by(|a, b| a.at.cmp(&b.at));
        let found = logged.is_some() || !accepted.is_empty() || !refused.is_empty();
        let (nodes, missing) = (self.asked, self.missing);
        Explanation {
            id,
            found,
            accepted,
            refused,
            logged,
            delivered,
            caught_up,
            receipts,
            present,
            nodes,
            missing,
        }
    }
}

/// What is to be said of a node that notes nothing.
fn forgetful(part: &Part) -> Option<String> {
    (!part.remembers).then(|| "it remembers nothing: log.journal is 0".to_owned())
}

fn of_entry(bare: Logged, entry: &Entry) -> Logged {
    let (kind, sender, client_id) = match &entry.record {
        Record::Message(message) => ("message", Some(&message.author.id), message.client_id.as_deref()),
        Record::Reaction { author, .. } => ("reaction", Some(&author.id), None),
        Record::App { .. } => ("app", None, None),
        _ => ("other", None, None),
    };
    Logged {
        state: LogState::Kept,
        message_id: Some(entry.id.to_opaque(entry.at.seconds32())),
        kind: Some(kind.to_owned()),
        sender: sender.map(ToString::to_string),
        client_id: client_id.map(str::to_owned),
        at: Some(entry.at.to_iso()),
        ..bare
    }
}
