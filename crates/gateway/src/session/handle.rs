//! What a session does when it wakes: input, finished work, deadlines. Output and farewell are in `output`.

use std::sync::Arc;

use parlance_model::{Answer, Command, ConversationId, Reject, RejectCode, Time};
use parlance_wire::{Tag, websocket};

use super::link::Link;
use super::refusal::Asked;
use super::restore;
use super::run::Session;
use super::timers::{Due, View};
use super::work::{Done, Work};
use crate::line::Heard;

impl Session {
    fn view(&self) -> View {
        let links = || self.conns.iter().filter_map(|c| c.link.as_ref());
        // One that is being recovered is told when it has been greeted.
        let warns = self.conns.iter().filter(|c| c.greeting.is_none()).filter_map(|c| c.link.as_ref());
        let restorable = links().any(|l| l.is_restorable());
        View {
            last_heard: Time::from_millis(self.line.heart().load(std::sync::atomic::Ordering::Relaxed)),
            raw: self.is_raw(),
            authenticated: links().next().is_some(),
            token_ends: links().filter_map(|l| l.token_ends()).min(),
            warns_at: warns.filter_map(|l| l.warns_at()).min(),
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
                self.node.metrics.traffic.deprecated_frames.of(conn.peer.dialect()).inc();
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

    pub(super) fn done(&mut self, index: usize, done: Done) {
        match done {
            Done::Connected(entrance) => self.connected(index, entrance),
            Done::Answered(tag, result) => {
                let place = self.conns.get_mut(index).and_then(|conn| conn.place.take());
                self.answer_of(index, &tag, place, result);
                // What was held back for it may go.
                self.unblocked();
            }
            Done::Registered(tag, Ok(link)) => self.registered(index, &tag, link),
            Done::Registered(tag, Err(reject)) => self.answer(index, &tag, Err(reject)),
            Done::Attached(Ok(whole)) => {
                self.owe(index, whole);
                self.attached(index);
            }
            Done::Settled(Ok(whole)) => {
                self.owe(index, whole);
                self.settled(index);
            }
            Done::Rested(Ok(whole)) => self.owe(index, whole),
            Done::Joined(Ok(())) => {
                if let Some(conn) = self.conns.get_mut(index) {
                    conn.save_moved();
                }
                // Further notices may wait.
                self.unblocked();
            }
            Done::Kept(Ok(())) => {}
            Done::Attached(Err(fault))
            | Done::Settled(Err(fault))
            | Done::Rested(Err(fault))
            | Done::Joined(Err(fault)) => {
                tracing::warn!(%fault, "a connection could not join its conversations");
                self.answer(index, &Tag::default(), Err(self.node.unavailable(&fault)));
                self.close(1013, "temporarily unavailable: reconnect");
            }
            Done::Kept(Err(fault)) => tracing::warn!(%fault, "session state"),
        }
    }

    /// What could not be joined is joined later.
    fn owe(&mut self, index: usize, whole: bool) {
        if let Some(conn) = self.conns.get_mut(index).filter(|_| !whole) {
            conn.joins.push_back(Work::Rest);
        }
    }

    fn attached(&mut self, index: usize) {
        self.greet_recovered(index);
        // There is something to settle of conversations only.
        let empty = |link: &Arc<Link>| !link.is_in_any_conversation();
        let settled = self.conns.get(index).and_then(|c| c.link.as_ref()).is_some_and(empty);
        if let Some(conn) = self.conns.get_mut(index).filter(|_| !settled) {
            conn.joins.push_front(Work::Settle);
        }
        if settled {
            self.settled(index);
        }
        if let Some((code, reason)) = self.conns.get_mut(index).and_then(|c| c.leaving.take()) {
            self.told_to_go(index, code, &reason);
        }
        self.unblocked();
    }

    fn settled(&mut self, index: usize) {
        if let Some(conn) = self.conns.get_mut(index)
            && let Some(link) = conn.link.clone()
        {
            conn.save_moved();
            link.set_attached();
        }
        self.unblocked();
    }

    pub(super) fn answer(&mut self, index: usize, tag: &Tag, result: Result<Answer, Reject>) {
        self.answer_of(index, tag, None, result);
    }

    /// Answers; `place`: where it was to happen.
    fn answer_of(
        &mut self,
        index: usize,
        tag: &Tag,
        place: Option<ConversationId>,
        result: Result<Answer, Reject>,
    ) {
        let result = result.map_err(|mut reject| {
            let asked = Asked { event: tag.event(), client_id: tag.reference(), place };
            self.correlate(index, asked, &mut reject);
            reject
        });
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.peer.answer(tag, &result, self.node.clock.now());
        self.send_frames(index);
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
            Due::Expiring => self.expiring(now),
            Due::Expired => self.expired(now),
            Due::Stalled => {
                self.count_slow("stalled");
                self.abandon();
            }
            Due::Unfinished => self.close(1008, "a message was begun and not finished"),
            Due::Closed => self.abandon(),
            Due::Save => {
                self.watch();
                self.timers.saved(now);
                self.conns.iter_mut().for_each(|c| c.todo.push_back(Work::Save { always: true }));
            }
            Due::Refill => {
                self.timers.may_read(now);
            }
        }
    }

    /// A word ahead: the client has until then to present another token, where its dialect lets it.
    fn expiring(&mut self, now: Time) {
        for index in 0..self.conns.len() {
            let link = self.conns.get(index).filter(|c| c.greeting.is_none()).and_then(|c| c.link.as_ref());
            let due = link.filter(|l| l.warns_at().is_some_and(|at| at <= now));
            if let Some(ends) = due.map(|l| l.warned()) {
                let left = ends.since(now).as_secs();
                let message = format!("Token expires in {left} s");
                let reject = Reject::new(RejectCode::TokenExpiring, message).field("exp");
                self.answer(index, &Tag::default(), Err(reject));
            }
        }
    }

    fn expired(&mut self, now: Time) {
        for index in 0..self.conns.len() {
            let ends = self.conns.get(index).and_then(|c| c.link.as_ref()).and_then(|l| l.token_ends());
            if ends.is_some_and(|at| at <= now) {
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
        let link = self.conns.first().and_then(|c| c.link.clone());
        if let Some(link) = link.filter(|l| l.is_restorable()) {
            // What passes from here on asks for another ping.
            self.watch();
            // Positions first, emptiness second: what is handed over in between is then still waiting here. They count what
            // an outbox was too full for, too.
            let positions = restore::positions(&self.node, &link);
            if self.line.is_idle() && self.outbox.has_passed_all() {
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
            self.timers.save_soon(self.node.clock.now(), self.node.links.len());
        }
    }
}
