//! What a client does, without sockets or clocks: the task hands it commands, frames and the time, and takes
//! away what to write and what to tell.
//!
//! Owns: the rules that tie outbox, typing, receipts and subscriptions together. Must not know: JSON names.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use parlance_model::{ReceiptKind, Status};
use serde_json::Value;

use crate::outbox::{Draft, Outbox, Rules};
use crate::seen::Seen;
use crate::speech::Speaker;
use crate::typing::Typing;
use crate::update::{Incoming, Message, Outgoing, Refusal, Update};
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

/// Typing in one conversation.
struct Keys {
    machine: Typing,
    to: Vec<String>,
}

/// See the module.
pub(crate) struct Engine {
    options: Options,
    outbox: Outbox,
    seen: Seen,
    states: HashMap<String, MessageState>,
    /// Own messages, oldest first: what `states` and `server_ids` remember.
    own: VecDeque<String>,
    /// Server id to own id, in dialects where they differ.
    server_ids: HashMap<String, String>,
    channels: BTreeSet<String>,
    status: Option<Status>,
    typing: HashMap<String, Keys>,
    keepalive_at: Option<Instant>,
    offline_words: VecDeque<Outgoing>,
    writes: VecDeque<Value>,
    updates: VecDeque<Update>,
    refused: Option<String>,
}

impl Engine {
    pub(crate) fn new(options: Options) -> Self {
        let rules =
            Rules { ack_timeout: options.ack_timeout, attempts: options.attempts, backoff: options.backoff };
        let conversations = options.conversations.iter().map(|id| format!("conversation:{id}"));
        Self {
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
            options,
        }
    }

    /// The next frame to write.
    pub(crate) fn poll_write(&mut self) -> Option<Value> {
        self.writes.pop_front()
    }

    /// The next thing to tell.
    pub(crate) fn poll_update(&mut self) -> Option<Update> {
        self.updates.pop_front()
    }

    /// Why the server will not have us, once it has said so on this connection.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    pub(crate) fn connected(&mut self, now: Instant) {
        self.refused = None;
        self.keepalive_at = Some(now + self.options.keepalive);
        self.updates.push_back(Update::Connected);
        self.say(&Outgoing::Hello);
        for channel in self.channels.clone() {
            self.say(&Outgoing::Subscribe { channel });
        }
        if let Some(status) = self.status {
            self.say(&Outgoing::Presence { status });
        }
        for word in std::mem::take(&mut self.offline_words) {
            self.say(&word);
        }
        self.pump(now);
    }

    pub(crate) fn disconnected(&mut self, reason: String, code: Option<u16>) {
        self.keepalive_at = None;
        self.writes.clear();
        // Nobody believes a vanished client to be typing: the server stops it by itself.
        self.typing.clear();
        self.outbox.disconnected();
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
            }
            Outgoing::Unsubscribe { channel } => {
                self.channels.remove(channel);
            }
            Outgoing::Presence { status } => self.status = Some(*status),
            _ => {}
        }
        let restored = matches!(
            word,
            Outgoing::Subscribe { .. } | Outgoing::Unsubscribe { .. } | Outgoing::Presence { .. }
        );
        if self.is_connected() {
            self.say(&word);
        } else if !restored {
            if self.offline_words.len() == OFFLINE_WORDS {
                self.offline_words.pop_front();
            }
            self.offline_words.push_back(word);
        }
    }

    pub(crate) fn frame(&mut self, frame: Value, now: Instant) {
        let meaning = self.speaker().decode(&frame);
        if self.options.raw {
            self.updates.push_back(Update::Raw(frame));
        }
        for said in meaning {
            self.hear(said, now);
        }
        self.pump(now);
    }

    /// When [`Self::timeout`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let keepalive = self.keepalive_at?;
        let typing = self.typing.values().filter_map(|keys| keys.machine.deadline());
        typing.chain(self.outbox.deadline()).chain([keepalive]).min()
    }

    /// Handles what is due; `chance`, drawn from `[0, 1)`, spreads the retries.
    pub(crate) fn timeout(&mut self, now: Instant, chance: f64) {
        if self.keepalive_at.is_some_and(|at| at <= now) {
            self.keepalive_at = Some(now + self.options.keepalive);
            self.say(&Outgoing::Keepalive);
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
        Speaker { dialect: self.options.dialect, user: &self.options.user, now: clock::now() }
    }

    fn say(&mut self, word: &Outgoing) {
        let frame = self.speaker().encode(word);
        self.writes.extend(frame);
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

    fn hear(&mut self, said: Incoming, now: Instant) {
        match said {
            Incoming::Acked { local_id, server_id } => self.acked(&local_id, server_id),
            Incoming::Refused(refusal) => self.refusal(refusal, now),
            Incoming::Message(message) => self.message(message),
            Incoming::Progress { id, state } => self.advance(&id, state),
            Incoming::Receipt { kind, conversation, ids, by } => {
                // Our own reading on another device says nothing about who read us.
                if by.as_deref() != Some(&self.options.user) {
                    ids.iter().for_each(|id| self.receipt(id, kind));
                }
                self.updates.push_back(Update::Receipt { kind, conversation, ids, by });
            }
            Incoming::Typing { conversation, user, on } => {
                self.updates.push_back(Update::Typing { conversation, user, on });
            }
            Incoming::Presence { user, status } => {
                self.updates.push_back(Update::Presence { user, status });
            }
            Incoming::Notification(payload) => self.updates.push_back(Update::Notification(payload)),
            Incoming::Maintenance { message } => self.updates.push_back(Update::Maintenance { message }),
            Incoming::App { kind, channel, payload } => {
                self.updates.push_back(Update::App { kind, channel, payload });
            }
            Incoming::Nothing => {}
        }
    }

    fn acked(&mut self, local_id: &str, server_id: Option<String>) {
        // An ack without a message of ours answers a subscription or the like.
        if !self.states.contains_key(local_id) {
            return;
        }
        self.outbox.settle(local_id);
        if let Some(server_id) = server_id {
            self.server_ids.insert(server_id, local_id.to_owned());
        }
        self.advance(local_id, MessageState::ServerAcked);
    }

    fn refusal(&mut self, refusal: Refusal, now: Instant) {
        if refusal.is_about_the_user() {
            self.refused = Some(format!("{}: {}", refusal.code, refusal.message));
        }
        let local_id =
            refusal.local_id.clone().filter(|id| self.outbox.contains(id)).or_else(|| {
                refusal.is_send.then(|| self.outbox.only_in_flight().map(str::to_owned)).flatten()
            });
        if let Some(id) = &local_id {
            let wait = refusal.retry_after_ms.map_or(self.options.backoff.base, Duration::from_millis);
            let again = refusal.may_pass_later() && self.outbox.postpone(id, now, wait);
            if !again {
                self.outbox.settle(id);
                self.advance(id, MessageState::Failed);
            }
        }
        self.updates.push_back(Update::Error { code: refusal.code, message: refusal.message, local_id });
    }

    fn message(&mut self, mut message: Message) {
        let is_own = message.from == self.options.user;
        if self.options.auto_receipts && !is_own {
            // Also for a repetition: the server may repeat it because our receipt was lost.
            self.say(&Outgoing::Receipt {
                kind: ReceiptKind::Delivered,
                conversation: message.conversation.clone(),
                id: message.id.clone(),
                author: message.from.clone(),
            });
        }
        if !self.seen.is_new(&message.from, &message.conversation, &message.id) {
            return;
        }
        if is_own {
            let known = |id: &String| self.states.contains_key(id);
            message.local_id =
                message.client_id.clone().filter(known).or_else(|| self.server_ids.get(&message.id).cloned());
        }
        self.updates.push_back(Update::Message(message));
    }

    fn receipt(&mut self, id: &str, kind: ReceiptKind) {
        let state = match kind {
            ReceiptKind::Delivered => MessageState::Delivered,
            ReceiptKind::Read => MessageState::Read,
        };
        let id = self.server_ids.get(id).cloned().unwrap_or_else(|| id.to_owned());
        self.advance(&id, state);
    }

    /// News about one of our own messages. "Delivered" without an ack before it implies the ack.
    fn advance(&mut self, id: &str, next: MessageState) {
        let Some(state) = self.states.get_mut(id) else { return };
        if !state.advance(next) {
            return;
        }
        let update = Update::State { local_id: id.to_owned(), state: next };
        if next.is_accepted() {
            self.outbox.settle(id);
        }
        self.updates.push_back(update);
    }

    fn remember(&mut self, id: &str) {
        self.states.insert(id.to_owned(), MessageState::LocalQueued);
        self.own.push_back(id.to_owned());
        // The queue itself is never forgotten, however small the memory.
        if self.own.len() > self.options.memory.max(2 * self.options.queue)
            && let Some(oldest) = self.own.pop_front()
        {
            self.states.remove(&oldest);
            self.server_ids.retain(|_, local| *local != oldest);
        }
    }
}
