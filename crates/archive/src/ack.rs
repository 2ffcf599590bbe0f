//! Acknowledging a message only when PostgreSQL has it: the level `archived`.
//!
//! A log in front of the engine's: what was appended there is written here too before the append is answered, with all that
//! waits at that moment in one transaction. The sink writes it again later, which changes nothing. Must not know: who sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::trail::Outcome;
use parlance_backplane::{
    AckLevel, Appended, Backplane, Fault, Find, Log, Page, Posted, Range, Reacted, Stored, Trail,
};
use parlance_model::{Author, ConversationId, Entry, LogKey, Message, Record, Time};
use parlance_postgres::Refused;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::rows::Rows;
use crate::sink::outcome;
use crate::store::{Address, Store, connect};

/// Connections; each has its share of the parts.
const WORKERS: usize = 4;
/// Messages that wait for a connection.
const QUEUE: usize = 1024;
/// Messages in a transaction at most.
const BATCH: usize = 500;
/// How long an acknowledgement may take. Then the sender is told to try again, which finds the message in the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure, twice as long each time.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is to be there.
enum What {
    Entry(Entry),
    /// A message that its log keeps no more, and when it was appended: it is there, or is written by the sink.
    Place(u64, Option<Time>),
}

struct Wanted {
    conversation: ConversationId,
    part: usize,
    what: What,
    done: oneshot::Sender<Result<(), Refused>>,
}

struct Acknowledged {
    log: Arc<dyn Log>,
    trail: Arc<dyn Trail>,
    desks: Vec<mpsc::Sender<Wanted>>,
}

/// Writes what waits to be acknowledged; to be run beside the node.
pub struct Confirmer {
    desks: Vec<mpsc::Receiver<Wanted>>,
}

/// Has the backplane acknowledge messages only when PostgreSQL has them.
pub fn acknowledged(backplane: &mut Backplane) -> Confirmer {
    let (senders, desks) = (0..WORKERS).map(|_| mpsc::channel(QUEUE)).unzip();
    let (log, trail) = (backplane.log.clone(), backplane.trail.clone());
    backplane.log = Arc::new(Acknowledged { log, trail, desks: senders });
    let on_redis = backplane.ack_level.engine() == AckLevel::Redis.engine();
    backplane.ack_level = if on_redis { AckLevel::RedisArchived } else { AckLevel::FileArchived };
    backplane.survives = format!("{}; PostgreSQL has it first", backplane.survives).into();
    Confirmer { desks }
}

impl Acknowledged {
    /// As it is in the log; what stands there now may be something else, where the log lost its end.
    async fn entry(&self, conversation: &ConversationId, seq: u64) -> Result<What, Fault> {
        let key = LogKey::Conversation(conversation.clone());
        let range = Range::After { seq: seq.saturating_sub(1), limit: 1 };
        let found = self.log.range(&key, range).await?.entries.into_iter().next();
        Ok(found.filter(|entry| entry.seq == seq).map_or(What::Place(seq, None), What::Entry))
    }

    async fn archived(&self, conversation: &ConversationId, what: What) -> Result<(), Fault> {
        let part = self.trail.part_of(conversation);
        let (done, told) = oneshot::channel();
        let wanted = Wanted { conversation: conversation.clone(), part, what, done };
        let stopped = || Fault::Unavailable("the archive has stopped".to_owned());
        let asked = async {
            let desk = self.desks.get(part % WORKERS).ok_or_else(stopped)?;
            desk.send(wanted).await.map_err(|_| stopped())?;
            told.await.map_err(|_| stopped())
        };
        let late = |_| Fault::Unavailable("the archive has not confirmed it in time".to_owned());
        match timeout(PATIENCE, asked).await.map_err(late)?? {
            Ok(()) => Ok(()),
            Err(why) => Err(Fault::Unavailable(format!("the archive: {why}"))),
        }
    }

    async fn stands(&self, conversation: &ConversationId, stored: Stored) -> Result<(), Fault> {
        let what = match self.entry(conversation, stored.seq).await? {
            What::Place(seq, _) => What::Place(seq, Some(stored.at)),
            entry @ What::Entry(_) => entry,
        };
        if matches!(&what, What::Entry(entry) if (entry.id, entry.at) != (stored.id, stored.at)) {
            return Err(Fault::Unavailable("the log lost the message".to_owned()));
        }
        self.archived(conversation, what).await
    }
}

#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
impl Log for Acknowledged {
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault> {
        let appended = self.log.append(conversation, message).await?;
        if let Appended::New(stored) | Appended::Duplicate(stored) = appended {
            self.stands(conversation, stored).await?;
        }
        Ok(appended)
    }

    async fn confirm(&self, conversation: &ConversationId, seq: u64) -> Result<(), Fault> {
        self.log.confirm(conversation, seq).await?;
        let what = self.entry(conversation, seq).await?;
        self.archived(conversation, what).await
    }

    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault> {
        self.log.react(conversation, author, target, kind, added).await
    }

    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault> {
        self.log.post(key, record, once).await
    }

    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault> {
        self.log.range(key, range).await
    }

    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault> {
        self.log.find(what).await
    }
}

/// Who counts acknowledgements.
pub trait Count: Send + Sync {
    /// Something came of writing so many messages, of which the one that waits longest has waited so long.
    fn came(&self, outcome: Outcome, messages: usize, took: Duration);
}

impl Confirmer {
    /// Writes, until it is dropped.
    pub async fn run(self, address: Address, count: Arc<dyn Count>) {
        let mut workers = JoinSet::new();
        for desk in self.desks {
            let (address, count) = (address.clone(), count.clone());
            workers.spawn(Worker { desk, address, count, store: None, away: false }.work());
        }
        while let Some(ended) = workers.join_next().await {
            // They end by a panic only: who waits there is told to try again.
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the archive's acknowledgements has stopped; it starts again with the node");
            }
        }
    }
}

struct Worker {
    desk: mpsc::Receiver<Wanted>,
    address: Address,
    count: Arc<dyn Count>,
    store: Option<Store>,
    /// It was said that PostgreSQL is away.
    away: bool,
}

impl Worker {
    async fn work(mut self) {
        let (mut some, mut wait) = (Vec::new(), WAITS.0);
        loop {
            // What failed is tried again with whatever came meanwhile, for as long as somebody waits for it.
            if some.is_empty() {
                wait = WAITS.0;
                if self.desk.recv_many(&mut some, BATCH).await == 0 {
                    return;
                }
            } else {
                sleep(wait).await;
                wait = (wait * 2).min(WAITS.1);
                while some.len() < BATCH
                    && let Ok(more) = self.desk.try_recv()
                {
                    some.push(more);
                }
            }
            some = self.confirm(some).await;
            some.retain(|wanted: &Wanted| !wanted.done.is_closed());
        }
    }

    /// Writes them and says so; what is to be tried again. After a failure each part goes by itself: one that is held by
    /// somebody holds up no other.
    async fn confirm(&mut self, mut some: Vec<Wanted>) -> Vec<Wanted> {
        some.retain(|wanted| !wanted.done.is_closed());
        let mut groups: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
        for one in some {
            groups.entry(if self.away { one.part } else { 0 }).or_default().push(one);
        }
        let (began, mut again) = (Instant::now(), Vec::new());
        for group in groups.into_values() {
            if began.elapsed() < PATIENCE {
                again.extend(self.group(group).await);
            } else {
                again.extend(group);
            }
        }
        if again.is_empty() && std::mem::take(&mut self.away) {
            tracing::info!("PostgreSQL is back: messages are acknowledged again");
        }
        again
    }

    async fn group(&mut self, some: Vec<Wanted>) -> Vec<Wanted> {
        let began = Instant::now();
        let came = self.write(&some).await;
        let came_of_it = came.as_ref().err().map_or(Outcome::Taken, outcome);
        self.count.came(came_of_it, some.len(), began.elapsed());
        match came {
            Ok(()) => {
                self.answer(some).await;
                Vec::new()
            }
            Err(Refused::Away(why)) => {
                self.store = None;
                if !std::mem::replace(&mut self.away, true) {
                    tracing::error!(%why, "the archive cannot be written to: messages are not acknowledged");
                }
                some
            }
            Err(Refused::Content(_)) => self.one_by_one(some).await,
        }
    }

    /// One of them is refused for what is in it.
    async fn one_by_one(&mut self, some: Vec<Wanted>) -> Vec<Wanted> {
        let mut left = some.into_iter();
        while let Some(one) = left.next() {
            if one.done.is_closed() {
                continue;
            }
            match self.write(std::slice::from_ref(&one)).await {
                Ok(()) => self.answer(vec![one]).await,
                Err(Refused::Away(_)) => {
                    self.store = None;
                    return std::iter::once(one).chain(left).collect();
                }
                Err(refused @ Refused::Content(_)) => {
                    tracing::error!(conversation = %one.conversation, %refused, "PostgreSQL refuses a message for what is in it: it is not acknowledged");
                    // Who does not wait any more need not know.
                    drop(one.done.send(Err(refused)));
                }
            }
        }
        Vec::new()
    }

    async fn write(&mut self, some: &[Wanted]) -> Result<(), Refused> {
        let entries = some.iter().filter_map(|wanted| match &wanted.what {
            What::Entry(entry) => Some((&wanted.conversation, entry)),
            What::Place(..) => None,
        });
        let rows = Rows::of_entries(entries);
        if rows.is_empty() {
            return Ok(());
        }
        let parts: BTreeSet<usize> = some.iter().map(|wanted| wanted.part).collect();
        self.store().await?.apply(&parts, &rows, PATIENCE).await
    }

    async fn store(&mut self) -> Result<&mut Store, Refused> {
        let store = match self.store.take().filter(|store| !store.is_closed()) {
            Some(store) => store,
            None => connect(&self.address, PATIENCE).await?,
        };
        Ok(self.store.insert(store))
    }

    /// Tells them that it is there.
    async fn answer(&mut self, some: Vec<Wanted>) {
        for one in some {
            let there = match &one.what {
                What::Entry(_) => Ok(()),
                What::Place(seq, at) => self.has(&one.conversation, (*seq, *at)).await,
            };
            // Who does not wait any more sends again.
            drop(one.done.send(there));
        }
    }

    async fn has(
        &mut self,
        conversation: &ConversationId,
        place: (u64, Option<Time>),
    ) -> Result<(), Refused> {
        let found = self.store().await?.has(conversation.as_str(), place, PATIENCE).await;
        if found.is_err() {
            self.store = None;
        }
        let not_yet = || Refused::Away("it is no longer in the log, and not written yet".to_owned());
        found?.then_some(()).ok_or_else(not_yet)
    }
}
