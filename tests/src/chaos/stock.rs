//! One client that is the stock socket.io-client, speaks Famly, and does what the dialect's page asks of its
//! application: entering chats after a session that was not recovered, reading what was missed, resending.
//!
//! Must not know: faults.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::actor::{Given, Phase};
use super::catchup::{Reader, any_core};
use super::history::{Device, Shown, What};
use crate::stock::Report;
use crate::{ConnectOptions, Stock, StockSocket, Transports, token};

/// How long an application waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits after a refusal.
const AGAIN: Duration = Duration::from_millis(700);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);

/// A message on its way; one at a time, so that they keep their order.
struct Outgoing {
    place: String,
    body: String,
    /// Under which numbers it was emitted.
    tags: Vec<u64>,
    next: Instant,
}

/// See the module.
pub struct StockActor {
    given: Given,
    socket: StockSocket,
    token: String,
    dice: StdRng,
    said: u64,
    next_send: Instant,
    outgoing: Option<Outgoing>,
    /// Chats that are asked to be entered, by the number of the question.
    entering: BTreeMap<u64, String>,
    entered: bool,
    /// It has to enter its chats and read what it missed, not before then.
    behind: Option<Instant>,
    reloads: bool,
    held: VecDeque<Value>,
    seen: HashSet<String>,
    newest: BTreeMap<String, String>,
    /// When it connects by itself, where the library does not.
    returns: Option<Instant>,
}

impl StockActor {
    /// Connects.
    ///
    /// # Errors
    /// When there can be no token, or the process is gone.
    pub fn start(given: Given, stock: &Stock, transports: Transports) -> Result<Self> {
        let role = &given.role;
        let token = token(&role.user)?;
        given.notes.note(What::Device(Device {
            user: role.user.clone(),
            dialect: role.dialect.as_str().to_owned(),
            conversations: role.conversations.clone(),
        }));
        let options = ConnectOptions::new(transports).path("/socket.io/").auth(json!({ "token": token }));
        let options = options.set("reconnectionDelay", json!(300)).set("reconnectionDelayMax", json!(1500));
        // A connection for each request: another node each time, and what its XMLHttpRequest sends again after the reset
        // of a kept connection has no end, and waits for the gateway's patience with that.
        let alone = json!({ "polling": { "extraHeaders": { "connection": "close" } } });
        let options = options.set("transportOptions", alone).set("timeout", json!(3000));
        let socket = stock.connect(&given.address, options)?;
        Ok(Self {
            socket,
            token,
            dice: StdRng::seed_from_u64(role.seed),
            said: 0,
            next_send: Instant::now(),
            outgoing: None,
            entering: BTreeMap::new(),
            entered: false,
            behind: None,
            reloads: false,
            held: VecDeque::new(),
            seen: HashSet::new(),
            newest: BTreeMap::new(),
            returns: None,
            given,
        })
    }

    /// Goes on until everybody is to go.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn run(mut self) -> Result<()> {
        loop {
            let phase = *self.given.phase.borrow();
            if phase == Phase::Stop {
                break;
            }
            for report in self.socket.taken().await? {
                self.heard(report);
            }
            if self.returns.is_some_and(|at| at <= Instant::now()) {
                self.returns = None;
                self.socket.reconnect()?;
            }
            self.catch_up().await?;
            self.talk(phase)?;
            tokio::time::sleep(TICK).await;
        }
        self.note(What::Left);
        self.socket.disconnect()?;
        self.given.notes.finish()
    }

    fn note(&self, what: What) {
        self.given.notes.note(what);
    }

    fn heard(&mut self, report: Report) {
        match report {
            Report::Connect(connected) => self.connected(connected.recovered),
            Report::Disconnect { reason } => {
                self.given.progress.with(|state| state.connected = false);
                // The library leaves it at that when the server asked for it.
                if reason == "io server disconnect" {
                    self.returns = Some(Instant::now() + AGAIN);
                }
                self.note(What::Down { code: None, reason });
            }
            Report::ConnectError(refused) => {
                // So, too, when the server had a word for it.
                if refused.data.is_some() {
                    self.returns = Some(Instant::now() + AGAIN);
                }
                self.note(What::Refused { code: "connect".to_owned(), message: refused.message });
            }
            Report::Event(event) => {
                let payload = event.args.into_iter().next().unwrap_or_default();
                self.event(&event.name, payload);
            }
            Report::Ack { tag, args, .. } => {
                let answer = args.and_then(|args| args.into_iter().next()).unwrap_or_default();
                self.answered(tag, &answer);
            }
            Report::Upgrade { .. } | Report::ReconnectAttempt { .. } => {}
        }
    }

    fn connected(&mut self, recovered: bool) {
        self.returns = None;
        self.note(What::Up);
        // Questions from before are not answered any more.
        self.entering.clear();
        if recovered {
            self.note(What::Recovered);
        } else {
            self.entered = false;
            self.behind = Some(Instant::now());
        }
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.next = Instant::now();
        }
        self.given.progress.with(|state| state.connected = true);
    }

    fn event(&mut self, name: &str, payload: Value) {
        let text = |field: &str| payload[field].as_str().unwrap_or_default().to_owned();
        match name {
            "message:new" => self.message(payload),
            "message:notification" => self.message(payload["message"].clone()),
            "presence:update" => {
                self.note(What::Presence { user: text("userId"), online: text("status") == "online" });
            }
            "typing:update" => {
                let (conversation, user) = (text("chatId"), text("userId"));
                self.note(What::Typing { conversation, user, on: text("state") == "start" });
            }
            "receipt:update" => self.note(What::Receipt {
                read: true,
                conversation: Some(text("chatId")),
                ids: vec![text("messageId")],
                by: Some(text("userId")),
            }),
            "chat:resync" => {
                self.note(What::Told { kind: "resync".to_owned() });
                self.behind = Some(Instant::now());
                self.reloads = true;
            }
            _ => {}
        }
    }

    fn message(&mut self, message: Value) {
        let place = message["chatId"].as_str().unwrap_or_default();
        if !self.given.role.conversations.iter().any(|mine| mine == place) {
            let (conversation, frame) = (place.to_owned(), message.to_string());
            self.note(What::Glimpse { conversation, frame });
        }
        if self.behind.is_some() {
            self.held.push_back(message);
        } else {
            self.show(&message);
        }
    }

    fn show(&mut self, message: &Value) {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        self.display(Shown {
            conversation: text("chatId"),
            id: text("_id"),
            from: text("senderId"),
            body: text("body"),
            fetched: false,
        });
    }

    fn display(&mut self, shown: Shown) {
        let key = any_core(&shown.id).map_or_else(|| shown.id.clone(), |core| format!("{core:?}"));
        self.newest.insert(shown.conversation.clone(), shown.id.clone());
        if self.seen.insert(format!("{} {key}", shown.conversation)) {
            let (place, body) = (shown.conversation.clone(), shown.body.clone());
            self.given.progress.with(|state| state.shown.entry(place).or_default().insert(body));
            self.note(What::Shown(shown));
        }
    }

    fn answered(&mut self, tag: u64, answer: &Value) {
        let is_well = answer["ok"] == true;
        let code = answer["error"].as_str().unwrap_or("unknown").to_owned();
        if let Some(place) = self.entering.remove(&tag) {
            // Who is no member any more has nothing to enter.
            if is_well || code == "FORBIDDEN" {
                self.entered = self.entering.is_empty();
            } else {
                self.note(What::Refused { code, message: format!("entering {place}") });
                self.behind = Some(Instant::now() + AGAIN);
                self.entering.clear();
            }
            return;
        }
        let Some(outgoing) = self.outgoing.take_if(|outgoing| outgoing.tags.contains(&tag)) else { return };
        let body = outgoing.body.clone();
        if is_well {
            let id = answer["data"]["serverId"].as_str().map(str::to_owned);
            self.given.progress.with(|state| {
                state.acked += 1;
                state.pending.remove(&body)
            });
            self.note(What::Acked { body, id });
        } else if matches!(code.as_str(), "INTERNAL" | "RATE_LIMITED") {
            self.note(What::Refused { code, message: body });
            self.outgoing = Some(Outgoing { next: Instant::now() + AGAIN, ..outgoing });
        } else {
            self.given.progress.with(|state| state.pending.remove(&body));
            self.note(What::Refused { code, message: body.clone() });
            self.note(What::Failed { body });
        }
    }

    fn talk(&mut self, phase: Phase) -> Result<()> {
        let now = Instant::now();
        if phase == Phase::Load && self.outgoing.is_none() && now >= self.next_send {
            let pause = self.given.role.pause_ms;
            self.next_send = now + Duration::from_millis(self.dice.random_range(pause / 2..pause * 3 / 2));
            self.said += 1;
            let places = &self.given.role.conversations;
            let place = places[self.dice.random_range(0..places.len())].clone();
            let body = format!("m~{place}~{}~{}", self.given.role.name, self.said);
            self.given.progress.with(|state| state.pending.insert(body.clone()));
            let (conversation, client_id) = (place.clone(), body.clone());
            self.note(What::Sent { conversation, body: body.clone(), client_id });
            self.outgoing = Some(Outgoing { place, body, tags: Vec::new(), next: now });
        }
        let is_connected = self.given.progress.is_connected();
        if let Some(outgoing) = self.outgoing.as_mut().filter(|it| is_connected && it.next <= now) {
            let Outgoing { place, body, .. } = outgoing;
            let message = json!({ "chatId": place, "body": body, "clientId": body });
            outgoing.tags.push(self.socket.emit_tagged("message:send", &[message])?);
            outgoing.next = now + PATIENCE;
        }
        Ok(())
    }

    /// Enters the chats, and when it is in all of them reads what it missed.
    async fn catch_up(&mut self) -> Result<()> {
        let now = Instant::now();
        let is_due = self.behind.is_some_and(|at| at <= now) && self.given.progress.is_connected();
        if !is_due || !self.entering.is_empty() {
            return Ok(());
        }
        if !self.entered {
            for place in &self.given.role.conversations {
                let tag = self.socket.emit_tagged("room:join", &[json!({ "chatId": place })])?;
                self.entering.insert(tag, place.clone());
            }
            return Ok(());
        }
        match self.fetch().await {
            Ok(()) => {
                (self.behind, self.reloads) = (None, false);
                for message in std::mem::take(&mut self.held) {
                    self.show(&message);
                }
            }
            Err(error) => {
                self.note(What::Refused { code: "history".to_owned(), message: format!("{error:#}") });
                self.behind = Some(now + AGAIN);
            }
        }
        Ok(())
    }

    async fn fetch(&mut self) -> Result<()> {
        let targets = self.given.targets.all();
        ensure!(!targets.is_empty(), "no node is ready");
        let address = targets[self.dice.random_range(0..targets.len())].address.clone();
        for place in self.given.role.conversations.clone() {
            let reader = Reader { address: &address, bearer: &self.token };
            let after = self.newest.get(&place).filter(|_| !self.reloads);
            let read = match reader.all(&place, after.map(String::as_str)).await {
                // What it knew is not there any more: from the beginning.
                Err(error) if after.is_some() && error.to_string().starts_with("40") => {
                    reader.all(&place, None).await
                }
                other => other,
            };
            let read = match read {
                Err(error) if error.to_string().starts_with("403") => continue,
                other => other.with_context(|| place.clone())?,
            };
            if self.reloads {
                self.seen.retain(|key| !key.starts_with(&format!("{place} ")));
                self.given.progress.with(|state| drop(state.shown.remove(&place)));
                self.note(What::Reloaded { conversation: place.clone() });
            }
            if read.truncated {
                self.note(What::Told { kind: "truncated".to_owned() });
            }
            for item in read.items {
                self.display(Shown {
                    conversation: place.clone(),
                    id: item.id,
                    from: item.sender,
                    body: item.body,
                    fetched: true,
                });
            }
        }
        Ok(())
    }
}
