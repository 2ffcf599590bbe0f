//! What the engine makes of what the server says.
//!
//! Owns: settling, dedupe, receipts. Must not know: JSON names.

use std::time::{Duration, Instant};

use parlance_model::ReceiptKind;
use serde_json::Value;

use super::{Engine, Heard, Message, MessageState, Outgoing, Over, Own, Update};
use crate::update::{Ask, Incoming, Refusal};

/// Codes, beside a refused CONNECT, of what passes.
const LATER: [&str; 4] = ["RATE_LIMITED", "SERVICE_UNAVAILABLE", "INTERNAL_ERROR", "INTERNAL"];
/// The same, said in words.
const UNAVAILABLE: &str = "Service temporarily unavailable";

impl Engine {
    /// A raw frame.
    pub(super) fn frame(&mut self, frame: Value, now: Instant) {
        let meaning = self.speaker().frame(&frame);
        self.tell_raw(|| frame);
        for said in meaning {
            self.hear(said, now);
        }
    }

    /// What Socket.IO made of a text.
    pub(super) fn all(&mut self, heard: Vec<Heard>, now: Instant) {
        for heard in heard {
            match heard {
                Heard::Write(text) => self.writes.push_back(text),
                Heard::Joined { recovered } => self.connected(recovered, now),
                Heard::Refused { message, data } => self.over = Some(turned_away(message, &data)),
                Heard::Event { name, args } => {
                    let meaning = self.speaker().event(&name, &args);
                    self.tell_raw(|| std::iter::once(name.into()).chain(args).collect());
                    meaning.into_iter().for_each(|said| self.hear(said, now));
                }
                Heard::Answer { ask, args } => {
                    let meaning = self.speaker().answer(&ask, &args);
                    let is_refused = meaning.iter().any(|said| matches!(said, Incoming::Refused(_)));
                    if let (Ask::Join { channel }, false) = (ask, is_refused) {
                        self.updates.push_back(Update::Joined { channel });
                    }
                    meaning.into_iter().for_each(|said| self.hear(said, now));
                }
                Heard::Left => self.over = Some(self.sent_away()),
                Heard::Broken(why) => self.over = Some(Over::Lost(why.to_owned())),
            }
        }
    }

    fn tell_raw(&mut self, frame: impl FnOnce() -> Value) {
        if self.options.raw {
            self.updates.push_back(Update::Raw(frame()));
        }
    }

    /// The server has ended the connection; what it said before tells whether for good.
    fn sent_away(&self) -> Over {
        match (&self.refused, &self.not_now) {
            (Some(reason), _) => Over::Refused { status: 401, reason: reason.clone() },
            (None, Some(reason)) => Over::Lost(reason.clone()),
            (None, None) => Over::Refused { status: 403, reason: "sent away by the server".to_owned() },
        }
    }

    pub(super) fn hear(&mut self, said: Incoming, now: Instant) {
        match said {
            Incoming::Acked { local_id, server_id } => self.acked(&local_id, server_id),
            Incoming::Refused(refusal) => self.refusal(refusal, now),
            Incoming::Message(message) => self.heard(message),
            Incoming::Synced { conversation, messages, more } => self.synced(&conversation, messages, more),
            Incoming::Welcome { conversations } => self.welcome(&conversations),
            Incoming::Closing { message, passes: true } => self.not_now = Some(message),
            Incoming::Closing { message, passes: false } => self.refused = Some(message),
            Incoming::Progress { id, state } => self.advance(&id, state),
            Incoming::Receipt { kind, conversation, ids, by, is_cursor } => {
                // Our own reading on another device says nothing about who read us.
                if by.as_deref() != Some(&self.options.user) {
                    let upto = is_cursor.then(|| self.own_up_to(conversation.as_deref(), &ids));
                    ids.iter().chain(upto.iter().flatten()).for_each(|id| self.receipt(id, kind));
                }
                self.updates.push_back(Update::Receipt { kind, conversation, ids, by });
            }
            Incoming::Typing { conversation, user, on } => {
                let conversation = self.named(conversation);
                self.updates.push_back(Update::Typing { conversation, user, on });
            }
            Incoming::Presence { user, status } => {
                self.updates.push_back(Update::Presence { user, status });
            }
            Incoming::Reaction { message, kind, user, on } => {
                self.updates.push_back(Update::Reaction { message, kind, user, on });
            }
            Incoming::Member { conversation, user, joined } => {
                let conversation = self.named(conversation);
                self.updates.push_back(Update::Member { conversation, user, joined });
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
        let settled = self.outbox.settle(local_id);
        if let (Some(server_id), Some(conversation)) = (server_id, settled) {
            self.server_ids.insert(server_id, Own { local_id: local_id.to_owned(), conversation });
        }
        self.advance(local_id, MessageState::ServerAcked);
    }

    /// Own messages of a conversation that are no newer than one of these: ids of a dialect with cursors are
    /// of one length and compare in order of age.
    fn own_up_to(&self, conversation: Option<&str>, ids: &[String]) -> Vec<String> {
        let passed = |id: &String| ids.iter().any(|last| id.len() == last.len() && id < last);
        let here = |own: &Own| conversation == Some(&*own.conversation);
        let own = self.server_ids.iter().filter(|(id, own)| here(own) && passed(id));
        own.map(|(id, _)| id.clone()).collect()
    }

    fn refusal(&mut self, refusal: Refusal, now: Instant) {
        let Refusal { is_echo, correlation_id, .. } = &refusal;
        let awaits = |id| self.io.as_ref().is_some_and(|io| io.awaits(id));
        if *is_echo && awaits(refusal.local_id.as_deref()) {
            return;
        }
        let correlation_id = correlation_id.clone();
        if refusal.is_about_the_user() {
            self.refused = Some(format!("{}: {}", refusal.code, refusal.message));
        }
        let local_id =
            refusal.local_id.clone().filter(|id| self.outbox.contains(id)).or_else(|| {
                refusal.is_send.then(|| self.outbox.only_in_flight().map(str::to_owned)).flatten()
            });
        if let Some(id) = &local_id {
            let wait = refusal.retry_after_ms.map(Duration::from_millis);
            let counts = !refusal.is_about_the_pace();
            let again = refusal.may_pass_later() && self.outbox.postpone(id, now, wait, counts);
            if !again {
                self.outbox.settle(id);
                self.advance(id, MessageState::Failed);
            }
        }
        let (code, message) = (refusal.code, refusal.message);
        self.updates.push_back(Update::Error { code, message, local_id, correlation_id });
    }

    /// What the application calls a conversation.
    fn named(&mut self, heard: String) -> String {
        match &mut self.places {
            Some(places) => places.name(&heard),
            None => heard,
        }
    }

    /// A message came live.
    fn heard(&mut self, mut message: Message) {
        if self.places.is_some() {
            self.learn(&message);
            message.conversation = self.named(message.conversation);
        }
        let told = match &mut self.places {
            Some(places) => places.heard(message),
            None => Some(message),
        };
        if let Some(message) = told {
            self.message(message);
        }
    }

    /// An own message tells how the server calls the conversation it was sent to.
    fn learn(&mut self, message: &Message) {
        let sent = message.client_id.as_deref().filter(|_| message.from == self.options.user);
        let waiting = sent.and_then(|id| self.outbox.conversation(id));
        let acked = || self.server_ids.get(&message.id).map(|own| &*own.conversation);
        let name = waiting.or_else(acked).map(str::to_owned);
        if let (Some(places), Some(name)) = (&mut self.places, name) {
            places.learn(&message.conversation, &name);
        }
    }

    /// A page of what was missed.
    fn synced(&mut self, name: &str, messages: Vec<Message>, more: bool) {
        let is_empty = messages.is_empty();
        for mut message in messages {
            self.learn(&message);
            name.clone_into(&mut message.conversation);
            if let Some(places) = &mut self.places {
                places.caught_up(&message);
            }
            self.message(message);
        }
        let Some(places) = &mut self.places else { return };
        if let (true, false, Some(since)) = (more, is_empty, places.last(name)) {
            let word = Outgoing::Sync { conversation: name.to_owned(), since: since.to_owned() };
            self.say(&word);
            return;
        }
        let waited = places.release(name);
        waited.into_iter().for_each(|message| self.message(message));
    }

    /// The server does not say what was missed: what waited for it is told.
    pub(super) fn stop_waiting(&mut self) {
        let waited = self.places.as_mut().map(crate::places::Places::release_all);
        waited.into_iter().flatten().for_each(|message| self.message(message));
    }

    /// Joins what the server has left out.
    fn welcome(&mut self, conversations: &[String]) {
        let is_in = |channel: &String| {
            crate::speech::conversation(channel).is_some_and(|id| conversations.iter().any(|c| c == id))
        };
        let missing: Vec<String> = self.channels.iter().filter(|c| !is_in(c)).cloned().collect();
        for channel in missing {
            self.say(&Outgoing::Subscribe { channel });
        }
    }

    /// Tells a message, once.
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
            message.local_id = message
                .client_id
                .clone()
                .filter(known)
                .or_else(|| self.server_ids.get(&message.id).map(|own| own.local_id.clone()));
        }
        self.updates.push_back(Update::Message(message));
    }

    fn receipt(&mut self, id: &str, kind: ReceiptKind) {
        let state = match kind {
            ReceiptKind::Delivered => MessageState::Delivered,
            ReceiptKind::Read => MessageState::Read,
        };
        let id = self.server_ids.get(id).map_or_else(|| id.to_owned(), |own| own.local_id.clone());
        self.advance(&id, state);
    }

    /// News about one of our own messages. "Delivered" without an ack before it implies the ack.
    pub(super) fn advance(&mut self, id: &str, next: MessageState) {
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
}

/// Whether a refused CONNECT is final: it is, unless it says otherwise.
fn turned_away(message: String, data: &Value) -> Over {
    let code = data.get("code").and_then(Value::as_str).unwrap_or_default();
    let passes = data.get("retryAfterMs").is_some() || LATER.contains(&code) || message == UNAVAILABLE;
    if passes { Over::Lost(message) } else { Over::Refused { status: 401, reason: message } }
}
