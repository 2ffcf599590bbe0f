//! The engine's life cycle, and what every trait's implementation needs: calling functions.
//!
//! Owns: connecting, options, the node handle. Must not know: what any one function does.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::trail::Kinds;
use parlance_backplane::{AckLevel, Backplane, Clock, Fault, Inbox};
use parlance_model::{LogKey, NodeId};
use smallvec::SmallVec;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::bus::Subscriber;
use crate::durable::{Durable, Replicas, Setting};
use crate::keys::{Keys, PARTITIONS};
use crate::library::{GENERATION, Library};
use crate::link::{Primary, Reply, Routed};
use crate::presence::Sweeper;
use crate::primaries::Greeter;
use crate::times::Times;
use crate::topology::{self, Dialer, Place};
use crate::trail::Reader;

/// Between two attempts to settle what the nodes must agree about.
const SETTLING: Duration = Duration::from_secs(1);
/// Between two looks at the servers' clocks.
const CLOCKS: Duration = Duration::from_secs(10);

/// How the engine is built.
#[derive(Clone)]
pub struct Options {
    /// Where Redis (7.0 or later) is: `redis://[user:password@]host[:port]`,
    /// `redis-sentinel://[user:password@]host:port,.../service` or `redis-cluster://[user:password@]host:port,...`;
    /// with TLS `rediss`.
    pub url: String,
    /// Logins that go before those of the address, and what TLS goes by.
    pub access: Access,
    /// What every key begins with. Two installations with different ones share a Redis and see nothing of each other.
    pub prefix: String,
    /// What every channel begins with; absent: as the keys.
    pub channel_prefix: Option<String>,
    /// What an acknowledgement promises: [`AckLevel::Redis`], [`AckLevel::RedisWait`] or [`AckLevel::RedisFsync`].
    pub ack_level: AckLevel,
    /// What [`AckLevel::RedisWait`] asks of replicas.
    pub replicas: Replicas,
    /// Entries kept per log.
    pub retention_entries: u64,
    /// How long entries are kept.
    pub retention: Duration,
    /// How long a client id is remembered.
    pub dedupe_window: Duration,
    /// How long a typing heartbeat lasts.
    pub typing_ttl: Duration,
    /// Publications the inbox holds before it says [`parlance_backplane::Delivery::Lost`].
    pub inbox: usize,
    /// The node it is for: it sweeps its share of what all nodes have to sweep. `None`: everything, each time.
    pub sweeper: Option<NodeId>,
    /// How long a command may take.
    pub patience: Duration,
    /// How long a start waits for a primary that answers. Those that do not answer while another one does are waited
    /// for in the background.
    pub start_patience: Duration,
    /// The clock that callers' deadlines are of; it may differ from that of Redis.
    pub clock: Clock,
    /// Of what a trail is kept.
    pub trail: Kinds,
    /// Who consumes it: what happens from now on is kept for each of them, also when it comes later than another.
    pub trail_groups: Vec<&'static str>,
    /// For tests: everything goes by `clock` instead of the time of Redis.
    pub tell_time: bool,
    /// For tests: the functions are named as those of another release.
    pub generation: u32,
}

impl Options {
    /// The defaults, for the Redis at `url`.
    pub fn new(url: &str, clock: Clock) -> Self {
        Self {
            url: url.to_owned(),
            access: Access::default(),
            prefix: "gw:".to_owned(),
            channel_prefix: None,
            ack_level: AckLevel::Redis,
            replicas: Replicas { count: 1, within: Duration::from_millis(500) },
            retention_entries: 1000,
            retention: Duration::from_secs(7 * 24 * 3600),
            dedupe_window: Duration::from_secs(48 * 3600),
            typing_ttl: Duration::from_secs(4),
            inbox: 65_536,
            sweeper: None,
            trail: Kinds::default(),
            trail_groups: Vec::new(),
            patience: Duration::from_secs(2),
            start_patience: Duration::from_secs(10),
            clock,
            tell_time: false,
            generation: GENERATION,
        }
    }
}

/// One node's engine. Cheap to clone; [`Self::close`] ends it for all clones and handles.
#[derive(Clone)]
pub struct Redis {
    node: Arc<Node>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The node: implements every trait.
pub(crate) struct Node {
    pub link: Arc<Routed>,
    pub library: Arc<Library>,
    /// The way of what is promised to survive the loss of a primary.
    pub durable: Option<Durable>,
    pub keys: Keys,
    pub options: Options,
    pub subscriber: Subscriber,
    pub inbox: Mutex<Option<Inbox>>,
    pub sweeper: Option<Sweeper>,
    pub reader: Reader,
    /// One call may touch several partitions: Redis is no cluster.
    pub together: AtomicBool,
    /// What an acknowledged message survives, in words.
    survives: Arc<str>,
    dialer: Dialer,
    stop: CancellationToken,
    /// An engine that is dropped ends its tasks.
    _ended: DropGuard,
}

impl Redis {
    /// Connects and loads the functions: at every primary that answers, at the others when they do.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when nobody answers there in time, or who answers is no Redis of release 7.0 or later.
    pub async fn connect(options: Options) -> Result<Self, Fault> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // Also of an engine that cannot be started.
        let _ended = stop.clone().drop_guard();
        let times = Times { patience: options.patience, until: Instant::now() + options.start_patience };
        let (place, logins) = Place::parse(&options.url)?;
        let together = AtomicBool::new(!matches!(place, Place::Cluster(_)));
        let dialer = Dialer::new(place.speaks_tls(), logins, &options.access)?;
        let topology = topology::start(place, dialer.clone(), times, &tasks, &stop).await?;
        let link = Routed::start(&topology, times, &tasks, &stop).await?;
        let library = Arc::new(Library::new(options.generation, options.trail));
        let mut greeter = Greeter::new(&options, &topology, &library);
        greeter.all(times).await?;
        let survives = greeter.survives().into();
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(greeter.newcomers()).await });
        let setting = Setting::new(&options, &topology, &library);
        let waits = options.ack_level == AckLevel::RedisWait;
        let durable = waits.then(|| Durable::new(setting, tasks.clone(), stop.clone()));
        let (subscriber, inbox) = Subscriber::start(&topology, &options, &tasks);
        let channels = options.channel_prefix.as_deref().unwrap_or(&options.prefix);
        let keys = Keys::new(&options.prefix, channels);
        let inbox = Mutex::new(Some(inbox));
        let sweeper = options.sweeper.clone().map(|me| Sweeper::new(me, options.typing_ttl));
        let reader = Reader::new(options.sweeper.as_ref());
        let node = Node {
            link,
            library,
            durable,
            keys,
            options,
            subscriber,
            inbox,
            sweeper,
            reader,
            together,
            survives,
            dialer,
            stop: stop.clone(),
            _ended,
        };
        let node = Arc::new(node);
        node.start_settling(&tasks).await?;
        node.start_watching_clocks(&tasks);
        tasks.close();
        Ok(Self { node, tasks, stop })
    }

    /// Has connections that are made from now on go by other logins and certificates. Those that there are stay: Redis asks
    /// nobody twice. Where Redis is does not change: of the address only the logins are taken.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when a file cannot be used; nothing changes then.
    pub fn renew(&self, url: &str, access: &Access) -> Result<(), Fault> {
        let (place, logins) = Place::parse(url)?;
        let fresh = Dialer::new(place.speaks_tls(), logins, access)?;
        if place == Place::parse(&self.node.options.url)?.0 {
            self.node.dialer.become_like(fresh);
        } else {
            tracing::warn!("another address of Redis takes effect at the next start");
        }
        Ok(())
    }

    /// This node's handle.
    pub fn backplane(&self) -> Backplane {
        let node = self.node.clone();
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
            ack_level: self.node.options.ack_level,
            survives: self.node.survives.clone(),
            stats: self.node.link.stats().clone(),
        }
    }

    /// Whether every primary answers.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), Fault> {
        Ok(self.node.link.ping().await?)
    }

    /// A section of `INFO` of every primary.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when Redis does not answer.
    pub async fn info(&self, section: &str) -> Result<Vec<String>, Fault> {
        Ok(self.node.link.info(section).await?)
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.node.subscriber.stop();
        self.stop.cancel();
        self.tasks.wait().await;
        self.node.link.close().await;
    }
}

/// The arguments of a call: one behind the other in one piece of memory.
pub(crate) struct Args {
    text: Vec<u8>,
    /// Where each of them ends.
    ends: SmallVec<[usize; 12]>,
}

impl Args {
    /// One more, as text.
    pub fn and(mut self, arg: impl Display) -> Self {
        // Memory takes everything that is written to it.
        let _written = write!(self.text, "{arg}");
        self.ends.push(self.text.len());
        self
    }

    /// One more, as it is.
    pub fn bytes(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.text.extend_from_slice(arg.as_ref());
        self.ends.push(self.text.len());
        self
    }

    /// All of them.
    pub fn words(&self) -> SmallVec<[&[u8]; 12]> {
        let mut from = 0;
        let word = |end: &usize| self.text.get(std::mem::replace(&mut from, *end)..*end).unwrap_or_default();
        self.ends.iter().map(word).collect()
    }

    /// Several more.
    pub fn all<T: Display>(self, args: impl IntoIterator<Item = T>) -> Self {
        args.into_iter().fold(self, Self::and)
    }

    /// None.
    pub fn none() -> Self {
        Self { text: Vec::new(), ends: SmallVec::new() }
    }
}

/// Milliseconds as the functions take them.
pub(crate) fn millis(of: Duration) -> u64 {
    // Lua counts in doubles.
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX).min(1 << 52)
}

impl Node {
    /// The arguments of a function that asks what time it is.
    pub fn timed(&self) -> Args {
        let now = if self.options.tell_time { (self.options.clock)().millis() } else { 0 };
        Args { text: Vec::with_capacity(512), ends: SmallVec::new() }.and(now)
    }

    /// The arguments of a function that appends: time, retention, numbers.
    pub fn appending(&self, numbers: &[u32]) -> Args {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        self.timed()
            .and(self.options.retention_entries.clamp(1, 1 << 52))
            .and(millis(self.options.retention))
            .and(numbers.join(","))
    }

    /// Calls a function.
    pub async fn call(&self, function: &str, keys: &[String], args: Args) -> Result<Reply, Fault> {
        let answer = match &self.durable {
            Some(durable) if Durable::promises(function) => durable.call(function, keys, &args.words()).await,
            _ => {
                // What has no key is nobody's in particular: any slot will do.
                let key = keys.first().map_or("", String::as_str);
                let args = &args.words()[..];
                let work = |primary: Arc<Primary>| async move {
                    self.library.call(&*primary.link, function, keys, args).await
                };
                self.link.at(key, work).await
            }
        };
        Ok(answer?)
    }

    /// Whether a call failed because it touched several partitions, where only one slot may be touched after all: from
    /// here on none does.
    pub fn turns_out_apart(&self, fault: &Fault) -> bool {
        let apart = fault.to_string().contains("CROSSSLOT");
        if apart && self.together.swap(false, Ordering::Relaxed) {
            tracing::info!("this Redis is a cluster all the same: one call for each partition");
        }
        apart
    }

    /// A plain command on the key that is its first word, where nothing is promised of replicas.
    pub async fn plain(&self, name: &str, words: &[&[u8]]) -> Result<Reply, Fault> {
        let key = words.first().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let work = |primary: Arc<Primary>| async move { primary.link.plain(name, words).await };
        Ok(self.link.at(key, work).await?)
    }

    /// What all nodes of an installation must agree about, settled by the first one; why this one cannot be of it.
    async fn settle(&self) -> Result<Option<String>, Fault> {
        let own = PARTITIONS.to_string();
        let settled = self.call("gw1_settle", &[self.keys.config()], Args::none().and(&own)).await?;
        let settled = settled.text()?;
        let prefix = &self.options.prefix;
        let why = || {
            format!("what is kept there under {prefix} has {settled} partitions, and this release has {own}")
        };
        Ok((settled != own).then(why))
    }

    /// Settles that now, or, where it is kept does not answer, when it does.
    async fn start_settling(self: &Arc<Self>, tasks: &TaskTracker) -> Result<(), Fault> {
        match self.settle().await {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => return Err(Fault::Unavailable(why)),
            Err(fault) => {
                tracing::warn!(%fault, "it cannot be checked yet whether this release can use what is kept there");
            }
        }
        let node = Arc::downgrade(self);
        tasks.spawn(async move {
            while let Some(node) = node.upgrade() {
                match node.settle().await {
                    Ok(None) => return,
                    Ok(Some(why)) => return tracing::error!("{why}"),
                    Err(fault) => tracing::debug!(%fault, "not yet settled"),
                }
                let stop = node.stop.clone();
                drop(node);
                if stop.run_until_cancelled(tokio::time::sleep(SETTLING)).await.is_none() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Looks now and then how far the servers' clocks are from this node's: the times of entries are theirs.
    fn start_watching_clocks(&self, tasks: &TaskTracker) {
        // For a test that tells Redis the time there is one clock.
        if self.options.tell_time {
            return;
        }
        let (link, clock, stop) = (self.link.clone(), self.options.clock.clone(), self.stop.clone());
        let watch = async move {
            let mut every = tokio::time::interval(CLOCKS);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                link.compare_clocks(&clock).await;
            }
        };
        tasks.spawn(async move { stop.run_until_cancelled(watch).await });
    }

    /// Calls a function that answers with a list.
    pub async fn list(&self, function: &str, keys: &[String], args: Args) -> Result<Vec<Reply>, Fault> {
        self.call(function, keys, args).await?.list()
    }

    /// Calls a function on a log.
    pub async fn on_log(&self, function: &str, log: &LogKey, args: Args) -> Result<Vec<Reply>, Fault> {
        self.list(function, &self.keys.log(log), args).await
    }
}
