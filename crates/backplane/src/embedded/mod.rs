//! The Embedded engine: everything shared, inside one process, in one durable file or in memory.
//!
//! Owns: the store's life cycle and the node handles. Every durable change goes through one writer thread
//! ([`writer`]) straight into a redb transaction: there is no second copy of the truth. Presence, rooms, typing,
//! rate windows and nodes live in memory, as they would not outlive the process's connections anyway. Must not
//! know: dialects, sockets, configuration files.

mod append;
mod bus;
mod change;
mod conversations;
mod cursors;
mod fences;
mod limits;
mod log;
mod members;
mod nodes;
mod overviews;
mod presence;
mod reactions;
mod rooms;
mod sequences;
mod shared;
mod tables;
mod trail;
mod typing;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use parlance_model::{NodeId, Time};
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable};

use crate::trail::Kinds;
use crate::{AckLevel, Backplane, Clock, Fault, Inbox};
use bus::Hub;
use limits::Windows;
use nodes::Cluster;
use presence::Leases;
use trail::Holders;
use typing::Typists;
use writer::{Outlet, Rules, Thread, Writer, stopped};

const CACHE_BYTES: usize = 64 << 20;
const FILE: &str = "parlance.redb";

/// How an engine is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory (made when missing); `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// Entries kept per log.
    pub retention_entries: u64,
    /// How long entries are kept.
    pub retention: Duration,
    /// They are kept elsewhere for longer: a user's integers stay where theirs were trimmed.
    pub kept_elsewhere: bool,
    /// How long a client id is remembered.
    pub dedupe_window: Duration,
    /// How long a typing heartbeat lasts.
    pub typing_ttl: Duration,
    /// Publications a node's inbox holds before it says [`crate::Delivery::Lost`].
    pub inbox: usize,
    /// Of what a trail is kept.
    pub trail: Kinds,
    /// Who consumes it: what happens from now on is kept for each of them, also when it comes later than another.
    pub trail_groups: Vec<&'static str>,
    /// Steps of it at most; beyond, the oldest go, whoever lacks them.
    pub trail_steps: u64,
    /// No thread of its own: each call does all its work when it is polled first. Slow, and repeatable: for simulations.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            retention_entries: 100_000,
            retention: Duration::from_secs(30 * 24 * 3600),
            kept_elsewhere: false,
            dedupe_window: Duration::from_secs(48 * 3600),
            typing_ttl: Duration::from_secs(4),
            inbox: 65_536,
            trail: Kinds::default(),
            trail_groups: Vec::new(),
            trail_steps: 10_000_000,
            inline: false,
        }
    }
}

/// The engine. Cheap to clone; [`Self::close`] ends it for all clones and node handles.
#[derive(Clone)]
pub struct Embedded {
    engine: Arc<Engine>,
    thread: Arc<Mutex<Option<Thread>>>,
}

struct Engine {
    store: Arc<Store>,
    writer: Writer,
    hub: Arc<Hub>,
    leases: Arc<Mutex<Leases>>,
    typists: Mutex<Typists>,
    windows: Mutex<Windows>,
    cluster: Mutex<Cluster>,
    holders: Mutex<Holders>,
    clock: Clock,
    options: Options,
    epoch: u32,
}

/// One attached node: implements every trait.
struct Node {
    engine: Arc<Engine>,
    id: NodeId,
    inbox: Mutex<Option<Inbox>>,
}

impl Embedded {
    /// Opens (or creates) the store. Blocks: it reads the file, and repairs it after a crash.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when another process has the file, or it cannot be opened.
    pub fn open(options: Options, clock: Clock) -> Result<Self, Fault> {
        let database = open_database(&options)?;
        let epoch = prepare(&database, clock())?;
        let store = Arc::new(Store { database: RwLock::new(Some(database)) });
        let hub = Arc::new(Hub::default());
        let rules = Rules {
            clock: clock.clone(),
            retention_entries: options.retention_entries.max(1),
            kept_elsewhere: options.kept_elsewhere,
            retention: options.retention,
            dedupe_window: options.dedupe_window,
            epoch,
            trail: options.trail,
            trail_steps: options.trail_steps,
        };
        let leases = Arc::new(Mutex::new(Leases::keeping(options.trail)));
        let outlet = Outlet { hub: hub.clone(), leases: leases.clone() };
        let (writer, thread) = if options.inline {
            (Writer::inline(store.clone(), rules, outlet), None)
        } else {
            let (writer, thread) = Writer::start(store.clone(), rules, outlet)?;
            (writer, Some(thread))
        };
        let engine = Engine {
            store,
            writer,
            hub,
            leases,
            typists: Mutex::default(),
            windows: Mutex::default(),
            cluster: Mutex::default(),
            holders: Mutex::default(),
            clock,
            options,
            epoch,
        };
        Ok(Self { engine: Arc::new(engine), thread: Arc::new(Mutex::new(thread)) })
    }

    /// A node's handle, with an inbox of its own.
    pub fn attach(&self, id: NodeId) -> Backplane {
        let inbox = self.engine.hub.attach(id.clone(), self.engine.options.inbox);
        let node = Arc::new(Node { engine: self.engine.clone(), id, inbox: Mutex::new(Some(inbox)) });
        Backplane {
            log: node.clone(),
            history: node.clone(),
            kept: node.clone(),
            reactions: node.clone(),
            conversations: node.clone(),
            members: node.clone(),
            overviews: node.clone(),
            fences: node.clone(),
            cursors: node.clone(),
            sequences: node.clone(),
            presence: node.clone(),
            rooms: node.clone(),
            typing: node.clone(),
            limits: node.clone(),
            bus: node.clone(),
            shared: node.clone(),
            nodes: node.clone(),
            trail: node,
            ack_level: self.ack_level(),
            survives: match self.ack_level() {
                AckLevel::Memory => "nothing: it is in the memory of this process".into(),
                _ => "kill -9 of this process: it is on disk first".into(),
            },
            stats: Arc::default(),
        }
    }

    /// What an acknowledgement means here.
    pub fn ack_level(&self) -> AckLevel {
        if self.engine.options.path.is_some() { AckLevel::File } else { AckLevel::Memory }
    }

    /// Finishes what was ordered, ends the writer and releases the file. Later calls fail as unavailable.
    pub async fn close(&self) {
        self.engine.writer.stop().await;
        let (thread, store) = (self.thread.lock().take(), self.engine.store.clone());
        let closed = tokio::task::spawn_blocking(move || {
            let ended = thread.is_none_or(|thread| thread.join().is_ok());
            drop(store.database.write().take());
            ended
        });
        if !matches!(closed.await, Ok(true)) {
            tracing::error!("the writer of the durable log ended by a panic");
        }
    }
}

impl Engine {
    fn now(&self) -> Time {
        (self.clock)()
    }

    /// Runs a read transaction, off the runtime's threads unless inline.
    async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Result<T, Fault> + Send + 'static,
    {
        if self.options.inline {
            return self.store.with(|db| work(&db.begin_read()?));
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.with(|db| work(&db.begin_read()?)))
            .await
            .map_err(|error| Fault::Unavailable(format!("a read did not finish: {error}")))?
    }
}

/// The database, until it is closed.
struct Store {
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Runs `work` with the database. Blocks.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        self.database.read().as_ref().map_or_else(|| Err(stopped()), work)
    }
}

fn open_database(options: &Options) -> Result<Database, Fault> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let Some(directory) = &options.path else {
        return builder
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| Fault::Unavailable(error.to_string()));
    };
    std::fs::create_dir_all(directory)
        .map_err(|error| Fault::Unavailable(format!("{}: {error}", directory.display())))?;
    let file = directory.join(FILE);
    builder.create(&file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => {
            Fault::Unavailable(format!("{} is in use by another process", file.display()))
        }
        other => Fault::Unavailable(format!("{}: {other}", file.display())),
    })
}

/// Creates what is missing and returns the file's epoch: the second it was made, so that positions in a
/// file that was lost mean nothing in the next one.
fn prepare(database: &Database, now: Time) -> Result<u32, Fault> {
    let txn = database.begin_write()?;
    tables::upgrade(&txn)?;
    let epoch = {
        let mut tables = tables::Tables::open(&txn)?;
        let kept = tables.counters.get("epoch")?.map(|epoch| epoch.value());
        match kept {
            Some(epoch) => u32::try_from(epoch).unwrap_or(u32::MAX),
            None => {
                tables.counters.insert("epoch", u64::from(now.seconds32()))?;
                now.seconds32()
            }
        }
    };
    txn.commit()?;
    Ok(epoch)
}

macro_rules! faults {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                match redb::Error::from(error) {
                    redb::Error::Corrupted(what) => Self::Corrupt(what),
                    other => Self::Unavailable(other.to_string()),
                }
            }
        })*
    };
}

faults!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
