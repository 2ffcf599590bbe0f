//! The link over a connection of our own: the commands of all callers go out one behind the other, and their answers come
//! back in that order.
//!
//! Self-clocking: a command goes out at once where little is under way, and otherwise with whatever gathers until an
//! answer comes or a millisecond has passed, so that a busy node asks with few system calls on either side and nobody
//! waits for a Redis that is far away twice. Each command is sent once. Must not know: keys, subscriptions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parlance_backplane::stats::{Server, Wire};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use super::desk::{Desk, Question};
use super::{LinkFault, RedisLink, Reply, Run};
use crate::durable::Socket;
use crate::topology::{Address, Dialer};

/// Commands under way at once; more wait for the earlier ones, as long as a command may take.
const UNDER_WAY: usize = 4096;
/// A server that is gone is looked for again after at least and at most so long.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A command client for one server. Cheap to clone; with the last clone the connection goes.
#[derive(Clone)]
pub struct Pipe {
    line: Arc<Line>,
    asking: bool,
}

struct Line {
    desk: Arc<Desk>,
    stats: Arc<Server>,
    task: AbortHandle,
    room: Semaphore,
    patience: Duration,
}

impl Drop for Line {
    fn drop(&mut self) {
        // It would look for a server that left the installation for ever.
        self.task.abort();
    }
}

impl Line {
    /// Room for one more command.
    async fn room(&self) -> Result<SemaphorePermit<'_>, LinkFault> {
        // Without awaiting where there is room: a task that has done much is made to yield when it awaits, and what it
        // asks at the same time would lose its order.
        if let Ok(room) = self.room.try_acquire() {
            return Ok(room);
        }
        let room = tokio::time::timeout(self.patience, self.room.acquire()).await;
        let too_many = || LinkFault::Failed("too many commands under way".to_owned());
        room.map_err(|_| too_many())?.map_err(|_| too_many())
    }
}

/// How to get to a server.
pub struct Way<'a> {
    /// Where it is.
    pub address: &'a Address,
    /// Who opens connections.
    pub dialer: &'a Dialer,
    /// How long opening one may take, and a command.
    pub patience: Duration,
    /// What is counted of the server.
    pub stats: Arc<Server>,
    /// Whether the server is looked for for as long as there is somebody to use the link. Otherwise the link ends with its
    /// one connection.
    pub again: bool,
}

/// What came of the first attempt to connect.
type First = Option<Result<(), String>>;

impl Pipe {
    /// Begins to connect, in a task of `tasks`.
    pub fn open(way: &Way<'_>, tasks: &TaskTracker) -> Self {
        Self::begin(way, tasks).0
    }

    fn begin(way: &Way<'_>, tasks: &TaskTracker) -> (Self, watch::Receiver<First>) {
        let (told, first) = watch::channel(None);
        let desk = Arc::new(Desk::of(way.stats.clone()));
        let keeper = Keeper {
            desk: desk.clone(),
            address: way.address.clone(),
            dialer: way.dialer.clone(),
            patience: way.patience,
            stats: way.stats.clone(),
            told,
        };
        let task = tasks.spawn(keeper.run(way.again)).abort_handle();
        let (stats, patience) = (way.stats.clone(), way.patience);
        let line = Line { desk, stats, task, room: Semaphore::new(UNDER_WAY), patience };
        (Self { line: Arc::new(line), asking: false }, first)
    }

    /// Connects.
    ///
    /// # Errors
    /// As the first attempt fails.
    pub async fn connect(way: &Way<'_>, tasks: &TaskTracker) -> Result<Self, LinkFault> {
        let (link, mut first) = Self::begin(way, tasks);
        let away = |why: &str| LinkFault::Away(format!("{}: {why}", way.address));
        let told = first.wait_for(Option::is_some).await.map(|told| (*told).clone());
        match told {
            Ok(Some(Ok(()))) => Ok(link),
            Ok(Some(Err(why))) => Err(away(&why)),
            Ok(None) | Err(_) => Err(away("nobody answers")),
        }
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.line.desk.is_open() && !self.is_ended()
    }

    /// Whether nobody looks for the server any more: a new link has to.
    pub fn is_ended(&self) -> bool {
        self.line.task.is_finished()
    }

    /// The same, for commands on a slot that is on its way to this server.
    pub fn asking(&self) -> Self {
        Self { asking: true, ..self.clone() }
    }

    async fn ask(&self, question: Question<'_>) -> Result<Reply, LinkFault> {
        let answer = self.answer(question).await;
        if let Err(fault) = &answer {
            self.line.stats.failed(fault.kind());
        }
        answer
    }

    async fn answer(&self, question: Question<'_>) -> Result<Reply, LinkFault> {
        let _room = self.line.room().await?;
        let away = || LinkFault::Away("Redis: no connection".to_owned());
        let answer = self.line.desk.put(&question, self.asking).ok_or_else(away)?;
        match tokio::time::timeout(self.line.patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LinkFault::Lost("Redis: the connection broke".to_owned())),
            Err(_) => Err(LinkFault::Silent("Redis: no answer in time".to_owned())),
        }
    }

    async fn words(&self, name: &str, words: &[&[u8]]) -> Result<Reply, LinkFault> {
        self.ask(Question { name, words, ..Question::default() }).await
    }
}

/// The task behind a link.
struct Keeper {
    desk: Arc<Desk>,
    address: Address,
    dialer: Dialer,
    patience: Duration,
    stats: Arc<Server>,
    told: watch::Sender<First>,
}

impl Keeper {
    async fn run(self, again: bool) {
        let mut pause = AGAIN.0;
        loop {
            match tokio::time::timeout(self.patience, Socket::open(&self.dialer, &self.address)).await {
                Ok(Ok(socket)) => {
                    let (stream, buffer) = socket.into_parts();
                    self.desk.open();
                    let _counted = self.stats.connected(Wire::Commands);
                    drop(self.told.send_replace(Some(Ok(()))));
                    let why = self.desk.serve(stream, buffer).await;
                    self.desk.shut();
                    tracing::debug!(address = %self.address, %why, "the connection to Redis broke");
                    pause = AGAIN.0;
                }
                Ok(Err(error)) => drop(self.told.send_replace(Some(Err(error.to_string())))),
                Err(_) => drop(self.told.send_replace(Some(Err("nobody answers".to_owned())))),
            }
            if !again {
                return;
            }
            // Not all nodes at the same time.
            tokio::time::sleep(pause.mul_f64(rand::random_range(1.0..1.5))).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

#[async_trait]
impl RedisLink for Pipe {
    async fn run(&self, run: Run<'_>, keys: &[String], args: &[&[u8]]) -> Result<Reply, LinkFault> {
        let (name, function) = run.spelled();
        self.ask(Question { name, function: Some(function), keys, words: &[], args }).await
    }

    async fn plain(&self, name: &str, words: &[&[u8]]) -> Result<Reply, LinkFault> {
        self.words(name, words).await
    }

    async fn spublish(&self, channel: &str, payload: Bytes) -> Result<(), LinkFault> {
        self.words("SPUBLISH", &[channel.as_bytes(), &payload]).await.map(drop)
    }

    async fn function_load(&self, code: &str) -> Result<(), LinkFault> {
        self.words("FUNCTION", &[b"LOAD", b"REPLACE", code.as_bytes()]).await.map(drop)
    }

    async fn ping(&self) -> Result<(), LinkFault> {
        self.words("PING", &[]).await.map(drop)
    }

    async fn info(&self, section: &str) -> Result<String, LinkFault> {
        let answer = self.words("INFO", &[section.as_bytes()]).await?;
        Ok(answer.text().unwrap_or_default().to_owned())
    }

    async fn close(&self) {
        // Behind the commands that are under way; a server that is away is not waited for.
        if self.is_connected()
            && let Err(error) = self.words("QUIT", &[]).await
        {
            tracing::debug!(?error, "the connection to Redis was gone already");
        }
        self.line.task.abort();
        self.line.desk.shut();
    }
}
