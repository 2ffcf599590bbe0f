//! A connection without a transport: what a session does for a client whose bytes nobody carries.
//!
//! Owns: the order of admission, joining and farewell, as in `run`. Must not know: sockets, frames, codecs. For
//! simulations, which take what is told from the listener's outbox and call commands themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parlance_backplane::Fault;
use parlance_hub::Notice;
use parlance_model::{Channel, Identity, Reject, Topic};

use super::admission::{self, Port};
use super::link::Link;
use super::{attach, run, work};
use crate::config::Mount;
use crate::node::Node;
use crate::trace::Parent;

/// An authenticated connection.
pub struct Bare {
    node: Arc<Node>,
    link: Arc<Link>,
    heart: Arc<AtomicU64>,
}

impl Bare {
    /// Lets a connection in, as a raw mount does.
    ///
    /// # Errors
    /// As [`super::admit`].
    pub async fn open(node: &Arc<Node>, mount: &Arc<Mount>, identity: Arc<Identity>) -> Result<Self, Reject> {
        let heart = Arc::new(AtomicU64::new(node.clock.now().millis()));
        let port = Port { outbox: run::outbox(node), heart: heart.clone(), parent: Parent::default() };
        let link = admission::open(node, mount, identity, &port).await?;
        Ok(Self { node: node.clone(), link, heart })
    }

    /// Joins what the dialect implies, for as long as that takes. What is read from logs waits for room in the outbox: take
    /// from it meanwhile.
    ///
    /// # Errors
    /// The backplane's fault, unless that is worth another attempt; a session closes then.
    pub async fn attach(&self) -> Result<(), Fault> {
        work::join_everything(&self.node, &self.link).await
    }

    /// The connection as the rest of the node sees it.
    pub const fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// A byte came.
    pub fn heard(&self) {
        self.heart.store(self.node.clock.now().millis(), Ordering::Relaxed);
    }

    /// Does what the hub left notices of. `false`: the connection is to be closed.
    ///
    /// # Errors
    /// The backplane's fault; a session closes then.
    pub async fn tend(&self) -> Result<bool, Fault> {
        while let Some(notice) = self.link.listener.next_notice() {
            match notice {
                Notice::Invited { conversation, since } => {
                    attach::invited(&self.node, &self.link, conversation, since).await?;
                }
                Notice::Removed(conversation) => {
                    let topic = Topic::Conversation(conversation.clone());
                    // Unless removed and taken in again before this was read.
                    if !self.node.hub.is_in(&topic, self.link.listener.number) {
                        self.link.remove_channel(&Channel::Conversation(conversation.clone()));
                        self.link.left(&topic);
                        attach::removed(&self.node, &self.link, conversation).await?;
                    }
                }
                Notice::Revoked | Notice::Close { .. } => return Ok(false),
            }
        }
        Ok(!self.link.listener.outbox.is_overflown())
    }

    /// Gives everything back.
    pub async fn close(&self) {
        admission::close(&self.node, &self.link).await;
    }
}
