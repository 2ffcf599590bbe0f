//! Opening topics: subscribing, and finding out where they stand.
//!
//! Owns: who waits for which topic. Must not know: what is done with what is heard.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use parlance_backplane::{Fault, Range};
use parlance_model::{LogKey, Topic, delivery::Marks};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::track::Track;
use super::{Feed, Open, Outcome, Slot};
use crate::node::Node;

/// Logs asked at once where they stand, per request.
const AT_ONCE: usize = 32;

/// Where topics stand that were asked for together, or why that is not known.
pub(super) type Opened = Vec<(Topic, Result<Box<Track>, Fault>)>;

/// A request whose topics are not all open yet.
struct Request {
    left: usize,
    fault: Option<Fault>,
    done: oneshot::Sender<Result<(), Fault>>,
}

/// Requests that wait.
#[derive(Default)]
pub(super) struct Waiting {
    last: u64,
    requests: FxHashMap<u64, Request>,
}

impl Waiting {
    fn arrived(&mut self, id: u64, fault: Option<&Fault>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.left -= 1;
        if request.fault.is_none() {
            request.fault = fault.cloned();
        }
        if request.left == 0
            && let Some(request) = self.requests.remove(&id)
        {
            // A session that went away no longer waits for the answer.
            let _ = request.done.send(request.fault.map_or(Ok(()), Err));
        }
    }
}

impl Feed {
    pub(super) fn open(&mut self, open: Open) {
        let Open { mut topics, done } = open;
        topics.sort_unstable();
        topics.dedup();
        self.waiting.last += 1;
        let id = self.waiting.last;
        let (mut fresh, mut left) = (Vec::new(), 0);
        for topic in topics {
            let slot = self.open.entry(topic.clone()).or_insert_with(|| {
                fresh.push(topic.clone());
                Slot { opening: true, ..Slot::default() }
            });
            slot.idle = false;
            if slot.opening {
                slot.waiting.push(id);
                left += 1;
            }
        }
        if left == 0 {
            let _ = done.send(Ok(()));
            return;
        }
        self.waiting.requests.insert(id, Request { left, fault: None, done });
        if !fresh.is_empty() {
            self.under_way.push(stand(self.node.clone(), fresh).map(Outcome::Opened).boxed());
        }
    }

    pub(super) fn opened(&mut self, opened: Opened) {
        for (topic, result) in opened {
            let Some(slot) = self.open.get_mut(&topic) else { continue };
            slot.opening = false;
            let waiting = std::mem::take(&mut slot.waiting);
            let fault = match result {
                Ok(track) => {
                    self.node.hub.set_last(&topic, track.seq);
                    self.node.hub.set_number(&topic, track.number);
                    slot.track = Some(*track);
                    self.work(&topic);
                    None
                }
                Err(fault) => {
                    self.open.remove(&topic);
                    self.stray.push(topic);
                    Some(fault)
                }
            };
            for id in waiting {
                self.waiting.arrived(id, fault.as_ref());
            }
        }
    }
}

/// Subscribes and reads where the topics stand.
async fn stand(node: Arc<Node>, topics: Vec<Topic>) -> Opened {
    // Subscribe first, read the log second: whatever is appended in between is published to us.
    if let Err(fault) = node.backplane.bus.subscribe(&topics).await {
        return topics.into_iter().map(|topic| (topic, Err(fault.clone()))).collect();
    }
    let node = &node;
    let read = |topic: Topic| async move {
        let track = start(node, &topic).await.map(Box::new);
        (topic, track)
    };
    stream::iter(topics).map(read).buffer_unordered(AT_ONCE).collect().await
}

/// Where a topic stands now.
async fn start(node: &Node, topic: &Topic) -> Result<Track, Fault> {
    let Some(key) = LogKey::of_topic(topic) else { return Ok(Track::new(None, 0)) };
    let backplane = &node.backplane;
    let mut track = Track::new(Some(key.clone()), 0);
    if let LogKey::Conversation(id) = &key {
        track.number = backplane.conversations.get(id).await?.map_or(0, |c| c.number());
        let (version, cursors) = backplane.cursors.cursors(id).await?;
        track.cursor_version = version;
        for c in cursors {
            track.marks.insert(c.user, Marks { delivered: c.delivered, read: c.read });
        }
    }
    let newest = backplane.log.range(&key, Range::Before { seq: u64::MAX, limit: 1 }).await?;
    track.epoch = newest.epoch;
    match newest.entries.last() {
        Some(entry) => track.advance(entry),
        None => track.seq = newest.head,
    }
    Ok(track)
}
