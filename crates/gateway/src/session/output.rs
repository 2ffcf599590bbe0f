//! What goes out of a session, and how it ends: events and answers, notices of the hub, the farewell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parlance_hub::{Mark, Notice, Passed};
use parlance_model::{Channel, ConversationId, Event, MaintenanceNotice, Reject, RejectCode, Topic};
use parlance_wire::Tag;

use super::conn::Conn;
use super::link::Link;
use super::run::{READ_AHEAD, Session};
use super::work::Work;
use super::{admission, recovery, restore, told};
use crate::drain::RESTARTING;
use crate::node::Node;

/// Pieces taken from the outbox at once.
const TAKE: usize = 256;
/// The closing handshake may take so long.
const CLOSING: Duration = Duration::from_secs(2);

impl Session {
    /// Moves what a peer has to say on its way; ahead of what waits, where the dialect wants its answers first.
    pub(super) fn send_frames(&mut self, index: usize) {
        self.send_peer(index, true);
    }

    /// Moves what a peer has to say on its way, behind what waits.
    pub(super) fn send_behind(&mut self, index: usize) {
        self.send_peer(index, false);
    }

    fn send_peer(&mut self, index: usize, answer: bool) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if self.closing {
            // Nothing follows a close frame.
            return;
        }
        let mut pieces = Vec::new();
        while let Some(piece) = conn.peer.poll_frame() {
            pieces.push(piece);
        }
        self.node.metrics.frames_out(conn.peer.dialect(), pieces.len());
        let Some(link) = &conn.link else {
            for piece in pieces {
                self.outbox.push(&piece.seal_offset(parlance_wire::Offset::NONE), None);
            }
            return;
        };
        if answer && conn.peer.dialect().answers_first() {
            for piece in &pieces {
                link.listener.push_first(piece);
            }
        } else {
            for piece in &pieces {
                link.listener.push(piece);
            }
        }
    }

    /// Lets whoever delivers write to the socket, where there is one; not while something is held back.
    pub(super) fn open_exit(&mut self) {
        let held = self.conns.iter().any(Conn::holds_events);
        if held != self.held {
            self.held = held;
            self.outbox.hold(held);
        }
        if !self.closing
            && !self.open
            && let Some(pen) = self.line.pen()
        {
            self.open = true;
            self.outbox.set_exit(Some(pen.clone()));
            self.watch();
            // What came before is nobody's to write but the session's.
            self.outbox.wake();
        }
    }

    pub(super) fn output(&mut self) {
        if !self.open {
            self.take();
        } else {
            while self.outbox.write_out() {
                self.note_passed();
            }
            self.note_passed();
        }
        if self.outbox.is_overflown() {
            self.count_slow("overflow");
            self.close(1008, "too slow: reconnect to catch up");
            return;
        }
        for index in 0..self.conns.len() {
            self.notices(index);
        }
    }

    pub(super) fn count_slow(&self, reason: &str) {
        if let Some(conn) = self.conns.first() {
            self.node.metrics.slow_consumer(conn.peer.dialect(), reason);
        }
    }

    /// Takes what waits: without a socket nobody else writes it.
    fn take(&mut self) {
        if self.held || !self.line.is_idle() || self.outbox.is_empty() {
            return;
        }
        let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
        self.outbox.take(&mut pieces, &mut marks, TAKE);
        self.line.append(&mut pieces);
        self.note(Passed { any: true, marked: !marks.is_empty() }, marks);
    }

    /// Notes what passed the session by.
    fn note_passed(&mut self) {
        let passed = self.outbox.take_passed();
        self.note_marks(passed);
    }

    /// The same; the session is woken when more has passed.
    pub(super) fn watch(&mut self) {
        let passed = self.outbox.watch();
        self.note_marks(passed);
    }

    fn note_marks(&mut self, passed: Passed) {
        // Whoever looks at a recovery state notes in it what was sent. The rest is of namespaces that were left.
        self.conns.iter().filter_map(|c| c.link.as_ref()).for_each(|link| drop(link.recovery()));
        self.outbox.take_sent(None);
        self.note(passed, Vec::new());
    }

    fn note(&mut self, passed: Passed, marks: Vec<Mark>) {
        self.unconfirmed |= passed.any;
        if passed.marked {
            self.timers.save_soon(self.node.clock.now(), self.node.links.len());
        }
        for mark in marks {
            self.note_sent(mark);
        }
    }

    fn note_sent(&self, mark: Mark) {
        let of = |c: &&Conn| c.link.as_ref().is_some_and(|l| l.connection.number == mark.listener);
        if let Some(link) = self.conns.iter().find(of).and_then(|c| c.link.as_ref())
            && let Some(recovery) = link.recovery().as_mut()
        {
            recovery.sent(mark.offset);
        }
    }

    fn notices(&mut self, index: usize) {
        // Invitations beyond these stay with the listener, which bounds them.
        while let Some(conn) = self.conns.get_mut(index)
            && conn.joins.len() < READ_AHEAD
            && let Some(link) = conn.link.clone()
            && let Some(notice) = link.listener.next_notice()
        {
            match notice {
                Notice::Invited { conversation, since } => {
                    conn.joins.push_back(Work::Invited { conversation, since });
                }
                // Removed and taken in again before this was read.
                Notice::Removed(conversation) if is_in(&self.node, &link, &conversation) => {}
                Notice::Removed(conversation) => {
                    link.remove_channel(&Channel::Conversation(conversation.clone()));
                    link.left(&Topic::Conversation(conversation.clone()));
                    link.listener.forget_receipts(&conversation);
                    if let Some(recovery) = link.recovery().as_mut() {
                        recovery.left(&conversation);
                    }
                    conn.todo.push_back(Work::Removed(conversation));
                }
                Notice::Close { code, reason } if code == 1012 && conn.greeting.is_some() => {
                    conn.leaving = Some((code, reason));
                }
                Notice::Revoked => {
                    self.revoked(index);
                    return;
                }
                Notice::Close { code, reason } => {
                    self.told_to_go(index, code, &reason);
                    return;
                }
            }
        }
    }

    /// The token is good no more: the client is told so in its dialect, and not to come back with it.
    fn revoked(&mut self, index: usize) {
        let reject = Reject::new(RejectCode::InvalidToken, "token revoked");
        self.answer(index, &Tag::default(), Err(reject));
        self.told_to_go(index, 1008, "token revoked");
    }

    /// 1008 is for good; after any other code the client may come back by itself.
    pub(super) fn told_to_go(&mut self, index: usize, code: u16, reason: &str) {
        if code == 1008 && !self.is_raw() {
            self.kick(index);
        }
        self.go_away(code, reason);
    }

    /// Something that output or notices waited for is done: they are looked at again.
    pub(super) fn unblocked(&self) {
        self.outbox.wake();
    }

    /// Closes on the node's or the operator's behalf.
    pub(super) fn go_away(&mut self, code: u16, reason: &str) {
        if self.is_raw() {
            self.conns.iter_mut().for_each(|c| c.orderly = true);
        }
        if self.node.shutdown.is_cancelled() {
            self.say_going_away();
        }
        self.close(code, reason);
    }

    /// sechat has a word for a node that goes away.
    fn say_going_away(&mut self) {
        let event = Event::Maintenance(MaintenanceNotice {
            enabled: true,
            message: RESTARTING.reason.into(),
            retry_after: 1,
            at: self.node.clock.now(),
        });
        for conn in &self.conns {
            if let Some(piece) = parlance_wire::encode(conn.peer.accent(), conn.peer.style(), &event) {
                self.line.push(piece.bytes().clone());
            }
        }
    }

    /// Sends what waits, then a close frame; then the connection ends.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if self.closing {
            return;
        }
        // Nobody writes behind the close frame.
        self.outbox.set_exit(None);
        self.note_passed();
        let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
        self.outbox.take(&mut pieces, &mut marks, usize::MAX);
        self.line.append(&mut pieces);
        for mark in marks {
            self.note_sent(mark);
        }
        self.line.close(code, reason);
        self.begin_close();
    }

    pub(super) fn begin_close(&mut self) {
        self.outbox.set_exit(None);
        self.closing = true;
        self.timers.close_by(self.node.clock.now() + CLOSING);
    }

    /// Ends without a word: the transport is gone.
    pub(super) fn abandon(&mut self) {
        self.outbox.set_exit(None);
        self.closing = true;
        self.line.clear();
    }

    /// Gives everything back, then lets the client read the last bytes before the transport goes.
    pub(super) async fn finish(&mut self) {
        // What is kept of it is what went out.
        self.outbox.set_exit(None);
        for conn in &mut self.conns {
            conn.finish(&self.node).await;
        }
        self.line.finish(CLOSING).await;
    }
}

fn is_in(node: &Node, link: &Link, conversation: &ConversationId) -> bool {
    node.hub.is_in(&Topic::Conversation(conversation.clone()), link.listener.number)
}

impl Conn {
    /// Gives everything back.
    pub(super) async fn finish(&mut self, node: &Arc<Node>) {
        self.doing = None;
        self.joining = None;
        let Some(link) = self.link.take() else { return };
        // Nothing is handed over any more from here on: what is kept is what was.
        link.topics().iter().for_each(|topic| node.hub.leave(topic, link.listener.number));
        if let Err(fault) = keep(node, &link, self.orderly).await {
            tracing::warn!(%fault, "keeping a connection's state");
        }
        admission::close(node, &link).await;
    }
}

async fn keep(node: &Arc<Node>, link: &Link, orderly: bool) -> Result<(), parlance_backplane::Fault> {
    // Before it has joined everything, what it is subscribed to says nothing.
    let attached = link.is_attached();
    if attached && link.is_restorable() {
        return restore::save_last(node, link).await;
    }
    if attached && orderly && link.dialect.registers_late() {
        // Whoever fell silent may not have heard the last receipts: telling again does no harm.
        told::remember(node, link).await?;
    }
    let recoverable = link.recovery().is_some();
    match recoverable {
        true if orderly => recovery::forget(node, link).await,
        true => recovery::save_last(node, link).await,
        false => Ok(()),
    }
}
