//! Opening topics: subscribing, and finding out where they stand.
//!
//! Owns: who waits for which topic. Must not know: what is done with what is heard.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use parlance_backplane::{Fault, Place};
use parlance_model::{ConversationId, Cursor, LogKey, Topic, delivery::Marks};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::job::Todo;
use super::track::Track;
use super::{Feed, Open, Outcome, Slot, room};
use crate::node::Node;

/// Where topics stand that were asked for together, or why that is not known.
pub(super) type Opened = Vec<(Topic, Result<Box<Track>, Fault>)>;

/// A request whose topics are not all open yet.
struct Request {
    left: usize,
    failed: Vec<(Topic, Fault)>,
    done: oneshot::Sender<Vec<(Topic, Fault)>>,
}

/// Requests that wait.
#[derive(Default)]
pub(super) struct Waiting {
    last: u64,
    requests: FxHashMap<u64, Request>,
}

impl Waiting {
    fn arrived(&mut self, id: u64, topic: &Topic, fault: Option<&Fault>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.left -= 1;
        request.failed.extend(fault.map(|fault| (topic.clone(), fault.clone())));
        if request.left == 0
            && let Some(request) = self.requests.remove(&id)
        {
            // A session that went away no longer waits for the answer.
            let _ = request.done.send(request.failed);
        }
    }
}

impl Feed {
    pub(super) fn open(&mut self, open: Open) {
        let Open { mut topics, heard, done } = open;
        topics.sort_unstable();
        topics.dedup();
        self.waiting.last += 1;
        let id = self.waiting.last;
        let (mut fresh, mut left) = (Vec::new(), 0);
        let mut told = Vec::new();
        for topic in topics {
            let slot = self.open.entry(topic.clone()).or_insert_with(|| {
                fresh.push(topic.clone());
                Slot { opening: true, ..Slot::default() }
            });
            slot.idle = false;
            if slot.opening {
                slot.waiting.push(id);
                left += 1;
            } else if slot.track.as_ref().is_none_or(|track| track.present.is_none())
                && room::is_told(&self.node.hub, &topic)
            {
                // Opened when nobody there was told who is present; what is being done for it does not say.
                slot.push(Todo::Rooms { sure: false });
                told.push(topic);
            }
        }
        for topic in told {
            self.work(&topic);
        }
        if left == 0 {
            let _ = done.send(Vec::new());
            return;
        }
        self.waiting.requests.insert(id, Request { left, failed: Vec::new(), done });
        if !fresh.is_empty() {
            // Of those that are being opened for somebody else it is not known how far that is.
            let heard = heard.filter(|_| fresh.len() == left);
            self.under_way.push(stand(self.node.clone(), fresh, heard).map(Outcome::Opened).boxed());
        }
    }

    pub(super) fn opened(&mut self, opened: Opened) {
        for (topic, result) in opened {
            let Some(slot) = self.open.get_mut(&topic) else { continue };
            slot.opening = false;
            let waiting = std::mem::take(&mut slot.waiting);
            let fault = match result {
                Ok(track) => {
                    let group = track.key.as_ref().and_then(|key| self.node.backplane.fences.group(key));
                    let empty = track.seq == 0;
                    self.node.hub.set_last(&topic, track.seq);
                    self.node.hub.set_number(&topic, track.number);
                    slot.track = Some(track);
                    slot.look = self.checks.opened(slot.look, group, empty);
                    self.known.opened(&topic);
                    if room::is_told(&self.node.hub, &topic) {
                        slot.push(Todo::Rooms { sure: false });
                    }
                    self.work(&topic);
                    None
                }
                Err(fault) => {
                    self.open.remove(&topic);
                    self.stray.push(topic.clone());
                    Some(fault)
                }
            };
            for id in waiting {
                self.waiting.arrived(id, &topic, fault.as_ref());
            }
        }
    }
}

/// Subscribes and reads where the topics stand.
async fn stand(node: Arc<Node>, topics: Vec<Topic>, heard: Option<oneshot::Sender<()>>) -> Opened {
    // Subscribe first, read the log second: whatever is appended in between is published to us.
    // Each for itself: a part of the engine that is away takes no others with it.
    let each = topics.iter().map(|topic| node.backplane.bus.subscribe(std::slice::from_ref(topic)));
    let subscribed = join_all(each).await;
    let (mut opened, mut there) = (Opened::new(), Vec::new());
    for (topic, subscribed) in topics.into_iter().zip(subscribed) {
        match subscribed {
            Ok(()) => there.push(topic),
            Err(fault) => opened.push((topic, Err(fault))),
        }
    }
    if let Some(heard) = heard.filter(|_| opened.is_empty()) {
        // Whoever went away no longer waits for it.
        let _gone = heard.send(());
    }
    let places = place(&node, &there).await;
    opened.extend(there.into_iter().zip(places).map(|(topic, place)| (topic, place.map(Box::new))));
    opened
}

/// Where topics stand now: two questions about all of them, put at once.
async fn place(node: &Node, topics: &[Topic]) -> Vec<Result<Track, Fault>> {
    let logs: Vec<LogKey> = topics.iter().filter_map(LogKey::of_topic).collect();
    let of_conversation =
        |key: &LogKey| if let LogKey::Conversation(id) = key { Some(id.clone()) } else { None };
    let conversations: Vec<ConversationId> = logs.iter().filter_map(of_conversation).collect();
    let backplane = &node.backplane;
    let (heads, sets) =
        futures_util::join!(backplane.fences.heads(&logs), backplane.cursors.standing(&conversations));
    let (mut heads, mut sets) = (heads.into_iter(), sets.into_iter());
    let missing = || Fault::Corrupt("the backplane does not say where a log stands".to_owned());
    let mut track = |topic: &Topic| {
        let Some(key) = LogKey::of_topic(topic) else { return Ok(Track::new(None, 0)) };
        let head = heads.next().ok_or_else(missing)?;
        let of_conversation = matches!(key, LogKey::Conversation(_));
        let set = if of_conversation { sets.next().ok_or_else(missing)?.map(Some) } else { Ok(None) };
        let mut track = Track::new(Some(key), 0);
        if let Some(set) = set? {
            (track.number, track.cursor_version) = (set.number, set.version);
            let marks = |c: Cursor| (c.user, Marks { delivered: c.delivered, read: c.read });
            track.marks = set.cursors.into_iter().map(marks).collect();
        }
        match head? {
            Place::Nothing { epoch } => track.epoch = epoch,
            Place::Log(head) | Place::Lost(head) | Place::Deleted(head) => track.begin_at(head),
        }
        Ok(track)
    };
    topics.iter().map(&mut track).collect()
}
