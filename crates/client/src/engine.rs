//! What a client does, without sockets or clocks: the task hands it commands, texts and the time, and takes
//! away what to write and what to tell.
//!
//! Owns: the rules that tie outbox, typing, receipts and subscriptions together; what is heard is in `hear`.
//! Must not know: JSON names.

mod hear;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use parlance_model::Status;
use parlance_wire::{Dialect, Framing};

use crate::io::{Heard, Session};
use crate::outbox::{Draft, Outbox};
use crate::places::Places;
use crate::seen::Seen;
use crate::speech::{Speaker, Utterance, conversation};
use crate::typing::Typing;
use crate::update::{Message, Outgoing, Update};
use crate::{MessageState, Options, clock};

/// Things said while offline that wait for the next connection; older ones are dropped.
const OFFLINE_WORDS: usize = 256;

/// What the application asks.
#[derive(Debug)]
pub(crate) enum Order {
    Send(Draft),
    TypingInput { conversation: String, to: Vec<String> },
    TypingStop { conversation: String },
    Say(Outgoing),
}

/// Why a connection is to be given up.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Over {
    /// It is of no use; another may be.
    Lost(String),
    /// The server will not have us.
    Refused { status: u16, reason: String },
}

/// An own message, as far as receipts need to know it.
struct Own {
    local_id: String,
    conversation: String,
}

/// Typing in one conversation.
struct Keys {
    machine: Typing,
    to: Vec<String>,
}

/// See the module.
pub(crate) struct Engine {
    options: Options,
    /// What carries events, where frames are not enough.
    io: Option<Session>,
    outbox: Outbox,
    seen: Seen,
    states: HashMap<String, MessageState>,
    /// Own messages, oldest first: what `states` and `server_ids` remember.
    own: VecDeque<String>,
    /// Server id to own message, in dialects where the ids differ.
    server_ids: HashMap<String, Own>,
    /// Where the server names conversations otherwise.
    places: Option<Places>,
    channels: BTreeSet<String>,
    status: Option<Status>,
    typing: HashMap<String, Keys>,
    keepalive_at: Option<Instant>,
    offline_words: VecDeque<Outgoing>,
    writes: VecDeque<String>,
    updates: VecDeque<Update>,
    /// The server will not have us, or not now; once it has said so on this connection.
    refused: Option<String>,
    not_now: Option<String>,
    over: Option<Over>,
    /// There was a connection before this one.
    is_back: bool,
}

impl Engine {
    pub(crate) fn new(options: Options) -> Self {
        let rules = options.rules();
        let conversations = options.conversations.iter().map(|id| format!("conversation:{id}"));
        let is_io = options.framing == Framing::Socketio;
        let mut places = (options.dialect == Dialect::Lingochat).then(Places::default);
        if let Some(places) = &mut places {
            let now = clock::now().to_iso();
            options.conversations.iter().for_each(|name| places.open(name, &now));
        }
        Self {
            io: is_io.then(|| Session::new(options.auth())),
            places,
            outbox: Outbox::new(rules),
            seen: Seen::new(options.memory),
            states: HashMap::new(),
            own: VecDeque::new(),
            server_ids: HashMap::new(),
            channels: conversations.chain(options.channels.iter().cloned()).collect(),
            status: None,
            typing: HashMap::new(),
            keepalive_at: None,
            offline_words: VecDeque::new(),
            writes: VecDeque::new(),
            updates: VecDeque::new(),
            refused: None,
            not_now: None,
            over: None,
            is_back: false,
            options,
        }
    }

    /// The next text to write.
    pub(crate) fn poll_write(&mut self) -> Option<String> {
        self.writes.pop_front()
    }

    /// The next thing to tell.
    pub(crate) fn poll_update(&mut self) -> Option<Update> {
        self.updates.pop_front()
    }

    /// Why this connection is to be given up, once there is a reason.
    pub(crate) fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Why the server will not have us, once it has said so on this connection.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What is written last when the client closes the connection.
    pub(crate) fn goodbye(&self) -> Option<String> {
        self.io.as_ref().and_then(Session::goodbye)
    }

    /// A transport is there.
    pub(crate) fn opened(&mut self, now: Instant) {
        (self.refused, self.not_now, self.over) = (None, None, None);
        match &mut self.io {
            Some(io) => io.opened(now + self.options.connect_timeout),
            None => self.connected(false, now),
        }
        self.pump(now);
    }

    fn connected(&mut self, recovered: bool, now: Instant) {
        self.keepalive_at = Some(now + self.options.keepalive);
        self.updates.push_back(Update::Connected);
        if recovered {
            self.updates.push_back(Update::Recovered);
        }
        self.say(&Outgoing::Hello);
        // ChatGenius puts us where we belong, says so, and tells others of whoever joins on top of that.
        if self.options.dialect != Dialect::Chatgenius {
            for channel in self.channels.clone() {
                self.say(&Outgoing::Subscribe { channel });
            }
        }
        if std::mem::replace(&mut self.is_back, true)
            && let Some(places) = &mut self.places
        {
            for (conversation, since) in places.reconnected(recovered) {
                self.say(&Outgoing::Sync { conversation, since });
            }
        }
        if let Some(status) = self.status {
            self.say(&Outgoing::Presence { status });
        }
        for word in std::mem::take(&mut self.offline_words) {
            self.say(&word);
        }
    }

    pub(crate) fn disconnected(&mut self, reason: String, code: Option<u16>) {
        self.keepalive_at = None;
        self.writes.clear();
        // Nobody believes a vanished client to be typing: the server stops it by itself.
        self.typing.clear();
        self.outbox.disconnected();
        if let Some(io) = &mut self.io {
            io.closed();
        }
        self.updates.push_back(Update::Disconnected { reason, code });
    }

    pub(crate) fn order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Send(draft) => {
                self.stop_typing(&draft.conversation.clone());
                self.remember(&draft.id);
                self.updates.push_back(Update::State {
                    local_id: draft.id.clone(),
                    state: MessageState::LocalQueued,
                });
                self.outbox.push(draft);
            }
            Order::TypingInput { conversation, to } => {
                if self.is_connected() {
                    let timings = self.options.typing;
                    let fresh = || Keys { machine: Typing::new(timings), to: Vec::new() };
                    let keys = self.typing.entry(conversation).or_insert_with(fresh);
                    keys.to = to;
                    keys.machine.input(now);
                }
            }
            Order::TypingStop { conversation } => self.stop_typing(&conversation),
            Order::Say(word) => self.take_word(word),
        }
        self.pump(now);
    }

    /// Keeps what must outlive the connection, and says the rest now or on the next one.
    fn take_word(&mut self, word: Outgoing) {
        match &word {
            Outgoing::Subscribe { channel } => {
                self.channels.insert(channel.clone());
                if let (Some(places), Some(name)) = (&mut self.places, conversation(channel)) {
                    places.open(name, &clock::now().to_iso());
                }
            }
            Outgoing::Unsubscribe { channel } => {
                self.channels.remove(channel);
                if let (Some(places), Some(name)) = (&mut self.places, conversation(channel)) {
                    places.close(name);
                }
            }
            Outgoing::Presence { status } => self.status = Some(*status),
            _ => {}
        }
        let restored = match word {
            Outgoing::Presence { .. } => true,
            Outgoing::Subscribe { .. } | Outgoing::Unsubscribe { .. } => {
                self.options.dialect != Dialect::Chatgenius
            }
            _ => false,
        };
        if self.is_connected() {
            self.say(&word);
        } else if !restored {
            if self.offline_words.len() == OFFLINE_WORDS {
                self.offline_words.pop_front();
            }
            self.offline_words.push_back(word);
        }
    }

    /// A text came.
    pub(crate) fn text(&mut self, text: &str, now: Instant) {
        match &mut self.io {
            Some(io) => {
                let heard = io.text(text, now);
                self.all(heard, now);
            }
            None => match serde_json::from_str(text) {
                Ok(frame) => self.frame(frame, now),
                Err(error) => tracing::warn!(%error, "a frame that is not JSON"),
            },
        }
        self.pump(now);
    }

    /// Bytes came: an attachment, where there are any.
    pub(crate) fn binary(&mut self, bytes: Bytes, now: Instant) {
        if let Some(io) = &mut self.io {
            let heard = io.binary(bytes, now);
            self.all(heard, now);
            self.pump(now);
        }
    }

    /// When [`Self::timeout`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let silence = self.io.as_ref().and_then(Session::deadline);
        let Some(keepalive) = self.keepalive_at else { return silence };
        let typing = self.typing.values().filter_map(|keys| keys.machine.deadline());
        typing.chain(self.outbox.deadline()).chain([keepalive]).chain(silence).min()
    }

    /// Handles what is due; `chance`, drawn from `[0, 1)`, spreads the retries.
    pub(crate) fn timeout(&mut self, now: Instant, chance: f64) {
        if self.io.as_ref().and_then(Session::deadline).is_some_and(|at| at <= now) {
            self.over = Some(Over::Lost("the server fell silent".to_owned()));
            return;
        }
        if self.keepalive_at.is_some_and(|at| at <= now) {
            self.keepalive_at = Some(now + self.options.keepalive);
            self.say(&Outgoing::Keepalive);
            self.stop_waiting();
        }
        let mut words = Vec::new();
        for (conversation, keys) in &mut self.typing {
            if let Some(on) = keys.machine.poll(now) {
                words.push(Outgoing::Typing { conversation: conversation.clone(), to: keys.to.clone(), on });
            }
        }
        self.typing.retain(|_, keys| keys.machine.deadline().is_some());
        words.iter().for_each(|word| self.say(word));
        for id in self.outbox.expire(now, chance) {
            self.advance(&id, MessageState::Failed);
        }
        self.pump(now);
    }

    fn is_connected(&self) -> bool {
        self.keepalive_at.is_some()
    }

    fn speaker(&self) -> Speaker<'_> {
        let Options { dialect, framing, user, .. } = &self.options;
        Speaker { dialect: *dialect, framing: *framing, user, now: clock::now() }
    }

    fn say(&mut self, word: &Outgoing) {
        let text = match self.speaker().encode(word) {
            Some(Utterance::Frame(frame)) => Some(frame.to_string()),
            Some(Utterance::Event(event)) => self.io.as_mut().map(|io| io.write(event)),
            None => None,
        };
        self.writes.extend(text);
    }

    /// Writes the messages whose turn it is.
    fn pump(&mut self, now: Instant) {
        if self.is_connected() {
            for (id, word) in self.outbox.take_due(now) {
                self.say(&word);
                self.advance(&id, MessageState::SocketSent);
            }
        }
    }

    fn stop_typing(&mut self, conversation: &str) {
        if let Some(mut keys) = self.typing.remove(conversation)
            && keys.machine.stop()
        {
            self.say(&Outgoing::Typing { conversation: conversation.to_owned(), to: keys.to, on: false });
        }
    }

    fn remember(&mut self, id: &str) {
        self.states.insert(id.to_owned(), MessageState::LocalQueued);
        self.own.push_back(id.to_owned());
        // The queue itself is never forgotten, however small the memory.
        if self.own.len() > self.options.memory.max(2 * self.options.queue)
            && let Some(oldest) = self.own.pop_front()
        {
            self.states.remove(&oldest);
            self.server_ids.retain(|_, own| own.local_id != oldest);
        }
    }
}
