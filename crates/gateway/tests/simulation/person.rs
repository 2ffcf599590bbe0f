//! One device of a person: connects anywhere, listens, says something, types, confirms, goes and comes back. It keeps
//! what was not acknowledged and sends it again, in order, under the same id, as the documented clients do.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Fault;
use parlance_gateway::commands;
use parlance_gateway::session::Bare;
use parlance_model::{
    Command, ConversationId, Identity, Receipt, ReceiptKind, ReceiptTarget, Reject, Send, Time, TypingChange,
    UserId,
};
use parlance_wire::websocket;
use tokio::time::{Instant, sleep, timeout};

use super::diary::{Session, Typed, Word};
use super::random::Random;
use super::world::{Host, World};

/// A server's pings come that often; nothing else need come from a client.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// A client gives an answer up after so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A transport without a byte is closed by its node after so long.
const SILENCE: Duration = Duration::from_secs(45);

type Doing<T> = Pin<Box<dyn Future<Output = T> + std::marker::Send>>;

/// A device.
pub struct Person {
    pub world: Arc<World>,
    pub user: UserId,
    pub device: u64,
    /// Connected in the end.
    pub stays: bool,
}

/// What a device keeps from one connection to the next.
struct Memory {
    random: Random,
    said: u64,
    unsent: VecDeque<(ConversationId, Arc<str>)>,
    /// The newest message of another one.
    newest: Option<(UserId, Arc<str>)>,
}

enum Did {
    Sent(Arc<str>, bool),
    Typed(usize),
    Other,
}

pub fn identity(user: &UserId) -> Identity {
    Identity {
        user: user.clone(),
        name: None,
        username: None,
        picture: None,
        expires_at: Time(u64::MAX),
        issued_at: None,
        token_id: None,
        token_hash: 0,
        verified: false,
        proof: parlance_model::Proof::None,
        claims: None,
    }
}

impl Person {
    /// Until the run ends.
    pub async fn live(self, random: Random) {
        let mut memory = Memory { random, said: 0, unsent: VecDeque::new(), newest: None };
        loop {
            sleep(Duration::from_millis(50 + memory.random.below(3000))).await;
            if self.world.is_calm() && !self.stays {
                return;
            }
            let Some(host) = self.world.any_host(&mut memory.random) else { continue };
            let mount = Arc::new(host.node.config.load().mounts[0].clone());
            let opened =
                timeout(PATIENCE, Bare::open(&host.node, &mount, Arc::new(identity(&self.user)))).await;
            if let Ok(Ok(bare)) = opened {
                self.connection(&mut memory, &host, Arc::new(bare)).await;
            }
        }
    }

    async fn connection(&self, memory: &mut Memory, host: &Arc<Host>, bare: Arc<Bare>) {
        let session = self.world.diary.lock().open(Session {
            user: self.user.clone(),
            device: self.device,
            node: host.name.to_string(),
            from: self.world.now(),
            until: None,
            closed: false,
            heard: Vec::new(),
        });
        let ends = Instant::now() + Duration::from_millis(500 + memory.random.below(40_000));
        let by_word = memory.random.per_mille(500);
        let mut link = Connection { person: self, session, host, bare: bare.clone(), memory };
        let ended = link.run(ends).await;
        let gone = self.world.now();
        if ended == End::Crash {
            return self.world.diary.lock().end(session, gone, false);
        }
        let closed = ended == End::Close || by_word;
        self.world.diary.lock().end(session, gone, closed);
        let (node, silent) = (host.node.clone(), if closed { Duration::ZERO } else { SILENCE });
        // A cable that was pulled: the node notices by the silence. It works on it by itself.
        node.tracker.spawn(async move {
            sleep(silent).await;
            bare.close().await;
        });
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum End {
    /// The device goes.
    Go,
    /// The node closes the connection.
    Close,
    Crash,
}

struct Connection<'a> {
    person: &'a Person,
    session: usize,
    host: &'a Arc<Host>,
    bare: Arc<Bare>,
    memory: &'a mut Memory,
}

async fn maybe<T>(doing: &mut Option<Doing<T>>) -> T {
    match doing {
        Some(future) => {
            let done = future.await;
            *doing = None;
            done
        }
        None => std::future::pending().await,
    }
}

impl Connection<'_> {
    async fn run(&mut self, ends: Instant) -> End {
        let bare = self.bare.clone();
        let mut attaching: Option<Doing<Result<(), Fault>>> =
            Some(Box::pin(async move { bare.attach().await }));
        let mut tending: Option<Doing<Result<bool, Fault>>> = None;
        let mut doing: Option<Doing<Did>> = None;
        let mut beat = Instant::now() + HEARTBEAT;
        let mut next = Instant::now() + Duration::from_millis(self.memory.random.below(1500));
        loop {
            if self.host.fate.is_dead() {
                return End::Crash;
            }
            self.listen();
            if tending.is_none() {
                let bare = self.bare.clone();
                tending = Some(Box::pin(async move {
                    bare.link().listener.outbox.ready().await;
                    bare.tend().await
                }));
            }
            let calm = self.person.world.is_calm();
            if calm && !self.person.stays {
                return End::Go;
            }
            let goes = !calm && Instant::now() >= ends;
            if goes {
                return End::Go;
            }
            let wake = next.min(beat).min(if calm { beat } else { ends });
            tokio::select! {
                biased;
                () = self.host.fate.turned.notified() => {}
                attached = maybe(&mut attaching) => if attached.is_err() { return End::Close },
                tended = maybe(&mut tending) => if !matches!(tended, Ok(true)) { return End::Close },
                did = maybe(&mut doing) => self.did(did),
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= beat {
                        beat = Instant::now() + HEARTBEAT;
                        self.bare.heard();
                    }
                    if Instant::now() >= next {
                        next = Instant::now() + Duration::from_millis(200 + self.memory.random.below(2500));
                        if doing.is_none() && attaching.is_none() {
                            doing = self.act(calm);
                        }
                    }
                }
            }
        }
    }

    /// Takes what was told.
    fn listen(&mut self) {
        let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
        self.bare.link().listener.outbox.take(&mut pieces, &mut marks, 10_000);
        let now = self.person.world.now();
        for piece in pieces {
            for text in websocket::texts(&piece) {
                let word = word(text);
                if let Word::Message { body, .. } = &word {
                    let author = body.split('-').next().unwrap_or_default();
                    if author != self.person.user.as_str() {
                        let author = UserId::parse(author).unwrap();
                        self.memory.newest = Some((author, body.as_str().into()));
                    }
                }
                self.person.world.diary.lock().heard(self.session, now, word);
            }
        }
    }

    fn did(&mut self, did: Did) {
        let world = &self.person.world;
        match did {
            Did::Sent(body, true) => {
                self.memory.unsent.retain(|(_, unsent)| *unsent != body);
                let who = format!("{}/{}", self.person.user, self.person.device);
                world.diary.lock().acked.push((who, body.to_string()));
            }
            Did::Sent(_, false) | Did::Other => {}
            Did::Typed(index) => world.diary.lock().typed[index].until = Some(world.now()),
        }
    }

    /// Something to do. A byte comes with it.
    fn act(&mut self, calm: bool) -> Option<Doing<Did>> {
        let world = self.person.world.clone();
        let mine: Vec<ConversationId> = world
            .members
            .iter()
            .filter(|(_, members)| members.contains(&self.person.user))
            .map(|(id, _)| id.clone())
            .collect();
        if mine.is_empty() {
            return None;
        }
        let conversation = self.memory.random.pick(&mine).clone();
        let chance = self.memory.random.below(10);
        if !calm && chance < 4 {
            self.memory.said += 1;
            let body = format!("{}-{}-{}", self.person.user, self.person.device, self.memory.said);
            self.memory.unsent.push_back((conversation.clone(), body.into()));
        }
        if let (true, Some((conversation, body))) = (chance < 6, self.memory.unsent.front().cloned()) {
            self.bare.heard();
            return Some(self.send(conversation, body));
        }
        let quiet = calm || chance < 6;
        match (chance, &self.memory.newest) {
            _ if quiet => None,
            (6, _) => Some(self.type_in(conversation, false)),
            (7 | 8, _) => Some(self.type_in(conversation, true)),
            (_, Some((author, id))) => {
                let kind = *self.memory.random.pick(&[ReceiptKind::Delivered, ReceiptKind::Read]);
                let target = ReceiptTarget::ClientId { author: author.clone(), id: id.clone() };
                Some(self.command(Command::Receipt(Receipt { kind, target }), |_| Did::Other))
            }
            _ => None,
        }
    }

    fn send(&self, conversation: ConversationId, body: Arc<str>) -> Doing<Did> {
        let send = Send {
            conversation,
            client_id: Some(body.clone()),
            body: body.clone(),
            to: Vec::new(),
            metadata: None,
            extra: None,
        };
        self.command(Command::Send(send), move |ok| Did::Sent(body, ok))
    }

    fn type_in(&self, conversation: ConversationId, on: bool) -> Doing<Did> {
        let world = &self.person.world;
        let index = {
            let mut diary = world.diary.lock();
            let (user, from) = (self.person.user.clone(), world.now());
            diary.typed.push(Typed { conversation: conversation.clone(), user, on, from, until: None });
            diary.typed.len() - 1
        };
        let change = TypingChange { conversation, on, to: Vec::new() };
        self.command(Command::Typing(change), move |_| Did::Typed(index))
    }

    fn command(
        &self,
        command: Command,
        done: impl FnOnce(bool) -> Did + std::marker::Send + 'static,
    ) -> Doing<Did> {
        let (node, link) = (self.host.node.clone(), self.bare.link().clone());
        Box::pin(async move {
            let ran: Result<Result<_, Reject>, _> =
                timeout(PATIENCE, commands::run(&node, &link, command)).await;
            done(matches!(ran, Ok(Ok(_))))
        })
    }
}

/// Reads a frame.
fn word(text: &str) -> Word {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    let of = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    match json["type"].as_str().unwrap_or_default() {
        "message:received" => Word::Message { conversation: of("conversationId"), body: of("body") },
        "presence:update" => {
            Word::Presence { user: of("sessionId"), online: json["isOnline"].as_bool().unwrap() }
        }
        "typing:update" => Word::Typing {
            conversation: of("conversationId"),
            user: of("fromUserId"),
            on: json["isTyping"].as_bool().unwrap(),
        },
        "error" if json["details"]["resync"] == true => Word::Lost {
            conversation: json["details"]["conversationId"].as_str().unwrap().to_owned(),
            from: json["details"]["from"].as_u64().unwrap(),
            to: json["details"]["to"].as_u64().unwrap(),
        },
        _ => Word::Other(text.to_owned()),
    }
}
