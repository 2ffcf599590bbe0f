//! The subscriptions of a node: which are wanted, which are confirmed, who waits for them.
//!
//! Owns: what is sent after which order and what a push means. Must not know: sockets, time.

use std::collections::VecDeque;
use std::io;

use parlance_model::Topic;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::Outlet;
use super::connection::Push;
use crate::envelope;
use crate::keys::slot;

/// Channels per command: one after the other is slow, and a very long command holds up the server.
const BATCH: usize = 50;

/// Who waits for confirmations.
struct Ticket {
    left: usize,
    /// The caller; without one, everything that was subscribed is so again.
    caller: Option<oneshot::Sender<()>>,
}

/// The state of the subscriptions.
pub struct Desk {
    topics: FxHashMap<String, Topic>,
    /// By channel, one list of tickets for each subscription that was sent and not confirmed yet, in order.
    pending: FxHashMap<String, VecDeque<Vec<u64>>>,
    tickets: FxHashMap<u64, Ticket>,
    last_ticket: u64,
    outlet: Outlet,
    before: bool,
}

/// Channels by slot, in batches: one command may only name channels of one slot.
fn batches(mut channels: Vec<String>) -> Vec<Vec<String>> {
    channels.sort_by_cached_key(|channel| slot(channel));
    let of_slots = channels.chunk_by(|one, other| slot(one) == slot(other));
    of_slots.flat_map(|all| all.chunks(BATCH)).map(<[String]>::to_vec).collect()
}

impl Desk {
    /// No subscriptions.
    pub fn new(outlet: Outlet) -> Self {
        Self {
            topics: FxHashMap::default(),
            pending: FxHashMap::default(),
            tickets: FxHashMap::default(),
            last_ticket: 0,
            outlet,
            before: false,
        }
    }

    fn ticket(&mut self, caller: Option<oneshot::Sender<()>>) -> u64 {
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, Ticket { left: 1, caller });
        self.last_ticket
    }

    fn wait(&mut self, ticket: u64) {
        if let Some(ticket) = self.tickets.get_mut(&ticket) {
            ticket.left += 1;
        }
    }

    fn arrived(&mut self, ticket: u64) {
        let Some(waiting) = self.tickets.get_mut(&ticket) else { return };
        waiting.left -= 1;
        if waiting.left > 0 {
            return;
        }
        match self.tickets.remove(&ticket).and_then(|ticket| ticket.caller) {
            // A caller that gave up waiting is subscribed all the same.
            Some(caller) => drop(caller.send(())),
            None => self.outlet.lose(),
        }
    }

    /// A new connection: what to send. When all of it is confirmed `Lost` is said, unless it is the first one.
    pub fn resume(&mut self) -> Vec<Vec<String>> {
        let again = self.before.then(|| self.ticket(None));
        self.before = true;
        let channels: Vec<String> = self.topics.keys().cloned().collect();
        for channel in &channels {
            let waiting = self.pending.entry(channel.clone()).or_default();
            let mut tickets: Vec<u64> = waiting.drain(..).flatten().collect();
            tickets.extend(again);
            waiting.push_back(tickets);
            if let Some(again) = again {
                self.wait(again);
            }
        }
        if let Some(again) = again {
            self.arrived(again);
        }
        batches(channels)
    }

    /// The connection is gone. Whoever waits is served by the next one.
    pub fn interrupted(&mut self) {
        self.outlet.lose();
        let again: Vec<u64> =
            self.tickets.iter().filter(|(_, ticket)| ticket.caller.is_none()).map(|(id, _)| *id).collect();
        for id in again {
            self.tickets.remove(&id);
        }
        // Subscriptions that were ended before they were confirmed: nobody will confirm them.
        let ended: Vec<String> =
            self.pending.keys().filter(|channel| !self.topics.contains_key(*channel)).cloned().collect();
        for channel in ended {
            for ticket in self.pending.remove(&channel).into_iter().flatten().flatten() {
                self.arrived(ticket);
            }
        }
    }

    /// Wants channels; `done` is told when all of them are confirmed.
    pub fn subscribe(
        &mut self,
        channels: Vec<(String, Topic)>,
        done: oneshot::Sender<()>,
    ) -> Vec<Vec<String>> {
        let ticket = self.ticket(Some(done));
        let mut fresh = Vec::new();
        for (channel, topic) in channels {
            if self.topics.insert(channel.clone(), topic).is_none() {
                self.pending.entry(channel.clone()).or_default().push_back(vec![ticket]);
                self.wait(ticket);
                fresh.push(channel);
            } else if let Some(last) = self.pending.get_mut(&channel).and_then(VecDeque::back_mut) {
                last.push(ticket);
                self.wait(ticket);
            }
        }
        self.arrived(ticket);
        batches(fresh)
    }

    /// Wants channels no more.
    pub fn unsubscribe(&mut self, channels: Vec<String>) -> Vec<Vec<String>> {
        let known: Vec<String> =
            channels.into_iter().filter(|channel| self.topics.remove(channel).is_some()).collect();
        batches(known)
    }

    /// Takes what the server sent.
    ///
    /// # Errors
    /// When the server ended a subscription by itself: a new connection has to find where the channel is now.
    pub fn push(&mut self, push: &Push) -> io::Result<()> {
        match push {
            Push::Message { channel, payload } => {
                let Some(topic) = self.topics.get(channel) else { return Ok(()) };
                match envelope::publication(topic, payload) {
                    Ok(Some(publication)) => self.outlet.deliver(topic, publication),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "an unreadable publication was skipped"),
                }
            }
            Push::Subscribed(channel) => {
                let Some(waiting) = self.pending.get_mut(channel) else { return Ok(()) };
                let tickets = waiting.pop_front();
                if waiting.is_empty() {
                    self.pending.remove(channel);
                }
                for ticket in tickets.into_iter().flatten() {
                    self.arrived(ticket);
                }
            }
            Push::Unsubscribed(channel) => {
                if self.topics.contains_key(channel) && !self.pending.contains_key(channel) {
                    return Err(io::Error::other("the server ended a subscription"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parlance_backplane::{Delivery, Inbox};
    use tokio::sync::mpsc;

    use super::*;

    fn desk() -> (Desk, Inbox) {
        let (inbox, receiver) = mpsc::channel(8);
        (Desk::new(Outlet { inbox, lost: false }), receiver)
    }

    fn wanted(channel: &str) -> Vec<(String, Topic)> {
        vec![(channel.to_owned(), Topic::Nodes)]
    }

    fn confirm(desk: &mut Desk, channel: &str) {
        desk.push(&Push::Subscribed(channel.to_owned())).unwrap();
    }

    #[test]
    fn a_caller_is_told_when_its_own_subscription_is_confirmed() {
        let (mut desk, _inbox) = desk();
        assert!(desk.resume().is_empty());
        let (done, mut first) = oneshot::channel();
        assert_eq!(desk.subscribe(wanted("a"), done), [["a"]]);
        assert_eq!(desk.unsubscribe(vec!["a".to_owned()]), [["a"]]);
        let (done, mut second) = oneshot::channel();
        assert_eq!(desk.subscribe(wanted("a"), done), [["a"]]);
        let (done, mut third) = oneshot::channel();
        assert!(desk.subscribe(wanted("a"), done).is_empty(), "on the way already");
        confirm(&mut desk, "a");
        assert_eq!((first.try_recv().is_ok(), second.try_recv().is_ok()), (true, false));
        desk.push(&Push::Unsubscribed("a".to_owned())).unwrap();
        confirm(&mut desk, "a");
        assert!(second.try_recv().is_ok() && third.try_recv().is_ok());
        assert!(desk.push(&Push::Unsubscribed("a".to_owned())).is_err(), "nobody asked for that");
    }

    #[test]
    fn after_an_interruption_everything_is_subscribed_again_and_lost_is_said() {
        let (mut desk, mut inbox) = desk();
        desk.resume();
        let (done, mut told) = oneshot::channel();
        desk.subscribe(vec![("a".to_owned(), Topic::Nodes), ("b".to_owned(), Topic::Nodes)], done);
        confirm(&mut desk, "a");
        desk.interrupted();
        assert_eq!(inbox.try_recv(), Ok(Delivery::Lost));
        let mut again = desk.resume().concat();
        again.sort();
        assert_eq!(again, ["a", "b"]);
        confirm(&mut desk, "b");
        assert!(told.try_recv().is_ok());
        assert!(inbox.try_recv().is_err(), "not everything is back yet");
        confirm(&mut desk, "a");
        assert_eq!(inbox.try_recv(), Ok(Delivery::Lost));
        assert!(desk.tickets.is_empty() && desk.pending.is_empty());
    }
}
