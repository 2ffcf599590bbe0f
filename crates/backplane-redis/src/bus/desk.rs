//! The subscriptions of a node: which are wanted, at whom, who waits for them, where a gap is open.
//!
//! Owns: that a channel is subscribed at the owner of its slot, and at nobody else. A gap opens when a subscription
//! that stood stands no more, and closes when it stands again. Must not know: sockets, commands, the form of publications.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Publication;
use parlance_model::Topic;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outlet::Outlet;
use super::table::{Channel, Command, Table};
use crate::keys::slot;
use crate::topology::{Address, Layout};

/// A line of which something is wanted may confirm nothing for so long before it counts as deaf.
const GRACE: Duration = Duration::from_secs(3);

/// The number of a line: the connection to one primary, and those that follow it.
pub type LineId = u32;

/// What a line's task is given.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Its number.
    pub id: LineId,
    /// To whom.
    pub address: Address,
    /// Notified when there is something to send.
    pub wake: Arc<Notify>,
    /// Ends it.
    pub stop: CancellationToken,
}

struct Line {
    assignment: Assignment,
    table: Table,
    /// Channels of it with an open gap.
    gaps: usize,
    /// When something was confirmed last, or waited for after nothing was.
    moved: Instant,
}

impl Line {
    fn new(assignment: Assignment) -> Self {
        Self { assignment, table: Table::default(), gaps: 0, moved: Instant::now() }
    }

    fn want(&mut self, channel: &Channel, slot: u16) {
        if self.table.is_idle() {
            self.moved = Instant::now();
        }
        self.table.want(channel, slot);
        self.assignment.wake.notify_one();
    }

    /// Whether what is wanted of it arrives. Much is confirmed one after the other: only standing still counts.
    fn hears(&self) -> bool {
        self.gaps == 0 && (self.table.is_idle() || self.moved.elapsed() < GRACE)
    }
}

struct Wanted {
    topic: Topic,
    slot: u16,
    owner: Option<LineId>,
    waiting: Vec<u64>,
    gap: bool,
}

/// Who waits for confirmations.
struct Ticket {
    left: usize,
    caller: oneshot::Sender<()>,
}

/// The state of the subscriptions.
pub struct Desk {
    wanted: FxHashMap<Channel, Wanted>,
    lines: BTreeMap<LineId, Line>,
    last_line: LineId,
    layout: Arc<Layout>,
    tickets: FxHashMap<u64, Ticket>,
    last_ticket: u64,
    outlet: Outlet,
}

impl Desk {
    /// No subscriptions.
    pub fn new(outlet: Outlet) -> Self {
        Self {
            wanted: FxHashMap::default(),
            lines: BTreeMap::new(),
            last_line: 0,
            layout: Arc::default(),
            tickets: FxHashMap::default(),
            last_ticket: 0,
            outlet,
        }
    }

    /// Whether the way to any primary of which something is wanted is whole.
    pub fn hears(&self) -> bool {
        let mut asked = self.lines.values().filter(|line| !line.table.is_empty()).peekable();
        asked.peek().is_none() || asked.any(Line::hears)
    }

    /// Makes do with those of these channels that stand, as long as any does: the others count as gaps, so that it is
    /// said when they stand, too.
    pub fn settle_for(&mut self, channels: &[String]) -> bool {
        let on = |wanted: &Wanted, channel: &str, lines: &BTreeMap<LineId, Line>| {
            wanted.owner.and_then(|owner| lines.get(&owner)).is_some_and(|line| line.table.is_on(channel))
        };
        let some = channels.iter().any(|channel| {
            self.wanted.get(channel.as_str()).is_some_and(|wanted| on(wanted, channel, &self.lines))
        });
        if !some {
            return false;
        }
        for channel in channels {
            let Some(wanted) = self.wanted.get_mut(channel.as_str()) else { continue };
            if !wanted.gap && !on(wanted, channel, &self.lines) {
                wanted.gap = true;
                if let Some(line) = wanted.owner.and_then(|owner| self.lines.get_mut(&owner)) {
                    line.gaps += 1;
                }
            }
        }
        true
    }

    /// Says what is owed about gaps.
    pub fn settle(&mut self) {
        self.outlet.settle();
    }

    fn line_to(&self, address: &Address) -> Option<LineId> {
        self.lines.values().find(|line| line.assignment.address == *address).map(|line| line.assignment.id)
    }

    fn owner(&self, slot: u16) -> Option<LineId> {
        self.layout.of_slot(slot).and_then(|address| self.line_to(address))
    }

    fn arrived(&mut self, tickets: Vec<u64>) {
        for id in tickets {
            let Some(ticket) = self.tickets.get_mut(&id) else { continue };
            ticket.left -= 1;
            if ticket.left == 0
                && let Some(ticket) = self.tickets.remove(&id)
            {
                // A caller that gave up waiting is subscribed all the same.
                let _gone = ticket.caller.send(());
            }
        }
    }

    /// Forgets callers that gave up: with nobody there to confirm, they would pile up.
    fn forget_callers(&mut self) {
        let gone: Vec<u64> =
            self.tickets.iter().filter(|(_, it)| it.caller.is_closed()).map(|(id, _)| *id).collect();
        if gone.is_empty() {
            return;
        }
        self.tickets.retain(|_, ticket| !ticket.caller.is_closed());
        for wanted in self.wanted.values_mut() {
            wanted.waiting.retain(|id| self.tickets.contains_key(id));
        }
    }

    /// Wants channels; `done` is told when all of them are confirmed.
    pub fn subscribe(&mut self, channels: Vec<(String, Topic)>, done: oneshot::Sender<()>) {
        // Now and then: it goes over everything.
        if self.tickets.len() >= 64 && self.tickets.len().is_power_of_two() {
            self.forget_callers();
        }
        self.last_ticket += 1;
        let id = self.last_ticket;
        self.tickets.insert(id, Ticket { left: 1, caller: done });
        for (channel, topic) in channels {
            let slot = slot(&channel);
            let channel = Channel::from(channel);
            let owner = self.wanted.get(&channel).map_or_else(|| self.owner(slot), |wanted| wanted.owner);
            let fresh = Wanted { topic, slot, owner, waiting: Vec::new(), gap: false };
            let wanted = self.wanted.entry(channel.clone()).or_insert(fresh);
            let line = owner.and_then(|owner| self.lines.get_mut(&owner));
            let on = line.is_some_and(|line| {
                line.want(&channel, slot);
                line.table.is_on(&channel)
            });
            if !on {
                wanted.waiting.push(id);
                if let Some(ticket) = self.tickets.get_mut(&id) {
                    ticket.left += 1;
                }
            }
        }
        self.arrived(vec![id]);
    }

    /// Wants channels no more.
    pub fn unsubscribe(&mut self, channels: Vec<String>) {
        for channel in channels {
            let Some((channel, wanted)) = self.wanted.remove_entry(channel.as_str()) else { continue };
            self.arrived(wanted.waiting);
            if let Some(line) = wanted.owner.and_then(|owner| self.lines.get_mut(&owner)) {
                line.table.leave(&channel);
                line.assignment.wake.notify_one();
                if wanted.gap {
                    Self::close_gap(line, &mut self.outlet);
                }
            }
        }
    }

    fn close_gap(line: &mut Line, outlet: &mut Outlet) {
        line.gaps -= 1;
        if line.gaps == 0 {
            outlet.gap();
        }
    }

    /// A layout was seen: channels go where their slots are. The lines to start; those that have nothing to do any
    /// more are stopped.
    pub fn lay_out(&mut self, layout: Arc<Layout>) -> Vec<Assignment> {
        let mut fresh = Vec::new();
        for address in layout.primaries() {
            if self.line_to(address).is_none() {
                self.last_line += 1;
                let (wake, stop) = (Arc::default(), CancellationToken::new());
                let assignment = Assignment { id: self.last_line, address: address.clone(), wake, stop };
                fresh.push(assignment.clone());
                self.lines.insert(self.last_line, Line::new(assignment));
            }
        }
        self.layout = layout;
        self.assign();
        let used: Vec<&Address> = self.layout.primaries();
        let owners: std::collections::BTreeSet<_> = self.wanted.values().filter_map(|it| it.owner).collect();
        self.lines.retain(|id, line| {
            let keep = owners.contains(id) || used.contains(&&line.assignment.address);
            if !keep {
                line.assignment.stop.cancel();
            }
            keep
        });
        fresh
    }

    /// Gives every channel to the owner of its slot. One whose slot nobody has stays where it was.
    fn assign(&mut self) {
        let by_address: BTreeMap<&Address, LineId> =
            self.lines.values().map(|line| (&line.assignment.address, line.assignment.id)).collect();
        let owner = |slot| self.layout.of_slot(slot).and_then(|it| by_address.get(it).copied());
        let moved: Vec<(Channel, LineId)> = self
            .wanted
            .iter()
            .filter_map(|(channel, wanted)| {
                let owner = owner(wanted.slot).filter(|owner| wanted.owner != Some(*owner))?;
                Some((channel.clone(), owner))
            })
            .collect();
        let mut opened = false;
        for (channel, owner) in moved {
            let Some(wanted) = self.wanted.get_mut(&channel) else { continue };
            if let Some(before) = wanted.owner.and_then(|before| self.lines.get_mut(&before)) {
                if wanted.gap {
                    before.gaps -= 1;
                } else if before.table.is_on(&channel) {
                    wanted.gap = true;
                    opened = true;
                }
                before.table.leave(&channel);
                before.assignment.wake.notify_one();
            }
            wanted.owner = Some(owner);
            if let Some(line) = self.lines.get_mut(&owner) {
                line.gaps += usize::from(wanted.gap);
                line.want(&channel, wanted.slot);
            }
        }
        if opened {
            self.outlet.gap();
        }
    }

    /// What a line has to send now.
    pub fn work(&mut self, line: LineId) -> Vec<Command> {
        self.lines.get_mut(&line).map(|line| line.table.work()).unwrap_or_default()
    }

    /// The topic of a channel, when it is wanted of this line.
    pub fn topic(&self, line: LineId, channel: &str) -> Option<&Topic> {
        self.wanted.get(channel).filter(|wanted| wanted.owner == Some(line)).map(|wanted| &wanted.topic)
    }

    /// Hands on what came.
    pub fn deliver(&mut self, topic: Topic, publication: Publication) {
        self.outlet.deliver(topic, publication);
    }

    /// A server confirmed a subscription.
    pub fn subscribed(&mut self, id: LineId, channel: &str) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.moved = Instant::now();
        let confirmed = line.table.subscribed(channel);
        let wanted = confirmed.and_then(|channel| self.wanted.get_mut(&channel));
        let Some(wanted) = wanted.filter(|wanted| wanted.owner == Some(id)) else { return };
        if std::mem::take(&mut wanted.gap) {
            Self::close_gap(line, &mut self.outlet);
        }
        let waiting = std::mem::take(&mut wanted.waiting);
        self.arrived(waiting);
    }

    /// A server ended a subscription; whether by itself.
    pub fn unsubscribed(&mut self, id: LineId, channel: &str) -> bool {
        let Some(line) = self.lines.get_mut(&id) else { return false };
        line.moved = Instant::now();
        let Some(channel) = line.table.unsubscribed(channel) else { return false };
        self.open_gaps(id, vec![channel]);
        true
    }

    fn open_gaps(&mut self, id: LineId, channels: Vec<Channel>) {
        let mut opened = 0;
        for channel in channels {
            let wanted = self.wanted.get_mut(&channel).filter(|it| it.owner == Some(id) && !it.gap);
            if let Some(wanted) = wanted {
                wanted.gap = true;
                opened += 1;
            }
        }
        if let Some(line) = self.lines.get_mut(&id) {
            line.gaps += opened;
        }
        if opened > 0 {
            self.outlet.gap();
        }
    }

    /// A server refused a line's oldest command; `false` when there was none.
    pub fn refused(&mut self, line: LineId) -> bool {
        self.lines.get_mut(&line).is_some_and(|line| line.table.refused())
    }

    /// Whether something was refused and waits for [`Self::retry`].
    pub fn waits(&self, line: LineId) -> bool {
        self.lines.get(&line).is_some_and(|line| line.table.waits())
    }

    /// What a line was refused is tried again.
    pub fn retry(&mut self, line: LineId) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.table.retry();
        }
    }

    /// A line's connection is gone.
    pub fn interrupted(&mut self, id: LineId) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let stood = line.table.interrupted();
        self.open_gaps(id, stood);
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
