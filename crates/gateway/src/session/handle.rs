//! What a session does when it wakes: input, output, finished work, deadlines, closing.

use std::sync::Arc;
use std::time::Duration;

use parlance_hub::Notice;
use parlance_model::{
    Answer, Channel, Command, ConversationId, Event, MaintenanceNotice, Reject, RejectCode, Time, Topic,
};
use parlance_wire::{Tag, websocket};

use super::conn::Conn;
use super::link::Link;
use super::run::{READ_AHEAD, Session};
use super::timers::{Due, View};
use super::work::{Done, Work};
use super::{admission, recovery, restore, told};
use crate::line::Heard;
use crate::node::Node;

/// Pieces taken from the outbox at once.
const TAKE: usize = 256;
/// The closing handshake may take so long.
const CLOSING: Duration = Duration::from_secs(2);

impl Session {
    fn view(&self) -> View {
        let links = || self.conns.iter().filter_map(|c| c.link.as_ref());
        let ends =
            links().map(|l| l.identity()).filter(|i| i.verified).map(|i| i.expires_at + crate::auth::LEEWAY);
        let restorable = links().any(|l| l.is_restorable());
        View {
            last_heard: Time::from_millis(self.line.heart().load(std::sync::atomic::Ordering::Relaxed)),
            raw: self.is_raw(),
            authenticated: links().next().is_some(),
            token_ends: ends.min(),
            stalled_since: self.line.stalled_since(),
            message_began: self.line.started(),
            kept: restorable || links().any(|l| l.recovery().is_some()),
            unconfirmed: restorable && self.unconfirmed,
        }
    }

    /// The next moment something is due, of the session or its transport.
    pub(super) fn next_deadline(&self) -> Time {
        let (own, _) = self.timers.next(&self.view());
        self.line.deadline().filter(|_| !self.closing).map_or(own, |line| line.min(own))
    }

    pub(super) fn heard(&mut self, heard: Heard) {
        if self.closing {
            if matches!(heard, Heard::Goodbye | Heard::Gone) {
                self.abandon();
            }
            return;
        }
        let now = self.node.clock.now();
        if matches!(heard, Heard::Text(_) | Heard::Binary(_) | Heard::Pong(_) | Heard::Control) {
            self.timers.frame(now);
        }
        match heard {
            Heard::Text(text) if self.is_raw() => self.raw_text(&text, now),
            Heard::Text(text) => self.text_packet(&text),
            Heard::Binary(_) if self.is_raw() => self.close(1003, "binary frames are not understood here"),
            Heard::Binary(data) => self.binary_packet(data),
            Heard::Pong(payload) => self.ponged(&payload),
            Heard::Stirred | Heard::Control => self.beat(),
            Heard::Violation(code, reason) => self.close(code, reason),
            Heard::Goodbye => {
                // A Socket.IO client that means to go says so to its namespaces; this may be a lost network.
                if self.is_raw() {
                    self.conns.iter_mut().for_each(|c| c.orderly = true);
                }
                self.begin_close();
            }
            Heard::Gone => self.abandon(),
        }
    }

    fn raw_text(&mut self, text: &str, now: Time) {
        let Some(conn) = self.conns.first_mut() else { return };
        self.node.metrics.frame_in(conn.peer.dialect());
        conn.peer.receive(text, now);
        self.take_requests(0);
        self.send_frames(0);
    }

    pub(super) fn take_requests(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if let Some(link) = conn.link.as_ref().filter(|l| l.listener.accent() != conn.peer.accent()) {
            link.listener.set_accent(conn.peer.accent());
            if let Some(recovery) = link.recovery().as_mut() {
                recovery.spoke(conn.peer.accent());
            }
        }
        let mut repeats = Vec::new();
        while let Some((tag, request)) = conn.peer.poll_request() {
            if tag.deprecated() {
                self.node.metrics.deprecated_frames.inc();
            }
            match request {
                Ok(request) => match &request.command {
                    Command::Send(send) if !conn.notes_send(send) => repeats.push(tag),
                    _ => conn.todo.push_back(Work::Request(Box::new((tag, request)))),
                },
                Err(reject) => conn.todo.push_back(Work::Refuse(Box::new((tag, reject)))),
            }
        }
        for tag in repeats {
            let reject = Reject::new(RejectCode::InProgress, "Message already being processed");
            self.answer(index, &tag, Err(reject));
        }
    }

    /// Moves what a peer has to say on its way; ahead of what waits, where the dialect wants its answers first.
    pub(super) fn send_frames(&mut self, index: usize) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if self.closing {
            // Nothing follows a close frame.
            return;
        }
        let mut pieces = Vec::new();
        while let Some(piece) = conn.peer.poll_frame() {
            pieces.push(piece);
        }
        let Some(link) = &conn.link else {
            for piece in pieces {
                self.outbox.push(&piece.seal_offset(parlance_wire::Offset::NONE), None);
            }
            return;
        };
        if conn.peer.dialect().answers_first() && conn.greeting.is_none() && link.is_attached() {
            for piece in &pieces {
                link.listener.push_first(piece);
            }
        } else {
            for piece in &pieces {
                link.listener.push(piece);
            }
        }
    }

    pub(super) fn output(&mut self) {
        let held = self.conns.iter().any(Conn::holds_events);
        if self.line.is_idle() && !held && !self.outbox.is_empty() {
            let mut marks = Vec::new();
            self.outbox.take(self.line.queue(), &mut marks, TAKE);
            self.unconfirmed = true;
            if !marks.is_empty() {
                self.timers.save_soon(self.node.clock.now());
            }
            for mark in marks {
                self.note_sent(mark);
            }
        }
        if self.outbox.is_overflown() {
            self.node.metrics.slow_consumers.inc();
            self.close(1008, "too slow: reconnect to catch up");
            return;
        }
        for index in 0..self.conns.len() {
            self.notices(index);
        }
    }

    fn note_sent(&self, mark: parlance_hub::Mark) {
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
                    if let Some(recovery) = link.recovery().as_mut() {
                        recovery.left(&conversation);
                    }
                    conn.todo.push_back(Work::Removed(conversation));
                }
                Notice::Close { code, reason } if code == 1012 && conn.greeting.is_some() => {
                    conn.leaving = Some((code, reason));
                }
                Notice::Close { code, reason } => {
                    self.told_to_go(index, code, &reason);
                    return;
                }
            }
        }
    }

    /// 1008 is for good; after any other code the client may come back by itself.
    fn told_to_go(&mut self, index: usize, code: u16, reason: &str) {
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
            message: "this server is restarting; reconnect".into(),
            retry_after: 1,
            at: self.node.clock.now(),
        });
        for conn in &self.conns {
            if let Some(piece) = parlance_wire::encode(conn.peer.accent(), conn.peer.style(), &event) {
                self.line.push(piece.bytes().clone());
            }
        }
    }

    pub(super) fn done(&mut self, index: usize, done: Done) {
        match done {
            Done::Connected(entrance) => self.connected(index, entrance),
            Done::Answered(tag, result) => {
                self.answer(index, &tag, result);
                // What was held back for it may go.
                self.unblocked();
            }
            Done::Registered(tag, Ok(link)) => self.registered(index, &tag, link),
            Done::Registered(tag, Err(reject)) => self.answer(index, &tag, Err(reject)),
            Done::Attached(Ok(())) => self.attached(index),
            Done::Joined(Ok(())) => {
                if let Some(conn) = self.conns.get_mut(index) {
                    conn.save_moved();
                }
                // Further notices may wait.
                self.unblocked();
            }
            Done::Kept(Ok(())) => {}
            Done::Attached(Err(fault)) | Done::Joined(Err(fault)) => {
                tracing::warn!(%fault, "a connection could not join its conversations");
                self.answer(index, &Tag::default(), Err(self.node.unavailable(&fault)));
                self.close(1013, "temporarily unavailable: reconnect");
            }
            Done::Kept(Err(fault)) => tracing::warn!(%fault, "session state"),
        }
    }

    fn attached(&mut self, index: usize) {
        self.greet_recovered(index);
        if let Some(conn) = self.conns.get_mut(index)
            && let Some(link) = conn.link.clone()
        {
            conn.save_moved();
            link.set_attached();
        }
        if let Some((code, reason)) = self.conns.get_mut(index).and_then(|c| c.leaving.take()) {
            self.told_to_go(index, code, &reason);
        }
        self.unblocked();
    }

    pub(super) fn answer(&mut self, index: usize, tag: &Tag, result: Result<Answer, Reject>) {
        let result = result.map_err(|mut reject| {
            self.correlate(index, tag.event(), &mut reject);
            reject
        });
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.peer.answer(tag, &result, self.node.clock.now());
        self.send_frames(index);
    }

    /// Counts a refusal, and gives it an id that stands in the log too where the dialect or the fault asks for it.
    pub(super) fn correlate(&self, index: usize, event: &str, reject: &mut Reject) {
        let Some(dialect) = self.conns.get(index).map(|c| c.peer.dialect()) else { return };
        self.node.metrics.reject(dialect, reject.code);
        let internal = reject.code == RejectCode::Internal;
        if !internal && !dialect.correlates_refusals() {
            return;
        }
        let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let message = &reject.message;
        if internal {
            tracing::error!(correlation_id = %id, event, %message, "internal");
        } else {
            tracing::info!(correlation_id = %id, event, code = ?reject.code, %message, "refused");
        }
        reject.correlation_id = Some(id);
    }

    fn registered(&mut self, index: usize, tag: &Tag, link: Arc<Link>) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let user = link.listener.user.clone();
        conn.peer.set_user(user.clone());
        link.listener.set_accent(conn.peer.accent());
        conn.link = Some(link);
        conn.todo.push_front(Work::Greet);
        conn.joins.push_front(Work::Attach);
        self.answer(index, tag, Ok(Answer::Registered { user }));
    }

    pub(super) fn due(&mut self) {
        let now = self.node.clock.now();
        if self.line.deadline().is_some_and(|at| at <= now) {
            if let Some(heard) = self.line.due(now) {
                self.heard(heard);
            }
            self.beat();
        }
        let (at, due) = self.timers.next(&self.view());
        if at > now {
            return;
        }
        match due {
            Due::Ping => self.ping(now),
            Due::Silent => self.close(1001, "no answer to pings"),
            Due::Unauthenticated if !self.is_raw() => self.unjoined(),
            Due::Unauthenticated => {
                let reject = Reject::new(RejectCode::Unauthenticated, "no session was registered in time");
                self.answer(0, &Tag::default(), Err(reject));
                self.close(1008, "not authenticated in time");
            }
            Due::Expired => self.expired(now),
            Due::Stalled => {
                self.node.metrics.slow_consumers.inc();
                self.abandon();
            }
            Due::Unfinished => self.close(1008, "a message was begun and not finished"),
            Due::Closed => self.abandon(),
            Due::Save => {
                self.timers.saved(now);
                self.conns.iter_mut().for_each(|c| c.todo.push_back(Work::Save { always: true }));
            }
            Due::Refill => {
                self.timers.may_read(now);
            }
        }
    }

    fn expired(&mut self, now: Time) {
        for index in 0..self.conns.len() {
            let ended = |c: &Conn| {
                let identity = c.link.as_ref().map(|l| l.identity()).filter(|i| i.verified);
                identity.is_some_and(|i| i.expires_at + crate::auth::LEEWAY <= now)
            };
            if self.conns.get(index).is_some_and(ended) {
                let reject = Reject::new(RejectCode::TokenExpired, "token expired");
                self.answer(index, &Tag::default(), Err(reject));
            }
        }
        self.output();
        self.close(1008, "token expired");
    }

    /// Takes note of the pings and pongs an Engine.IO line handles by itself.
    fn beat(&mut self) {
        let beats = self.line.take_beats();
        for link in self.conns.iter().filter_map(|c| c.link.as_ref()) {
            if let Some(recovery) = link.recovery().as_mut() {
                if beats.ponged {
                    recovery.ponged();
                }
                if beats.pinged {
                    recovery.pinged();
                }
            }
        }
    }

    fn ping(&mut self, now: Time) {
        let mut handed = Vec::new();
        let link = self.conns.first().and_then(|c| c.link.as_ref());
        if let Some(link) = link.filter(|l| l.is_restorable()) {
            // Positions first, emptiness second: what is handed over in between is then still waiting here.
            let positions = restore::positions(&self.node, link);
            if self.line.is_idle() && self.outbox.is_empty() {
                handed = positions;
                self.unconfirmed = false;
            }
        }
        let number = self.timers.pinged(now, handed);
        self.line.push(websocket::ping(&number.to_be_bytes()));
    }

    fn ponged(&mut self, payload: &[u8]) {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else { return };
        let link = self.conns.first().and_then(|c| c.link.as_ref());
        let (Some(arrived), Some(link)) = (self.timers.ponged(number), link) else { return };
        if link.confirm(arrived) {
            self.timers.save_soon(self.node.clock.now());
        }
    }

    /// Sends what waits, then a close frame; then the connection ends.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if self.closing {
            return;
        }
        let mut marks = Vec::new();
        self.outbox.take(self.line.queue(), &mut marks, usize::MAX);
        for mark in marks {
            self.note_sent(mark);
        }
        self.line.close(code, reason);
        self.begin_close();
    }

    fn begin_close(&mut self) {
        self.closing = true;
        self.timers.close_by(self.node.clock.now() + CLOSING);
    }

    /// Ends without a word: the transport is gone.
    fn abandon(&mut self) {
        self.closing = true;
        self.line.clear();
    }

    /// Gives everything back, then lets the client read the last bytes before the transport goes.
    pub(super) async fn finish(&mut self) {
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
    let recoverable = link.recovery().is_some();
    match recoverable {
        true if orderly => recovery::forget(node, link).await,
        true => recovery::save_last(node, link).await,
        // Before it has joined everything, what it is subscribed to says nothing.
        false if !link.is_attached() => Ok(()),
        false if link.is_restorable() => restore::save_last(node, link).await,
        // Whoever fell silent may not have heard the last receipts: telling again does no harm.
        false if orderly && link.dialect.registers_late() => told::remember(node, link).await,
        false => Ok(()),
    }
}
