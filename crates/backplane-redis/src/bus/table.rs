//! What one connection is subscribed to, and what it should be.
//!
//! Owns: which commands make the one the other, and what their answers mean. A channel has at most one command under
//! way, and commands are answered in their order: so a subscription that ends unasked is told from one that was ended.
//! Must not know: sockets, time, other connections, why a channel is wanted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

/// A channel's name.
pub type Channel = Arc<str>;

/// Channels per command: one after the other is slow, and a very long command holds up the server.
const BATCH: usize = 50;
/// Commands under way; more are sent when these are answered.
const UNDER_WAY: usize = 64;

/// What a command says about its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Subscribe to them.
    Subscribe,
    /// End the subscriptions.
    Unsubscribe,
}

/// A command: channels of one slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// What is said.
    pub verb: Verb,
    /// About which channels.
    pub channels: Vec<Channel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Subscribing,
    On,
    Unsubscribing,
}

struct Entry {
    slot: u16,
    wanted: bool,
    state: State,
}

impl Entry {
    const fn need(&self) -> Option<Verb> {
        match (self.wanted, self.state) {
            (true, State::Off) => Some(Verb::Subscribe),
            (false, State::On) => Some(Verb::Unsubscribe),
            _ => None,
        }
    }
}

/// The subscriptions of one connection.
#[derive(Default)]
pub struct Table {
    channels: FxHashMap<Channel, Entry>,
    /// Those that need a command, by slot.
    due: BTreeSet<(u16, Channel)>,
    /// What was sent and is not answered, with the channels that are left, in order.
    under_way: VecDeque<(Verb, FxHashSet<Channel>)>,
    /// Subscriptions that were refused, or ended unasked: they wait for [`Table::retry`].
    refused: Vec<Channel>,
}

impl Table {
    /// From now on a channel is wanted here.
    pub fn want(&mut self, channel: &Channel, slot: u16) {
        let fresh = Entry { slot, wanted: true, state: State::Off };
        self.channels.entry(channel.clone()).or_insert(fresh).wanted = true;
        self.look(channel);
    }

    /// From now on it is not.
    pub fn leave(&mut self, channel: &Channel) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.wanted = false;
            self.look(channel);
        }
    }

    /// Whether a subscription stands.
    pub fn is_on(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|entry| entry.wanted && entry.state == State::On)
    }

    /// Whether there is anything to send or to wait for.
    pub fn is_idle(&self) -> bool {
        self.due.is_empty() && self.under_way.is_empty() && self.refused.is_empty()
    }

    fn look(&mut self, channel: &Channel) {
        let Some(entry) = self.channels.get(channel) else { return };
        let place = (entry.slot, channel.clone());
        if entry.need().is_some() {
            self.due.insert(place);
        } else {
            self.due.remove(&place);
        }
        if !entry.wanted && entry.state == State::Off {
            self.channels.remove(channel);
        }
    }

    fn set(&mut self, channel: &Channel, state: State) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.state = state;
            self.look(channel);
        }
    }

    /// Whether nothing is wanted or subscribed here.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// What to send now.
    pub fn work(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        while self.under_way.len() < UNDER_WAY {
            let Some(slot) = self.due.first().map(|(slot, _)| *slot) else { break };
            let (mut on, mut off) = (Vec::new(), Vec::new());
            while on.len().max(off.len()) < BATCH && self.due.first().is_some_and(|(next, _)| *next == slot) {
                let Some((_, channel)) = self.due.pop_first() else { break };
                let Some(entry) = self.channels.get_mut(&channel) else { continue };
                match entry.need() {
                    Some(Verb::Subscribe) => {
                        entry.state = State::Subscribing;
                        on.push(channel);
                    }
                    Some(Verb::Unsubscribe) => {
                        entry.state = State::Unsubscribing;
                        off.push(channel);
                    }
                    None => {}
                }
            }
            for (verb, channels) in [(Verb::Subscribe, on), (Verb::Unsubscribe, off)] {
                if !channels.is_empty() {
                    self.under_way.push_back((verb, channels.iter().cloned().collect()));
                    commands.push(Command { verb, channels });
                }
            }
        }
        commands
    }

    /// Whether a push answers the oldest command.
    fn answers(&mut self, verb: Verb, channel: &str) -> Option<Channel> {
        let (_, left) = self.under_way.front_mut().filter(|(asked, _)| *asked == verb)?;
        let channel = left.take(channel)?;
        if left.is_empty() {
            self.under_way.pop_front();
        }
        Some(channel)
    }

    /// A subscription is confirmed; its channel, when it was asked for.
    pub fn subscribed(&mut self, channel: &str) -> Option<Channel> {
        let channel = self.answers(Verb::Subscribe, channel)?;
        self.set(&channel, State::On);
        Some(channel)
    }

    /// A subscription ended; the channel, when nobody had asked for that and it is wanted.
    pub fn unsubscribed(&mut self, channel: &str) -> Option<Channel> {
        if let Some(channel) = self.answers(Verb::Unsubscribe, channel) {
            self.set(&channel, State::Off);
            return None;
        }
        let (channel, entry) = self.channels.get_key_value(channel)?;
        let (channel, wanted) = (channel.clone(), entry.wanted);
        // On the way off the answer is still to come; on the way on it means the subscription before.
        if entry.state != State::On {
            return None;
        }
        self.set(&channel, State::Off);
        if !wanted {
            return None;
        }
        self.put_off(&channel);
        Some(channel)
    }

    fn put_off(&mut self, channel: &Channel) {
        if let Some(entry) = self.channels.get(channel) {
            self.due.remove(&(entry.slot, channel.clone()));
            self.refused.push(channel.clone());
        }
    }

    /// The oldest command was refused: its subscriptions wait for [`Self::retry`]. Whether there was one.
    pub fn refused(&mut self) -> bool {
        let Some((verb, channels)) = self.under_way.pop_front() else { return false };
        for channel in channels {
            // A server that refuses to end a subscription has ended it: it has the slot no more.
            self.set(&channel, State::Off);
            if verb == Verb::Subscribe {
                self.put_off(&channel);
            }
        }
        true
    }

    /// Whether [`Self::retry`] has anything to do.
    pub fn waits(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What was refused is due again.
    pub fn retry(&mut self) {
        for channel in std::mem::take(&mut self.refused) {
            self.look(&channel);
        }
    }

    /// The connection is gone; the subscriptions that stood on it and are wanted.
    pub fn interrupted(&mut self) -> Vec<Channel> {
        let stood = |entry: &Entry| entry.wanted && entry.state == State::On;
        let stood = self
            .channels
            .iter()
            .filter(|(_, entry)| stood(entry))
            .map(|(channel, _)| channel.clone())
            .collect();
        self.under_way.clear();
        self.refused.clear();
        self.channels.retain(|_, entry| entry.wanted);
        for entry in self.channels.values_mut() {
            entry.state = State::Off;
        }
        let all = self.channels.iter().map(|(channel, entry)| (entry.slot, channel.clone()));
        self.due = all.collect();
        stood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(table: &mut Table) -> Vec<(Verb, usize)> {
        table.work().iter().map(|command| (command.verb, command.channels.len())).collect()
    }

    #[test]
    fn one_command_at_a_time_follows_what_is_wanted() {
        let (mut table, a) = (Table::default(), Channel::from("a"));
        table.want(&a, 1);
        assert_eq!(sent(&mut table), [(Verb::Subscribe, 1)]);
        table.leave(&a);
        table.want(&a, 1);
        table.leave(&a);
        assert!(sent(&mut table).is_empty(), "the first answer is awaited");
        assert!(table.subscribed("a").is_some() && !table.is_on("a"));
        assert_eq!(sent(&mut table), [(Verb::Unsubscribe, 1)]);
        table.want(&a, 1);
        assert!(sent(&mut table).is_empty());
        assert_eq!(table.unsubscribed("a"), None, "it was asked for");
        assert_eq!(sent(&mut table), [(Verb::Subscribe, 1)]);
        assert!(table.subscribed("a").is_some() && table.is_on("a"));
        assert_eq!(table.unsubscribed("a"), Some(a.clone()), "it was not");
        assert!(sent(&mut table).is_empty(), "not before a moment has passed");
        table.retry();
        assert_eq!(sent(&mut table), [(Verb::Subscribe, 1)]);
        table.leave(&a);
        table.subscribed("a");
        table.work();
        table.unsubscribed("a");
        assert!(table.is_idle() && table.channels.is_empty());
    }

    #[test]
    fn commands_are_of_one_slot_and_of_fifty_channels_and_few_are_under_way() {
        let mut table = Table::default();
        for n in 0..10_000 {
            table.want(&Channel::from(format!("{n}")), n % 2);
        }
        let all = table.work();
        assert_eq!(all.len(), UNDER_WAY);
        assert!(all.iter().all(|command| command.channels.len() == BATCH));
        for channel in &all[0].channels {
            table.subscribed(channel);
        }
        assert_eq!(sent(&mut table), [(Verb::Subscribe, BATCH)]);
    }

    #[test]
    fn a_refusal_is_about_the_oldest_command() {
        let mut table = Table::default();
        let (a, b) = (Channel::from("a"), Channel::from("b"));
        table.want(&a, 1);
        table.want(&b, 2);
        assert_eq!(table.work().len(), 2);
        assert!(table.refused() && table.waits());
        assert!(table.subscribed("b").is_some());
        table.leave(&b);
        table.work();
        assert!(table.refused(), "it has ended that subscription with the slot");
        assert!(!table.refused(), "nothing is under way");
        assert_eq!(table.channels.len(), 1);
        assert!(table.interrupted().is_empty(), "none stood");
        assert_eq!(sent(&mut table), [(Verb::Subscribe, 1)]);
    }
}
