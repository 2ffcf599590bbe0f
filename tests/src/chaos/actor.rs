//! One client under load: it says what its role says, shows what it hears, catches up where its dialect asks for
//! that, and writes everything down.
//!
//! Owns: the application's part, on top of the client library. Must not know: faults.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parlance_client::{Backoff, Client, Dialect, Message, Options, ReceiptKind, Update};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::catchup::{Item, Reader, any_core};
use super::door::Targets;
use super::history::{Device, Recorder, Shown, What};
use super::plan::Role;
use super::progress::Progress;
use crate::token;

/// How long an application waits before it asks again for what failed.
const AGAIN: Duration = Duration::from_millis(700);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);

/// What the load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everybody comes in; nothing is said yet.
    Enter,
    /// Everybody talks.
    Load,
    /// Nothing new is said.
    Settle,
    /// Everybody goes.
    Stop,
}

/// What an actor is given.
pub struct Given {
    /// Who it is.
    pub role: Role,
    /// Members of all conversations.
    pub members: Arc<BTreeMap<String, Vec<String>>>,
    /// Where it connects, `host:port`.
    pub address: String,
    /// The nodes, for reading history.
    pub targets: Targets,
    /// Where it writes down.
    pub notes: Recorder,
    /// What everybody does.
    pub phase: watch::Receiver<Phase>,
    /// What the rig sees.
    pub progress: Progress,
}

/// See the module.
pub struct Actor {
    given: Given,
    client: Client,
    updates: mpsc::Receiver<Update>,
    token: String,
    dice: StdRng,
    /// Own messages by local id: their texts.
    own: HashMap<String, String>,
    said: u64,
    next_send: Instant,
    typing_until: Option<(String, Instant)>,
    seen: HashSet<(String, String)>,
    /// The newest id shown of each conversation, in whatever form.
    newest: BTreeMap<String, String>,
    catching: Catching,
}

/// What has been missed, for dialects whose clients read it themselves.
#[derive(Default)]
struct Catching {
    behind: bool,
    was_behind: bool,
    /// The server has said that what it knows is not what is: all of it is read anew.
    reloads: bool,
    missing: BTreeSet<String>,
    held: Vec<Message>,
    at: Option<Instant>,
}

impl Actor {
    /// Connects.
    ///
    /// # Errors
    /// When there can be no token.
    pub fn start(given: Given) -> Result<Self> {
        let role = &given.role;
        let token = token(&role.user)?;
        let mut options = Options::new(format!("ws://{}", given.address), role.dialect, &role.user)
            .over(role.framing)
            .token(&token);
        options.conversations.clone_from(&role.conversations);
        options.backoff =
            Backoff { base: Duration::from_millis(300), max: Duration::from_millis(1500), jitter: 0.5 };
        options.connect_timeout = Duration::from_secs(3);
        options.ack_timeout = Duration::from_secs(3);
        options.attempts = u32::MAX;
        options.raw = true;
        options.updates = 8192;
        options.memory = 100_000;
        given.notes.note(What::Device(Device {
            user: role.user.clone(),
            dialect: role.dialect.as_str().to_owned(),
            conversations: role.conversations.clone(),
        }));
        let (client, updates) = Client::connect(options);
        let dice = StdRng::seed_from_u64(role.seed);
        Ok(Self {
            client,
            updates,
            token,
            dice,
            own: HashMap::new(),
            said: 0,
            next_send: Instant::now() + Duration::from_millis(500),
            typing_until: None,
            seen: HashSet::new(),
            newest: BTreeMap::new(),
            catching: Catching::default(),
            given,
        })
    }

    /// Goes on until everybody is to go.
    ///
    /// # Errors
    /// When the server will have nothing of it.
    pub async fn run(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let phase = *self.given.phase.borrow();
            if phase == Phase::Stop {
                break;
            }
            tokio::select! {
                update = self.updates.recv() => match update {
                    Some(update) => self.heard(update),
                    None => break,
                },
                _ = tick.tick() => {
                    self.catch_up().await;
                    if phase == Phase::Load && !self.given.role.leaves {
                        self.talk();
                    }
                }
            }
        }
        self.given.notes.note(What::Left);
        self.client.close().await;
        self.given.notes.finish()
    }

    fn note(&self, what: What) {
        self.given.notes.note(what);
    }

    /// Whether its dialect leaves reading what was missed to the application.
    fn fetches(&self) -> bool {
        matches!(self.given.role.dialect, Dialect::Famly | Dialect::Lingochat | Dialect::Chatgenius)
    }

    fn talk(&mut self) {
        let now = Instant::now();
        if let Some((place, until)) = self.typing_until.take() {
            if now < until {
                self.press(&place);
                self.typing_until = Some((place, until));
            }
            return;
        }
        if now < self.next_send || !self.given.progress.is_connected() {
            return;
        }
        let pause = self.given.role.pause_ms;
        self.next_send = now + Duration::from_millis(self.dice.random_range(pause / 2..pause * 3 / 2));
        let conversations = &self.given.role.conversations;
        let place = conversations[self.dice.random_range(0..conversations.len())].clone();
        if self.dice.random_bool(0.15) {
            let span = Duration::from_millis(self.dice.random_range(200..4500));
            self.typing_until = Some((place.clone(), now + span));
            self.press(&place);
            return;
        }
        if self.given.progress.pending() < 50 {
            self.send(&place);
        }
    }

    fn press(&self, place: &str) {
        let to = self.given.members.get(place).map(Vec::as_slice).unwrap_or_default();
        let to: Vec<&str> = to.iter().map(String::as_str).filter(|m| *m != self.given.role.user).collect();
        // A client that is busy with a long queue types unheard.
        if self.given.progress.is_connected() && self.client.typing(place, &to).is_ok() {
            self.note(What::Typed { conversation: place.to_owned() });
        }
    }

    fn send(&mut self, place: &str) {
        self.said += 1;
        let body = format!("m~{place}~{}~{}", self.given.role.name, self.said);
        if let Ok(id) = self.client.send(place, &body, &[]) {
            self.note(What::Sent {
                conversation: place.to_owned(),
                body: body.clone(),
                client_id: id.clone(),
            });
            self.given.progress.with(|state| state.pending.insert(body.clone()));
            self.own.insert(id, body);
        }
    }

    fn heard(&mut self, update: Update) {
        match update {
            Update::Connected => self.connected(),
            Update::Recovered => {
                self.note(What::Recovered);
                self.catching.missing.clear();
                self.catching.behind = self.catching.was_behind;
                self.release();
            }
            Update::Disconnected { reason, code } => {
                self.given.progress.with(|state| state.connected = false);
                self.typing_until = None;
                self.note(What::Down { code, reason });
            }
            Update::Refused { status, reason } => {
                self.note(What::Refused { code: format!("refused {status}"), message: reason });
            }
            Update::Joined { channel } => self.joined(&channel),
            Update::Message(message) => self.message(message),
            Update::State { local_id, state } => self.state(&local_id, state),
            Update::Typing { conversation, user, on } => {
                self.note(What::Typing { conversation, user, on });
            }
            Update::Presence { user, status } => {
                self.note(What::Presence { user, online: status.is_online() });
            }
            Update::Receipt { kind, conversation, ids, by } => {
                self.note(What::Receipt { read: kind == ReceiptKind::Read, conversation, ids, by });
            }
            Update::Error { code, message, local_id, .. } => {
                if local_id.is_none() {
                    self.ask_again();
                }
                self.note(What::Refused { code, message });
            }
            Update::Raw(frame) => self.raw(&frame),
            _ => {}
        }
    }

    fn connected(&mut self) {
        self.note(What::Up);
        self.given.progress.with(|state| state.connected = true);
        if self.fetches() {
            self.catching.was_behind = self.catching.behind;
            self.catching.behind = true;
            self.catching.missing = self.given.role.conversations.iter().cloned().collect();
        }
    }

    fn joined(&mut self, channel: &str) {
        if let Some(place) = channel.strip_prefix("conversation:") {
            self.catching.missing.remove(place);
        }
    }

    /// Something that is not a message failed: entering a room, perhaps.
    fn ask_again(&mut self) {
        if self.catching.at.is_none() {
            self.catching.at = Some(Instant::now() + AGAIN);
        }
    }

    fn state(&mut self, local_id: &str, state: parlance_client::MessageState) {
        let Some(body) = self.own.get(local_id).cloned() else { return };
        if !state.is_settled() || !self.given.progress.with(|all| all.pending.remove(&body)) {
            return;
        }
        if state.is_accepted() {
            self.given.progress.with(|all| all.acked += 1);
            self.note(What::Acked { body, id: None });
        } else {
            self.note(What::Failed { body });
        }
    }

    fn raw(&mut self, frame: &Value) {
        let text = frame.to_string();
        for piece in text.split("m~").skip(1) {
            let Some((place, _)) = piece.split_once('~') else { continue };
            if place.bytes().all(|b| b.is_ascii_digit())
                && !self.given.role.conversations.iter().any(|c| c == place)
            {
                self.note(What::Glimpse { conversation: place.to_owned(), frame: text.clone() });
            }
        }
        if text.contains("\"resync\":true") || text.contains(":resync\"") {
            self.note(What::Told { kind: "resync".to_owned() });
            self.catching.was_behind = true;
            self.catching.behind = true;
            self.catching.reloads = true;
        }
        let is_welcome = frame.get(0).and_then(Value::as_str) == Some("connection:success");
        if let (true, Some(channels)) = (is_welcome, frame.pointer("/1/channels").and_then(Value::as_array)) {
            for channel in channels.iter().filter_map(Value::as_str) {
                self.catching.missing.remove(channel);
            }
        }
    }

    fn message(&mut self, message: Message) {
        if self.catching.behind {
            self.catching.held.push(message);
        } else {
            self.show(message);
        }
    }

    fn release(&mut self) {
        if !self.catching.behind {
            for message in std::mem::take(&mut self.catching.held) {
                self.show(message);
            }
        }
    }

    fn show(&mut self, message: Message) {
        let core = any_core(&message.id);
        let key = core.map_or_else(|| message.id.clone(), |core| format!("{core:?}"));
        if core.is_some() {
            self.newest.insert(message.conversation.clone(), message.id.clone());
        }
        let is_own = message.from == self.given.role.user;
        let shown = Shown {
            conversation: message.conversation.clone(),
            id: message.id.clone(),
            from: message.from.clone(),
            body: message.body.clone(),
            fetched: false,
        };
        if self.display(key, shown) && !is_own && self.dice.random_bool(0.3) {
            self.mark(&message);
        }
    }

    fn mark(&self, message: &Message) {
        if self.client.mark_read(message).is_ok() {
            self.note(What::Marked { id: message.id.clone(), author: message.from.clone() });
        }
    }

    /// Shows what was not shown yet; whether it was.
    fn display(&mut self, key: String, shown: Shown) -> bool {
        if !self.seen.insert((shown.conversation.clone(), key)) {
            return false;
        }
        let (place, body) = (shown.conversation.clone(), shown.body.clone());
        self.given.progress.with(|state| state.shown.entry(place).or_default().insert(body));
        self.note(What::Shown(shown));
        true
    }

    /// Throws away what was shown of a conversation.
    fn forget(&mut self, place: &str) {
        self.seen.retain(|(conversation, _)| conversation != place);
        // SeChat's ids are the author's own: a message that is appended anew is no new one to the client library.
        if self.given.role.dialect != Dialect::Sechat {
            self.given.progress.with(|state| drop(state.shown.remove(place)));
        }
        self.note(What::Reloaded { conversation: place.to_owned() });
    }

    fn fetched(&mut self, place: &str, item: Item) {
        // SeChat names a message as its author's client did.
        let is_sechat = self.given.role.dialect == Dialect::Sechat;
        let named = item.client_id.as_ref().filter(|_| is_sechat);
        let core = any_core(&item.id);
        let key = match (named, core) {
            (Some(id), _) => id.clone(),
            (None, Some(core)) => format!("{core:?}"),
            (None, None) => item.id.clone(),
        };
        self.newest.insert(place.to_owned(), item.id.clone());
        let shown = Shown {
            conversation: place.to_owned(),
            id: item.id,
            from: item.sender,
            body: item.body,
            fetched: true,
        };
        self.display(key, shown);
    }

    /// Enters what could not be entered, and reads what was missed once everything is entered.
    async fn catch_up(&mut self) {
        let now = Instant::now();
        if !self.given.progress.is_connected() {
            return;
        }
        if self.catching.at.is_some_and(|at| at <= now) {
            self.catching.at = None;
            self.enter_again(now);
        }
        if self.catching.behind && self.catching.missing.is_empty() && self.catching.at.is_none() {
            match self.fetch().await {
                Ok(()) => {
                    self.catching.reloads = false;
                    self.catching.behind = false;
                    self.catching.was_behind = false;
                    self.release();
                }
                Err(error) => {
                    self.note(What::Refused { code: "history".to_owned(), message: format!("{error:#}") });
                    self.catching.at = Some(now + AGAIN);
                }
            }
        }
    }

    fn enter_again(&mut self, now: Instant) {
        let is_socialhub = self.given.role.dialect == Dialect::Socialhub;
        let places = self.given.role.conversations.iter();
        let places = places.filter(|c| is_socialhub || self.catching.missing.contains(*c));
        let mut done = true;
        for place in places {
            done &= self.client.subscribe(&format!("conversation:{place}")).is_ok();
        }
        if !done {
            // Refused for want of room: the next turn asks again.
            self.catching.at = Some(now + AGAIN);
        }
    }

    async fn fetch(&mut self) -> Result<()> {
        let targets = self.given.targets.all();
        anyhow::ensure!(!targets.is_empty(), "no node is ready");
        let target = &targets[self.dice.random_range(0..targets.len())];
        let token = self.token.clone();
        let reader = Reader { address: &target.address, bearer: &token };
        for place in self.given.role.conversations.clone() {
            let reloads = self.catching.reloads;
            let after = self.newest.get(&place).filter(|_| !reloads).cloned();
            let read = match reader.all(&place, after.as_deref()).await {
                // What it knew is not there any more: from the beginning.
                Err(error) if after.is_some() && error.to_string().starts_with('4') => {
                    reader.all(&place, None).await
                }
                other => other,
            };
            let read = match read {
                Err(error) if error.to_string().starts_with("403") => {
                    self.note(What::Refused { code: "history".to_owned(), message: error.to_string() });
                    continue;
                }
                other => other?,
            };
            if reloads {
                self.forget(&place);
            }
            if read.truncated {
                self.note(What::Told { kind: "truncated".to_owned() });
            }
            for item in read.items {
                self.fetched(&place, item);
            }
        }
        Ok(())
    }
}
