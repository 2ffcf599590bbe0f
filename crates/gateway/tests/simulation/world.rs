//! One run: a few nodes over one engine, people with devices, and what befalls them, all from one seed, in time that
//! passes only when everybody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::{Backplane, Change, MemberSet};
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use parlance_gateway::node::Node;
use parlance_model::{ConversationId, ConversationKind, NodeId, Time, UserId};
use tokio::time::{Instant, sleep};

use super::diary::Diary;
use super::fate::{Fate, Weather};
use super::random::Random;
use super::{engine, person};

const BASE: u64 = 1_755_633_600_000;
const USERS: [&str; 4] = ["ann", "bob", "cyd", "dee"];
const CONVERSATIONS: [&str; 3] = ["one", "two", "7"];
/// How long things go wrong.
const STORM: Duration = Duration::from_secs(50);
/// How long everything may take to be well again: a lease, the time after a pause, an offline that is held back, and some.
const CALM: Duration = Duration::from_secs(75);

/// A running node.
pub struct Host {
    pub name: NodeId,
    pub node: Arc<Node>,
    pub fate: Arc<Fate>,
}

/// What everybody sees.
pub struct World {
    pub clock: Clock,
    pub admin: Backplane,
    pub hosts: Mutex<Vec<Arc<Host>>>,
    /// Of every node that ever was.
    pub fates: Mutex<BTreeMap<NodeId, Arc<Fate>>>,
    pub members: BTreeMap<ConversationId, Vec<UserId>>,
    pub diary: Mutex<Diary>,
    /// Nothing more goes wrong; who is gone stays away, who is there stays.
    pub calm: Mutex<bool>,
    engine: Embedded,
    started: Mutex<u64>,
}

impl World {
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    pub fn is_calm(&self) -> bool {
        *self.calm.lock()
    }

    /// Somewhere to connect to.
    pub fn any_host(&self, random: &mut Random) -> Option<Arc<Host>> {
        let hosts = self.hosts.lock();
        (!hosts.is_empty()).then(|| random.pick(&hosts).clone())
    }

    async fn start_host(&self, random: Random) {
        let name = {
            let mut started = self.started.lock();
            *started += 1;
            NodeId::parse(&format!("n{started}")).unwrap()
        };
        let fate = Fate::new(random);
        self.fates.lock().insert(name.clone(), fate.clone());
        let far = engine::through(self.engine.attach(name.clone()), fate.clone());
        let mut config = Config { ack_level: "memory".to_owned(), ..Config::default() };
        config.auth.secrets = vec!["a-secret-of-these-tests-of-32-bytes-or-more".to_owned()];
        let node = parlance_gateway::begin(config, far, name.clone(), self.clock.clone()).await.unwrap();
        self.hosts.lock().push(Arc::new(Host { name, node, fate }));
    }
}

/// Runs a seed: what was seen.
pub async fn run(seed: u64) -> (Diary, Arc<World>) {
    let mut random = Random::of(seed);
    let began = Instant::now();
    let clock =
        Clock::from_fn(move || Time(BASE + u64::try_from(began.elapsed().as_millis()).unwrap_or_default()));
    let options = Options { inline: true, retention_entries: 1 << 20, ..Options::default() };
    let engine = Embedded::open(options, clock.for_engine()).unwrap();
    let admin = engine.attach(NodeId::parse("admin").unwrap());
    let members = found(&admin, &mut random).await;
    let world = Arc::new(World {
        clock,
        admin,
        hosts: Mutex::default(),
        fates: Mutex::default(),
        members,
        diary: Mutex::default(),
        calm: Mutex::new(false),
        engine,
        started: Mutex::new(0),
    });
    for _ in 0..2 + random.below(2) {
        let own = random.fork();
        world.start_host(own).await;
    }
    let mut people = Vec::new();
    for name in USERS {
        let user = UserId::parse(name).unwrap();
        let stays = name == USERS[0] || !random.per_mille(300);
        for device in 0..1 + random.below(2) {
            let person = person::Person { world: world.clone(), user: user.clone(), device, stays };
            #[expect(clippy::disallowed_methods, reason = "the runtime of a run ends with it")]
            people.push(tokio::spawn(person.live(random.fork())));
        }
    }
    storm(&world, &mut random).await;
    *world.calm.lock() = true;
    sleep(CALM).await;
    let diary = std::mem::take(&mut *world.diary.lock());
    for person in people {
        assert!(!person.is_finished() || person.await.is_ok(), "a person's task ended by a panic");
    }
    (diary, world)
}

/// The conversations, with two members at least.
async fn found(admin: &Backplane, random: &mut Random) -> BTreeMap<ConversationId, Vec<UserId>> {
    let mut all = BTreeMap::new();
    for id in CONVERSATIONS {
        let id = ConversationId::parse(id).unwrap();
        let more = USERS.iter().skip(2).filter(|_| random.per_mille(600));
        let members: Vec<UserId> =
            USERS.iter().take(2).chain(more).map(|name| UserId::parse(name).unwrap()).collect();
        let change = Change {
            id: id.clone(),
            create: true,
            only_create: false,
            kind: ConversationKind::Group,
            title: None,
            members: MemberSet::Exactly(members.clone()),
            number: None,
            by: None,
        };
        admin.conversations.change(change).await.unwrap().unwrap();
        all.insert(id, members);
    }
    all
}

fn weather(random: &mut Random) -> Weather {
    let mut some = |most: u64| if random.per_mille(400) { random.below(most) } else { 0 };
    Weather {
        refused: some(60),
        unanswered: some(60),
        slow: some(400),
        lost: some(30),
        silent: some(60),
        doubled: some(100),
    }
}

/// Things go wrong for a while.
async fn storm(world: &Arc<World>, random: &mut Random) {
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        sleep(Duration::from_millis(500 + random.below(4000))).await;
        let Some(host) = world.any_host(random) else { break };
        match random.below(10) {
            0..=4 => host.fate.set(weather(random)),
            5 | 6 => host.fate.set(Weather::default()),
            7 | 8 => {
                world.diary.lock().note(world.now(), &format!("{} is cut off", host.name));
                host.fate.cut(true);
                sleep(Duration::from_millis(200 + random.below(5000))).await;
                host.fate.cut(false);
                world.diary.lock().note(world.now(), &format!("{} is reached again", host.name));
            }
            _ => crash(world, &host, random).await,
        }
    }
    for host in world.hosts.lock().iter() {
        host.fate.set(Weather::default());
    }
}

/// The node dies between two steps of its calls, soon; another one comes in its place.
async fn crash(world: &Arc<World>, host: &Arc<Host>, random: &mut Random) {
    host.fate.crash_in(random.below(30));
    sleep(Duration::from_millis(random.below(1500))).await;
    host.fate.crash();
    host.node.halt.cancel();
    world.diary.lock().note(world.now(), &format!("{} crashed", host.name));
    world.hosts.lock().retain(|other| !Arc::ptr_eq(other, host));
    let own = random.fork();
    world.start_host(own).await;
}
