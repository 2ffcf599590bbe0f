//! What a session does when it wakes: input, output, finished work, deadlines, closing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt};
use parlance_hub::Notice;
use parlance_model::{
    Channel, Command, ConversationId, Event, MaintenanceNotice, Reject, RejectCode, Time, Topic,
};
use parlance_wire::{Dialect, Tag, websocket};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Message, error::Error};

use super::input::close_for;
use super::link::Link;
use super::run::{READ_AHEAD, Session};
use super::timers::{Due, View};
use super::work::{self, Doing, Done, Work};
use super::{admission, restore, told};

/// Pieces taken from the outbox at once.
const TAKE: usize = 256;
/// The closing handshake may take so long.
const CLOSING: Duration = Duration::from_secs(2);

impl Session {
    pub(super) fn view(&self) -> View {
        let input = self.ws.get_ref();
        let identity = self.link.as_ref().map(|l| l.identity());
        View {
            last_heard: input.last_heard(),
            authenticated: identity.is_some(),
            token_ends: identity.filter(|i| i.verified).map(|i| i.expires_at + crate::auth::LEEWAY),
            stalled_since: self.writer.stalled_since(),
            message_began: input.started(),
            restorable: self.is_restorable(),
            unconfirmed: self.is_restorable() && self.unconfirmed,
        }
    }

    fn is_restorable(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.dialect == Dialect::Socialhub)
    }

    /// Takes up the next piece of work of each lane where none is being done.
    pub(super) fn start_work(&mut self) {
        if self.closing {
            return;
        }
        if self.doing.is_none()
            && !self.must_wait()
            && let Some(next) = self.todo.pop_front()
        {
            self.doing = Some(self.begin(next));
        }
        if self.joining.is_none()
            && let Some(next) = self.joins.pop_front()
        {
            self.joining = Some(self.begin(next));
        }
    }

    /// A subscription is given up or repeated only after those kept from before were taken up again.
    fn must_wait(&self) -> bool {
        let Some(Work::Request(request)) = self.todo.front() else { return false };
        matches!(request.1.command, Command::Subscribe(_) | Command::Unsubscribe(_))
            && self.link.as_ref().is_some_and(|link| !link.is_attached())
    }

    fn begin(&self, work: Work) -> Doing {
        work::start(self.node.clone(), self.mount.clone(), self.link.clone(), work)
    }

    pub(super) fn input(&mut self, frame: Option<Result<Message, Error>>) {
        let now = self.node.clock.now();
        self.ws.get_mut().completed();
        match frame {
            Some(Ok(Message::Text(text))) => {
                self.timers.frame(now);
                self.node.metrics.frame_in(self.peer.accent().dialect());
                self.peer.receive(&text, now);
                self.take_requests();
                self.send_frames();
            }
            Some(Ok(Message::Binary(_))) => self.close(1003, "binary frames are not understood here"),
            Some(Ok(Message::Pong(payload))) => {
                self.timers.frame(now);
                self.ponged(&payload);
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {
                self.timers.frame(now);
                self.pass_control();
            }
            Some(Ok(Message::Close(_))) => {
                self.orderly = true;
                self.pass_control();
                self.begin_close();
            }
            Some(Err(error)) => match close_for(&error) {
                Some((code, reason)) => self.close(code, reason),
                None => self.abandon(),
            },
            None => self.abandon(),
        }
    }

    fn take_requests(&mut self) {
        if let Some(link) = &self.link {
            link.listener.set_accent(self.peer.accent());
        }
        while let Some((tag, request)) = self.peer.poll_request() {
            if tag.deprecated() {
                self.node.metrics.deprecated_frames.inc();
            }
            self.todo.push_back(Work::Request(Box::new((tag, request))));
        }
    }

    /// Lets tungstenite's own answer (a pong, a close echo) out between our frames.
    fn pass_control(&mut self) {
        // The input side collects in memory: this is done at once or not at all.
        let _ = self.ws.flush().now_or_never();
        if let Some(control) = self.ws.get_mut().take_control() {
            self.writer.push(control);
        }
    }

    /// Moves what the peer has to say on its way.
    fn send_frames(&mut self) {
        if self.closing {
            // Nothing follows a close frame.
            return;
        }
        while let Some(piece) = self.peer.poll_frame() {
            match &self.link {
                Some(link) => {
                    link.listener.push(&piece);
                }
                None => self.writer.push(piece.bytes().clone()),
            }
        }
    }

    pub(super) fn output(&mut self) {
        let Some(link) = self.link.clone() else { return };
        if self.writer.is_empty() && !link.listener.outbox.is_empty() {
            link.listener.outbox.take(self.writer.queue(), TAKE);
            self.unconfirmed = true;
        }
        if link.listener.outbox.is_overflown() {
            self.node.metrics.slow_consumers.inc();
            self.close(1008, "too slow: reconnect to catch up");
            return;
        }
        // Invitations beyond these stay with the listener, which bounds them.
        while self.joins.len() < READ_AHEAD
            && let Some(notice) = link.listener.next_notice()
        {
            match notice {
                Notice::Invited { conversation, since } => {
                    self.joins.push_back(Work::Invited { conversation, since });
                }
                // Removed and taken in again before this was read.
                Notice::Removed(conversation) if self.is_in(&link, &conversation) => {}
                Notice::Removed(conversation) => {
                    let channel = Channel::Conversation(conversation.clone());
                    link.remove_channel(&channel);
                    link.left(&Topic::Conversation(conversation));
                    if self.is_restorable() {
                        self.todo.push_back(Work::Save);
                    }
                }
                Notice::Close { code, reason } => {
                    self.go_away(code, &reason);
                    return;
                }
            }
        }
    }

    fn is_in(&self, link: &Link, conversation: &ConversationId) -> bool {
        let topic = Topic::Conversation(conversation.clone());
        self.node.hub.is_in(&topic, link.listener.number)
    }

    /// Something that output or notices waited for is done: they are looked at again.
    pub(super) fn unblocked(&self) {
        if let Some(link) = &self.link {
            link.listener.outbox.wake();
        }
    }

    /// Closes on the node's or the operator's behalf.
    pub(super) fn go_away(&mut self, code: u16, reason: &str) {
        self.orderly = true;
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
        let accent = self.peer.accent();
        if let Some(piece) = parlance_wire::encode(accent, &event) {
            self.writer.push(piece.bytes().clone());
        }
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Answered(tag, result) => self.answer(&tag, result),
            Done::Registered(tag, Ok(link)) => self.registered(&tag, link),
            Done::Registered(tag, Err(reject)) => self.answer(&tag, Err(reject)),
            Done::Attached(Ok(())) => {
                if let Some(link) = &self.link {
                    link.set_attached();
                }
                self.unblocked();
            }
            // Further notices may wait.
            Done::Joined(Ok(())) => self.unblocked(),
            Done::Kept(Ok(())) => {}
            Done::Attached(Err(fault)) | Done::Joined(Err(fault)) => {
                tracing::warn!(%fault, "a connection could not join its conversations");
                self.answer(&Tag::default(), Err(self.node.unavailable(&fault)));
                self.close(1013, "temporarily unavailable: reconnect");
            }
            Done::Kept(Err(fault)) => tracing::warn!(%fault, "session state"),
        }
    }

    fn answer(&mut self, tag: &Tag, result: Result<parlance_model::Answer, Reject>) {
        let result = result.map_err(|mut reject| {
            let dialect = self.peer.accent().dialect();
            self.node.metrics.reject(dialect, reject.code);
            if reject.code == RejectCode::Internal {
                let id: Arc<str> = uuid::Uuid::new_v4().to_string().into();
                tracing::error!(correlation_id = %id, event = tag.event(), message = %reject.message, "internal");
                reject.correlation_id = Some(id);
            }
            reject
        });
        self.peer.answer(tag, &result, self.node.clock.now());
        self.send_frames();
    }

    fn registered(&mut self, tag: &Tag, link: Arc<Link>) {
        let user = link.listener.user.clone();
        self.peer.set_user(user.clone());
        link.listener.set_accent(self.peer.accent());
        self.ws.get_mut().note_in(link.heard.clone());
        self.link = Some(link);
        self.answer(tag, Ok(parlance_model::Answer::Registered { user }));
        self.todo.push_front(Work::Greet);
        self.joins.push_front(Work::Attach);
    }

    pub(super) fn due(&mut self) {
        let now = self.node.clock.now();
        let (at, due) = self.timers.next(&self.view());
        if at > now {
            return;
        }
        match due {
            Due::Ping => self.ping(now),
            Due::Silent => self.close(1001, "no answer to pings"),
            Due::Unauthenticated => {
                let reject = Reject::new(RejectCode::Unauthenticated, "no session was registered in time");
                self.answer(&Tag::default(), Err(reject));
                self.close(1008, "not authenticated in time");
            }
            Due::Expired => {
                let reject = Reject::new(RejectCode::TokenExpired, "token expired");
                self.answer(&Tag::default(), Err(reject));
                self.output();
                self.close(1008, "token expired");
            }
            Due::Stalled => {
                self.node.metrics.slow_consumers.inc();
                self.abandon();
            }
            Due::Unfinished => self.close(1008, "a message was begun and not finished"),
            Due::Closed => self.abandon(),
            Due::Save => {
                self.timers.saved(now);
                self.todo.push_back(Work::Save);
            }
            Due::Refill => {
                self.timers.may_read(now);
            }
        }
    }

    fn ping(&mut self, now: Time) {
        let mut handed = Vec::new();
        if let Some(link) = &self.link
            && self.is_restorable()
        {
            // Positions first, emptiness second: what is handed over in between is then still waiting here.
            let positions = restore::positions(&self.node, link);
            if self.writer.is_empty() && link.listener.outbox.is_empty() {
                handed = positions;
                self.unconfirmed = false;
            }
        }
        let number = self.timers.pinged(now, handed);
        self.writer.push(websocket::ping(&number.to_be_bytes()));
    }

    fn ponged(&mut self, payload: &[u8]) {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else { return };
        let (Some(arrived), Some(link)) = (self.timers.ponged(number), &self.link) else { return };
        if link.confirm(arrived) {
            self.timers.save_soon(self.node.clock.now());
        }
    }

    /// Sends what waits, then a close frame; then the connection ends.
    fn close(&mut self, code: u16, reason: &str) {
        if self.closing {
            return;
        }
        if let Some(link) = &self.link {
            link.listener.outbox.take(self.writer.queue(), usize::MAX);
        }
        self.writer.push(websocket::close(code, reason));
        self.begin_close();
    }

    fn begin_close(&mut self) {
        self.closing = true;
        self.timers.close_by(self.node.clock.now() + CLOSING);
    }

    /// Ends without a word: the transport is gone.
    fn abandon(&mut self) {
        self.closing = true;
        self.writer.clear();
    }

    /// Gives everything back, then lets the client read the last bytes before the socket goes.
    pub(super) async fn finish(&mut self) {
        self.doing = None;
        self.joining = None;
        if let Some(link) = self.link.take() {
            let kept = match link.dialect {
                // Before it has joined everything, what it is subscribed to says nothing.
                _ if !link.is_attached() => Ok(()),
                Dialect::Socialhub => restore::save_last(&self.node, &link).await,
                // Whoever fell silent may not have heard the last receipts: telling again does no harm.
                Dialect::Sechat if self.orderly => told::remember(&self.node, &link).await,
                Dialect::Sechat => Ok(()),
            };
            if let Err(fault) = kept {
                tracing::warn!(%fault, "keeping a connection's state");
            }
            admission::close(&self.node, &link).await;
        }
        // Closing with unread input would reset the connection and lose the close frame on its way.
        let mut io = crate::http::socket::Io(self.stream.clone());
        if io.shutdown().await.is_ok() {
            // Copied through the heap: a buffer in this future would weigh on every idle connection.
            let mut nowhere = tokio::io::sink();
            let drained = tokio::io::copy(&mut io, &mut nowhere);
            // Whoever does not close their side within the time is cut off.
            let _ = tokio::time::timeout(CLOSING, drained).await;
        }
    }
}
