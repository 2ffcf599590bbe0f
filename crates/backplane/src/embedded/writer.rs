//! The one writer: a thread that owns every change of the durable file.
//!
//! Owns: group commit (take one operation, gather what else is waiting, one transaction, one fsync), and
//! that publications leave after the commit, in order. Must not know: what the operations mean.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_model::{Time, Topic};
use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::Store;
use super::bus::Hub;
use super::presence::Leases;
use super::rooms::{Evicted, Instant};
use super::tables::Tables;
use super::trail;
use crate::trail::Kinds;
use crate::{Clock, Fault, Happening, Publication};

/// Operations in one commit.
const BATCH: usize = 256;
/// Operations waiting for the writer; callers beyond that wait.
const QUEUE: usize = 4096;

/// What operations need besides the tables.
pub struct Rules {
    /// Time source.
    pub clock: Clock,
    /// Entries kept per log.
    pub retention_entries: u64,
    /// They are kept elsewhere for longer.
    pub kept_elsewhere: bool,
    /// How long entries are kept.
    pub retention: Duration,
    /// How long a client id is remembered.
    pub dedupe_window: Duration,
    /// The epoch of logs created in this file.
    pub epoch: u32,
    /// Of what a trail is kept.
    pub trail: Kinds,
    /// Steps of it at most.
    pub trail_steps: u64,
}

/// What a transaction causes once it is committed, in order.
enum Caused {
    Published(Topic, Publication),
    Evicted(Evicted),
}

/// Where it goes.
pub struct Outlet {
    /// Publications.
    pub hub: Arc<Hub>,
    /// Who is out of which room.
    pub leases: Arc<Mutex<Leases>>,
}

impl Outlet {
    fn pass(&self, caused: Caused, clock: &Clock) {
        match caused {
            Caused::Published(topic, publication) => self.hub.publish(topic, publication),
            Caused::Evicted(evicted) => {
                let mut leases = self.leases.lock();
                leases.rooms.evict(&evicted, Instant { now: clock(), hub: &self.hub });
            }
        }
    }
}

/// One transaction under way, as the operations see it.
pub struct Step<'a, 't> {
    tables: Tables<'t>,
    dirty: bool,
    out: Vec<Caused>,
    /// The engine's settings.
    pub rules: &'a Rules,
}

impl<'t> Step<'_, 't> {
    /// The tables, for reading.
    pub fn read(&self) -> &Tables<'t> {
        &self.tables
    }

    /// The tables, for writing: the transaction will be committed.
    pub fn write(&mut self) -> &mut Tables<'t> {
        self.dirty = true;
        &mut self.tables
    }

    /// Publishes once the transaction is committed.
    pub fn publish(&mut self, topic: Topic, publication: Publication) {
        self.out.push(Caused::Published(topic, publication));
    }

    /// Writes down what was caused after the first so many, of the kinds of which a trail is kept.
    fn keep_trail(&mut self, before: usize) -> Result<(), Fault> {
        if self.rules.trail.is_empty() {
            return Ok(());
        }
        for caused in self.out.get(before..).unwrap_or_default() {
            if let Caused::Published(topic, publication) = caused
                && let Some(what) = trail::of_publication(topic, publication)
                && self.rules.trail.has(&what)
            {
                trail::keep(&mut self.tables, &what, self.rules.trail_steps)?;
                self.dirty = true;
            }
        }
        Ok(())
    }

    /// Writes a step of the trail down, where there is one of its kind.
    pub fn happened(&mut self, what: &Happening) -> Result<(), Fault> {
        if self.rules.trail.has(what) {
            let most = self.rules.trail_steps;
            trail::keep(self.write(), what, most)?;
        }
        Ok(())
    }

    /// Takes users out of a room once the transaction is committed.
    pub fn evict(&mut self, evicted: Evicted) {
        self.out.push(Caused::Evicted(evicted));
    }

    /// Now.
    pub fn now(&self) -> Time {
        (self.rules.clock)()
    }
}

/// One operation: it may be run again when its batch was aborted because of another one.
pub trait Job: Send {
    /// Does it.
    fn run(&mut self, step: &mut Step<'_, '_>) -> Result<(), Fault>;
    /// Says what came of it.
    fn answer(self: Box<Self>, outcome: Result<(), Fault>);
}

struct Call<T, F> {
    work: F,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, Fault>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: Fn(&mut Step<'_, '_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, step: &mut Step<'_, '_>) -> Result<(), Fault> {
        self.result = Some((self.work)(step)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Fault>) {
        let missing = || Fault::Unavailable("the operation did not run".to_owned());
        let Self { result, answer, .. } = *self;
        // A caller that has gone away needs no answer.
        let _ = answer.send(outcome.and_then(|()| result.ok_or_else(missing)));
    }
}

/// What the thread is told.
pub enum Order {
    /// Run it.
    Do(Box<dyn Job>),
    /// End after what was ordered before.
    Stop,
}

/// The way to the writer.
#[derive(Clone)]
pub enum Writer {
    /// To its thread.
    Thread(mpsc::Sender<Order>),
    /// Each operation is a transaction of its own where it is ordered: nothing happens beside the caller.
    Inline(Arc<Inline>),
}

/// The writer without a thread.
pub struct Inline {
    store: Arc<Store>,
    rules: Rules,
    outlet: Outlet,
    turn: Mutex<()>,
}

impl Inline {
    fn run(&self, job: Box<dyn Job>) {
        let _turn = self.turn.lock();
        let mut batch = vec![job];
        let done = self.store.with(|db| {
            run_batch(db, &self.rules, &self.outlet, &mut batch);
            Ok(())
        });
        for job in batch {
            // Only left over when the store was closed underneath.
            job.answer(done.clone().and_then(|()| Err(stopped())));
        }
    }
}

/// The writer's thread.
pub type Thread = std::thread::JoinHandle<()>;

impl Writer {
    /// Starts the thread.
    pub fn start(store: Arc<Store>, rules: Rules, outlet: Outlet) -> Result<(Self, Thread), Fault> {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("parlance-writer".to_owned())
            .spawn(move || work(&store, &rules, &outlet, inbox))
            .map_err(|error| Fault::Unavailable(format!("cannot start the writer: {error}")))?;
        Ok((Self::Thread(orders), thread))
    }

    /// One without a thread.
    pub fn inline(store: Arc<Store>, rules: Rules, outlet: Outlet) -> Self {
        Self::Inline(Arc::new(Inline { store, rules, outlet, turn: Mutex::new(()) }))
    }

    /// Runs `work` in a transaction; resolves after its commit. `work` must only write when it will not
    /// refuse any more, and must do the same when it is run again.
    pub async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Fn(&mut Step<'_, '_>) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let call = Call { work, result: None, answer };
        match self {
            Self::Thread(orders) => orders.send(Order::Do(Box::new(call))).await.map_err(|_| stopped())?,
            Self::Inline(inline) => inline.run(Box::new(call)),
        }
        answered.await.map_err(|_| stopped())?
    }

    /// Runs `work` some time soon, or not at all when the queue is full.
    pub fn run_behind<F>(&self, work: F)
    where
        F: Fn(&mut Step<'_, '_>) -> Result<(), Fault> + Send + 'static,
    {
        if !self.offer(work) {
            tracing::debug!("the writer is busy: a background write was skipped");
        }
    }

    /// Has `work` done after what was ordered before; `false`: the queue is full.
    pub fn offer<F>(&self, work: F) -> bool
    where
        F: Fn(&mut Step<'_, '_>) -> Result<(), Fault> + Send + 'static,
    {
        let (answer, _) = oneshot::channel();
        let call = Box::new(Call { work, result: None, answer });
        match self {
            Self::Thread(orders) => orders.try_send(Order::Do(call)).is_ok(),
            Self::Inline(inline) => {
                inline.run(call);
                true
            }
        }
    }

    /// Ends the thread after what was ordered before.
    pub async fn stop(&self) {
        if let Self::Thread(orders) = self {
            // Stopped already: fine.
            let _ = orders.send(Order::Stop).await;
        }
    }
}

/// The engine was closed.
pub fn stopped() -> Fault {
    Fault::Unavailable("the engine is closed".to_owned())
}

fn work(store: &Store, rules: &Rules, outlet: &Outlet, mut inbox: mpsc::Receiver<Order>) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(Order::Do(first)) = inbox.blocking_recv() {
        batch.push(first);
        let mut stop = false;
        while batch.len() < BATCH && !stop {
            match inbox.try_recv() {
                Ok(Order::Do(next)) => batch.push(next),
                Ok(Order::Stop) => stop = true,
                Err(_) => break,
            }
        }
        let done = store.with(|db| {
            run_batch(db, rules, outlet, &mut batch);
            Ok(())
        });
        for job in batch.drain(..) {
            // Only left over when the store was closed underneath.
            job.answer(done.clone().and_then(|()| Err(stopped())));
        }
        if stop {
            break;
        }
    }
}

/// Runs a batch in one transaction. When one operation fails, the transaction is given up and each
/// operation gets its own, so that the failing one fails alone.
fn run_batch(db: &Database, rules: &Rules, outlet: &Outlet, batch: &mut Vec<Box<dyn Job>>) {
    let pass = |out: Vec<Caused>| out.into_iter().for_each(|caused| outlet.pass(caused, &rules.clock));
    match transact(db, rules, batch) {
        Ok(out) => {
            pass(out);
            finish(batch.drain(..), &Ok(()));
        }
        Err(fault) if batch.len() == 1 => finish(batch.drain(..), &Err(fault)),
        Err(Aborted::Commit(fault)) => finish(batch.drain(..), &Err(Aborted::Commit(fault))),
        Err(Aborted::Job(_)) => {
            for job in batch.drain(..) {
                let mut alone = vec![job];
                let outcome = transact(db, rules, &mut alone).map(&pass);
                finish(alone.drain(..), &outcome);
            }
        }
    }
}

enum Aborted {
    /// An operation failed.
    Job(Fault),
    /// The transaction could not begin or commit.
    Commit(Fault),
}

fn transact(db: &Database, rules: &Rules, batch: &mut [Box<dyn Job>]) -> Result<Vec<Caused>, Aborted> {
    let commit = |fault: Fault| Aborted::Commit(fault);
    let mut txn = db.begin_write().map_err(|error| commit(error.into()))?;
    txn.set_durability(Durability::Immediate)
        .map_err(|error| commit(Fault::Unavailable(error.to_string())))?;
    let (dirty, out) = {
        let tables = Tables::open(&txn).map_err(commit)?;
        let mut step = Step { tables, dirty: false, out: Vec::new(), rules };
        for job in batch {
            let before = step.out.len();
            job.run(&mut step).map_err(Aborted::Job)?;
            step.keep_trail(before).map_err(Aborted::Job)?;
        }
        (step.dirty, step.out)
    };
    // Nothing written: nothing to make durable.
    let done = if dirty { txn.commit().map_err(Fault::from) } else { txn.abort().map_err(Fault::from) };
    done.map_err(commit)?;
    Ok(out)
}

fn finish(jobs: impl Iterator<Item = Box<dyn Job>>, outcome: &Result<(), Aborted>) {
    if let Err(Aborted::Job(fault) | Aborted::Commit(fault)) = outcome {
        tracing::error!(%fault, "the durable log refused a write");
    }
    for job in jobs {
        job.answer(match outcome {
            Ok(()) => Ok(()),
            Err(Aborted::Job(fault) | Aborted::Commit(fault)) => Err(fault.clone()),
        });
    }
}
