//! Publish and subscribe inside one process: bounded inboxes, one per attached node.
//!
//! Owns: who hears what, and saying so when an inbox overflowed. Must not know: where publications come from.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_model::{NodeId, Topic};
use tokio::sync::mpsc;

use super::Node;
use crate::{Bus, Delivery, Fault, Inbox, Publication, Signal};

/// The attached nodes.
#[derive(Default)]
pub struct Hub {
    // Ordered: what is published at one time reaches the nodes in one order always.
    nodes: Mutex<BTreeMap<NodeId, Subscriber>>,
}

struct Subscriber {
    topics: HashSet<Topic>,
    inbox: mpsc::Sender<Delivery>,
    /// The newest thing in the inbox is `Lost`: until there is room, dropping more needs no second word.
    lost: bool,
}

impl Subscriber {
    /// `false` when nobody reads the inbox any more.
    fn deliver(&mut self, topic: &Topic, publication: &Publication) -> bool {
        // The last place is kept for `Lost`, so that it never has to wait for a later publication.
        match self.inbox.capacity() {
            0 | 1 if self.lost => !self.inbox.is_closed(),
            0 | 1 => {
                self.lost = true;
                self.inbox.try_send(Delivery::Lost).is_ok() || !self.inbox.is_closed()
            }
            _ => {
                self.lost = false;
                self.inbox.try_send(Delivery::Published(topic.clone(), publication.clone())).is_ok()
            }
        }
    }
}

impl Hub {
    /// Adds a node with an inbox of `capacity` publications; one of the same name is replaced.
    pub fn attach(&self, node: NodeId, capacity: usize) -> Inbox {
        let (inbox, receiver) = mpsc::channel(capacity.max(2) + 1);
        self.nodes.lock().insert(node, Subscriber { topics: HashSet::new(), inbox, lost: false });
        receiver
    }

    /// Delivers to every subscribed inbox. Publications of one caller keep their order.
    pub fn publish(&self, topic: Topic, publication: Publication) {
        self.nodes
            .lock()
            .retain(|_, node| !node.topics.contains(&topic) || node.deliver(&topic, &publication));
    }
}

#[async_trait]
impl Bus for Node {
    async fn subscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        let mut nodes = self.engine.hub.nodes.lock();
        let gone = || Fault::Unavailable("this node is not attached any more".to_owned());
        let node = nodes.get_mut(&self.id).ok_or_else(gone)?;
        node.topics.extend(topics.iter().cloned());
        Ok(())
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        if let Some(node) = self.engine.hub.nodes.lock().get_mut(&self.id) {
            for topic in topics {
                node.topics.remove(topic);
            }
        }
        Ok(())
    }

    async fn signal(&self, topic: &Topic, signal: Signal) -> Result<(), Fault> {
        self.engine.hub.publish(topic.clone(), Publication::Signal(signal));
        Ok(())
    }

    fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().take()
    }
}
