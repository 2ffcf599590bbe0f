//! From a seed to a trace: few users, conversations and names, so that steps meet; each trace dwells on some areas.

use std::time::Duration;

use parlance_backplane::{MemberSet, Signal};
use parlance_model::{
    Author, ConnectionId, ConversationId, ConversationKind, LogKey, Message, NodeId, RawJson, ReceiptKind,
    Record, Status, Topic, UserId,
};

use super::command::{Command, Lease, Named, Part, Place, Step};
use super::random::Random;

const STEPS: usize = 300;
/// All-digit ones are their own numbers.
const CONVERSATIONS: [&str; 6] = ["a", "b:1", "c", "7", "42", "0042"];
const USERS: [&str; 4] = ["ann", "bob", "cy.d", "d@e"];
const APPS: [&str; 2] = ["feed:news", "feed:x"];
const CLIENT_IDS: [&str; 6] = ["1", "2", "id 3", "\"quoted\\\"", "zażółć", "5\n6"];
const KINDS: [&str; 4] = ["👍", "heart", "a \"b\"", "x\\y"];
const TITLES: [&str; 4] = ["Plans", "\"Zoë\" \\ \n", "", "null"];
const MOUNTS: [&str; 2] = ["sechat", "famly"];
const RULES: [&str; 2] = ["send", "type"];
const KEYS: [&str; 3] = ["one", "two words", "{x}"];

/// A trace, and how its engines are built.
#[derive(Clone)]
pub struct Trace {
    pub seed: u64,
    pub start: u64,
    pub retention_entries: u64,
    pub retention: Duration,
    pub dedupe_window: Duration,
    pub steps: Vec<Step>,
}

impl Trace {
    pub fn of(seed: u64) -> Self {
        let mut random = Random::of(seed);
        // Old entries go a few at a time, and not as many in each engine: age only counts in logs that are that short.
        let (retention_entries, retention) =
            if random.once_in(3) { (4, Duration::from_secs(20)) } else { (40, Duration::from_secs(1 << 30)) };
        let dedupe_window = Duration::from_secs(random.pick(&[600, 3600]));
        let start = 1_755_633_600_000 + random.below(10_000_000);
        let weights: Vec<u64> = AREAS.iter().map(|area| area.weight * random.pick(&[0, 1, 1, 4])).collect();
        let mut scene = Scene { random };
        let mut steps = Vec::with_capacity(STEPS);
        for first in [0, 1, 2] {
            let command = scene.create(CONVERSATIONS[first]);
            steps.push(Step { node: 0, command });
        }
        while steps.len() < STEPS {
            let node = usize::try_from(scene.random.below(2)).unwrap();
            let mut ticket = scene.random.below(weights.iter().sum());
            let chosen = weights.iter().position(|weight| {
                let hit = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                hit
            });
            let Some(area) = chosen.and_then(|index| AREAS.get(index)) else { continue };
            steps.push(Step { node, command: (area.command)(&mut scene) });
        }
        Self { seed, start, retention_entries, retention, dedupe_window, steps }
    }
}

struct Area {
    weight: u64,
    command: fn(&mut Scene) -> Command,
}

const AREAS: [Area; 12] = [
    Area { weight: 8, command: Scene::time },
    Area { weight: 12, command: Scene::write },
    Area { weight: 8, command: Scene::read },
    Area { weight: 8, command: Scene::conversation },
    Area { weight: 6, command: Scene::cursor },
    Area { weight: 4, command: Scene::sequence },
    Area { weight: 10, command: Scene::presence },
    Area { weight: 8, command: Scene::room },
    Area { weight: 6, command: Scene::typing },
    Area { weight: 4, command: Scene::rate },
    Area { weight: 3, command: Scene::shared },
    Area { weight: 4, command: Scene::bus },
];

struct Scene {
    random: Random,
}

impl Scene {
    fn user(&mut self) -> UserId {
        UserId::parse(self.random.pick(&USERS)).unwrap()
    }

    fn users(&mut self, most: u64) -> Vec<UserId> {
        self.random.some(&USERS, most).into_iter().map(|id| UserId::parse(id).unwrap()).collect()
    }

    fn id(&mut self) -> ConversationId {
        // The first ones more often.
        let one = self.random.below(CONVERSATIONS.len() as u64);
        let index = usize::try_from(self.random.below(one + 1)).unwrap();
        ConversationId::parse(CONVERSATIONS[index]).unwrap()
    }

    fn author(&mut self) -> Author {
        let id = self.user();
        self.shown(id)
    }

    fn shown(&mut self, id: UserId) -> Author {
        let name = self.random.once_in(2).then(|| "Zoë \"Z\"\n".into());
        Author { name, ..Author::bare(id) }
    }

    fn place(&mut self) -> Place {
        match self.random.below(8) {
            0 => Place::Beyond(self.random.below(3) + 1),
            1 => Place::At(self.random.below(4)),
            2 => Place::At(u64::MAX),
            _ => Place::Back(self.random.below(8)),
        }
    }

    fn limit(&mut self) -> usize {
        self.random.pick(&[0, 1, 2, 5, 1000])
    }

    fn log(&mut self) -> LogKey {
        match self.random.below(6) {
            0 => LogKey::User(self.user()),
            1 => LogKey::App((self.random.pick(&APPS)).into()),
            _ => LogKey::Conversation(self.id()),
        }
    }

    fn connection(&mut self, user: &UserId) -> ConnectionId {
        let node = NodeId::parse(&format!("n-{user}")).unwrap();
        ConnectionId { node, number: self.random.below(3) }
    }

    fn time(&mut self) -> Command {
        match self.random.below(12) {
            0..=6 => Command::Pass(Duration::from_millis(self.random.below(700))),
            7 => Command::Pass(Duration::from_millis(self.random.below(4000))),
            8 if self.random.once_in(3) => Command::Pass(Duration::from_secs(self.random.below(700))),
            8 => Command::Pass(Duration::from_secs(self.random.below(20))),
            9 => Command::Pass(Duration::from_millis(2999)),
            // The most expensive one on Redis.
            10 => Command::Sweep,
            _ => Command::Pass(Duration::from_millis(1)),
        }
    }

    fn message(&mut self) -> Message {
        let json = |text: &str| Some(RawJson::trusted(text));
        Message {
            author: self.author(),
            client_id: self.random.once_in(2).then(|| (self.random.pick(&CLIENT_IDS)).into()),
            body: self.random.pick(&["hello", "", "line\nbreak 😀 \u{0} \\", "{\"s\":1}"]).into(),
            metadata: if self.random.once_in(4) { json("{\"a\": [1, 2.50]}") } else { None },
            extra: if self.random.once_in(6) { json("{}") } else { None },
            trace: None,
        }
    }

    fn write(&mut self) -> Command {
        match self.random.below(10) {
            0..=5 => Command::Append(self.id(), self.message()),
            6..=8 => Command::React {
                conversation: self.id(),
                author: self.author(),
                target: self.place(),
                kind: self.random.pick(&KINDS),
                added: !self.random.once_in(3),
            },
            _ => {
                let log = if self.random.once_in(2) {
                    LogKey::User(self.user())
                } else {
                    LogKey::App((self.random.pick(&APPS)).into())
                };
                Command::Post(log, self.posted())
            }
        }
    }

    fn posted(&mut self) -> Record {
        match self.random.below(3) {
            0 => Record::App { kind: "k".into(), payload: RawJson::trusted("[ 1,\"\\n\" ]"), trace: None },
            1 => Record::Invited { conversation: self.id(), since: self.random.below(9) },
            _ => Record::NotificationRead { id: self.random.once_in(2).then(|| "n \"1\"".into()) },
        }
    }

    fn read(&mut self) -> Command {
        match self.random.below(10) {
            0..=4 => {
                let (place, limit) = (self.place(), self.limit());
                let part = match self.random.below(3) {
                    0 => Part::After(place, limit),
                    1 => Part::Before(place, limit),
                    _ => Part::Since(self.random.below(5000), limit),
                };
                Command::Range(self.log(), part)
            }
            5 | 6 => Command::FindClient {
                author: self.user(),
                id: self.random.pick(&CLIENT_IDS),
                conversation: self.random.once_in(2).then(|| self.id()),
            },
            7 => Command::FindId(self.named(), self.place()),
            8 => Command::FindNumber(self.named()),
            _ => {
                let (one, other) = (self.place(), self.place());
                Command::Standing(self.id(), one, other)
            }
        }
    }

    fn named(&mut self) -> Named {
        if self.random.once_in(3) {
            Named::Number(self.random.pick(&[0, 7, 42, 5]))
        } else {
            Named::Of(self.id())
        }
    }

    fn create(&mut self, id: &str) -> Command {
        let all = USERS.map(|id| UserId::parse(id).unwrap());
        Command::Change {
            id: ConversationId::parse(id).unwrap(),
            create: true,
            only_create: false,
            kind: ConversationKind::Group,
            title: None,
            members: MemberSet::Exactly(self.random.some(&all, 6)),
            number: None,
            by: None,
        }
    }

    fn conversation(&mut self) -> Command {
        match self.random.below(16) {
            0..=7 => {
                let members = if self.random.once_in(2) {
                    MemberSet::Exactly(self.users(5))
                } else {
                    MemberSet::Delta { add: self.users(2), remove: self.users(2) }
                };
                let title = if self.random.once_in(3) { None } else { Some(self.random.pick(&TITLES)) };
                Command::Change {
                    id: self.id(),
                    create: !self.random.once_in(4),
                    only_create: self.random.once_in(5),
                    kind: self.random.pick(&[
                        ConversationKind::Dm,
                        ConversationKind::Group,
                        ConversationKind::Channel,
                    ]),
                    title: self.random.once_in(3).then_some(title),
                    members,
                    number: self.random.once_in(3).then(|| self.random.pick(&[5, 7, 42, 1 << 31])),
                    by: self.random.once_in(2).then(|| self.user()),
                }
            }
            8..=10 => Command::Get(self.id()),
            11 | 12 => Command::OfUser(self.user()),
            13 | 14 => Command::Heads((0..self.random.below(6)).map(|_| self.id()).collect()),
            _ => Command::Delete(self.id()),
        }
    }

    fn cursor(&mut self) -> Command {
        if self.random.once_in(4) {
            return Command::Cursors(self.id());
        }
        let kind = self.random.pick(&[ReceiptKind::Delivered, ReceiptKind::Read]);
        Command::Advance(self.id(), self.user(), kind, self.place())
    }

    fn sequence(&mut self) -> Command {
        match self.random.below(6) {
            0..=3 => {
                let count = self.random.below(5);
                Command::Assign((0..count).map(|_| (self.user(), self.log(), self.place())).collect())
            }
            4 => Command::Pointers {
                user: self.user(),
                after: self.random.pick(&[0, 1, 3, u64::MAX]),
                limit: self.limit(),
            },
            _ => Command::Marks(self.user()),
        }
    }

    fn lease(&mut self) -> Lease {
        let user = self.user();
        let statuses =
            [None, None, Some(Status::Online), Some(Status::Away), Some(Status::Busy), Some(Status::Offline)];
        Lease {
            connection: self.connection(&user),
            user,
            mount: self.random.pick(&MOUNTS),
            status: self.random.pick(&statuses),
            life: Duration::from_millis(self.random.pick(&[0, 500, 3000, 35_000])),
            silent: Duration::from_millis(self.random.pick(&[0, 0, 700, 20_000])),
            max: self.random.pick(&[0, 0, 1, 2]),
        }
    }

    fn presence(&mut self) -> Command {
        match self.random.below(12) {
            0..=4 => Command::Touch(self.lease()),
            5 | 6 => Command::Refresh((0..self.random.below(4)).map(|_| self.lease()).collect()),
            7 | 8 => {
                let user = self.user();
                let connection = self.connection(&user);
                Command::Close(user, connection)
            }
            9 => Command::Linger(self.lease()),
            11 if self.random.once_in(3) => Command::Sweep,
            _ => Command::Status(self.users(4)),
        }
    }

    fn room(&mut self) -> Command {
        if self.random.once_in(5) {
            return Command::Present(self.id());
        }
        let rooms = (0..self.random.below(4)).map(|_| self.id()).collect();
        let (author, explicit) = (self.author(), self.random.once_in(2));
        let connection = self.connection(&author.id);
        if self.random.once_in(3) {
            Command::Leave { rooms, author, connection, explicit }
        } else {
            Command::Enter { rooms, author, connection, explicit }
        }
    }

    fn typing(&mut self) -> Command {
        Command::Type {
            conversation: self.id(),
            author: self.author(),
            on: !self.random.once_in(3),
            to: self.users(2),
        }
    }

    fn limit_rule(&mut self) -> (UserId, &'static str) {
        (self.user(), self.random.pick(&RULES))
    }

    fn limit_of(&mut self) -> (u32, Duration) {
        self.random.pick(&[
            (3, Duration::from_secs(60)),
            (3, Duration::from_secs(60)),
            (1, Duration::from_secs(60)),
            (0, Duration::from_secs(60)),
            (5, Duration::from_secs(300)),
        ])
    }

    fn rate(&mut self) -> Command {
        let (user, rule) = self.limit_rule();
        if self.random.once_in(4) {
            let back = usize::try_from(self.random.below(4)).unwrap();
            return Command::GiveBack { user, rule, back };
        }
        let (limit, window) = self.limit_of();
        Command::Take { user, rule, limit, window }
    }

    fn shared(&mut self) -> Command {
        let key = self.random.pick(&KEYS);
        match self.random.below(5) {
            0 | 1 => Command::Save {
                key,
                value: self.random.pick(&[b"".as_slice(), b"a b", b"\0\xff 1"]).to_vec(),
                life: (self.random.pick(&[None, Some(60), Some(600)])).map(Duration::from_secs),
            },
            2 | 3 => Command::Load(key),
            _ => Command::Remove(key),
        }
    }

    fn topic(&mut self) -> Topic {
        match self.random.below(12) {
            0 => Topic::PresenceAll,
            1 | 2 => Topic::Presence(self.user()),
            3 => Topic::User(self.user()),
            4 => Topic::App((self.random.pick(&APPS)).into()),
            _ => Topic::Conversation(self.id()),
        }
    }

    fn bus(&mut self) -> Command {
        match self.random.below(8) {
            0..=4 => Command::Subscribe((0..=self.random.below(5)).map(|_| self.topic()).collect()),
            5 => Command::Unsubscribe((0..self.random.below(3)).map(|_| self.topic()).collect()),
            6 => Command::Signal(self.topic(), Signal::Maintenance),
            _ => {
                let reason = "a \"b\"".to_owned();
                Command::Signal(
                    self.topic(),
                    Signal::Disconnect { reason, reconnect: self.random.once_in(2) },
                )
            }
        }
    }
}
