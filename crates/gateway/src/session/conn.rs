//! One use of a session's transport: the raw WebSocket's own, or one Socket.IO namespace.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use parlance_model::{Command, ConversationId, Send};
use parlance_wire::{Peer, Settings, Style};

use super::link::Link;
use super::recovery::Begun;
use super::work::{Doing, Done, Work};
use crate::config::Mount;
use crate::node::Node;

/// A send as it is compared with others: where, and the client's id or the text.
type SendKey = (ConversationId, Arc<str>);

/// One use of a transport.
pub(super) struct Conn {
    pub mount: Arc<Mount>,
    pub link: Option<Arc<Link>>,
    pub peer: Peer,
    /// Requests, one after the other.
    pub todo: VecDeque<Work>,
    pub doing: Option<Doing>,
    /// Attaching and invitations, one after the other, beside the client's requests: a long backlog must not
    /// keep its receipts from being read.
    pub joins: VecDeque<Work>,
    pub joining: Option<Doing>,
    /// The client said goodbye, or was told to go: what was handed over has reached it.
    pub orderly: bool,
    /// A Socket.IO client was told that it is connected.
    pub connected: bool,
    /// What a client that recovers its session is told once it has what it missed.
    pub greeting: Option<Box<Begun>>,
    /// Told to go while it recovers: it goes when it has been greeted. A stock client that is cut off before keeps
    /// what it got, is told it again the next time, and shows it twice.
    pub leaving: Option<(u16, String)>,
    /// Sends that came and are not answered yet, where the dialect asks for it.
    sends: VecDeque<SendKey>,
    /// What is being done is a send.
    sending: bool,
    /// What is being done is told to the connection itself too.
    telling: bool,
    /// Where what was begun last was to happen, for logs.
    pub place: Option<ConversationId>,
}

impl Conn {
    pub fn new(node: &Node, mount: Arc<Mount>, link: Option<Arc<Link>>) -> Self {
        let settings = Settings {
            dialect: mount.spoken(),
            framing: mount.carried(),
            style: style(&mount),
            max_depth: node.config.load().limits.json_depth,
            salt: rand::random(),
        };
        let mut peer = Peer::new(settings);
        if let Some(link) = &link {
            peer.set_user(link.listener.user.clone());
        }
        Self {
            mount,
            link,
            peer,
            todo: VecDeque::new(),
            doing: None,
            joins: VecDeque::new(),
            joining: None,
            orderly: false,
            connected: false,
            greeting: None,
            leaving: None,
            sends: VecDeque::new(),
            sending: false,
            telling: false,
            place: None,
        }
    }

    /// Whether events must wait for the answer of what is being done.
    pub fn holds_events(&self) -> bool {
        self.telling && self.peer.dialect().answers_first()
    }

    /// Notes a send that came. `false`: the same is on its way already.
    pub fn notes_send(&mut self, send: &Send) -> bool {
        if !self.peer.dialect().refuses_repeats_in_flight() {
            return true;
        }
        let key = (send.conversation.clone(), send.client_id.clone().unwrap_or_else(|| send.body.clone()));
        if self.sends.contains(&key) {
            return false;
        }
        self.sends.push_back(key);
        true
    }

    /// Keeps what can be recovered, if it is no longer what is kept.
    pub fn save_moved(&mut self) {
        let moved = |l: &Arc<Link>| l.recovery().as_ref().is_some_and(|r| r.has_moved());
        if self.link.as_ref().is_some_and(moved) {
            self.todo.push_back(Work::Save { always: false });
        }
    }

    /// Takes up the next piece of work of each lane where none is being done.
    pub fn start_work(&mut self, start: impl Fn(&Self, Work) -> Doing) {
        if self.doing.is_none()
            && !self.must_wait()
            && let Some(next) = pop(&mut self.todo)
        {
            (self.sending, self.telling) = kinds(&next);
            self.place = place(&next);
            self.doing = Some(start(self, next));
        }
        if self.joining.is_none()
            && let Some(next) = pop(&mut self.joins)
        {
            self.joining = Some(start(self, next));
        }
    }

    /// What a connection hears is changed only after it has joined what it joins by itself.
    fn must_wait(&self) -> bool {
        let Some(Work::Request(request)) = self.todo.front() else { return false };
        let changes = matches!(
            request.1.command,
            Command::Subscribe(_) | Command::Unsubscribe(_) | Command::Join { .. } | Command::Leave { .. }
        );
        changes && self.link.as_ref().is_some_and(|link| !link.is_attached())
    }

    /// Whatever is done.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if let Some(doing) = &mut self.doing
            && let Poll::Ready(done) = doing.as_mut().poll(cx)
        {
            self.doing = None;
            self.telling = false;
            if std::mem::take(&mut self.sending) {
                self.sends.pop_front();
            }
            return Poll::Ready(done);
        }
        if let Some(joining) = &mut self.joining
            && let Poll::Ready(done) = joining.as_mut().poll(cx)
        {
            self.joining = None;
            return Poll::Ready(done);
        }
        Poll::Pending
    }
}

/// Takes the next one; an empty queue keeps no room, which every idle connection would hold.
fn pop(queue: &mut VecDeque<Work>) -> Option<Work> {
    let next = queue.pop_front();
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
    next
}

/// Whether a piece of work is a send, and whether it brings about an event for the connection itself.
fn kinds(work: &Work) -> (bool, bool) {
    let Work::Request(asked) = work else { return (false, false) };
    match asked.1.command {
        Command::Send(_) => (true, true),
        Command::Join { .. } | Command::Leave { .. } | Command::React(_) => (false, true),
        _ => (false, false),
    }
}

/// The conversation that a piece of work names.
fn place(work: &Work) -> Option<ConversationId> {
    let Work::Request(asked) = work else { return None };
    asked.1.command.conversation().cloned()
}

/// What distinguishes the bytes of a mount's clients besides their accent.
pub(super) fn style(mount: &Mount) -> Style {
    let socketio = mount.carried() == parlance_wire::Framing::Socketio;
    Style {
        namespace: (mount.namespace != "/").then(|| mount.namespace.as_str().into()),
        strip: mount.sanitize,
        offsets: socketio && mount.recovery,
    }
}
