//! How every key and channel is spelled, and which partition it lies in. Nothing else spells one.
//!
//! A partition is a hash tag: everything one function call touches lies in one partition, and so in one slot of a
//! cluster. The tags are chosen so that partition `p` has slot `p * 64 + 32`: contiguous slot ranges hold equally
//! many partitions for up to 64 shards. Must not know: what is kept under the keys.

use parlance_model::{ConversationId, LogKey, Topic, UserId};
use xxhash_rust::xxh3::xxh3_64;

/// Partitions; never changes once there is data.
pub const PARTITIONS: usize = 256;

#[rustfmt::skip]
const TAGS: [&str; PARTITIONS] = [
    "021", "4zp", "aio", "0ov", "21g", "csv", "cj9", "z1", "1d8", "5hq", "556", "90g", "3gn", "baw", "7rh", "f0y",
    "06q", "a0h", "id7", "0k6", "o6o", "69n", "cny", "gb0", "lc0", "5l1", "51v", "1y7", "wkn", "7og", "b8p", "3za",
    "4z4", "02u", "0o2", "00bb", "6yb", "o2k", "zu", "kce", "5h5", "9md", "d3k", "55r", "7kc", "fmz", "ft5", "j5l",
    "i94", "f", "0kr", "amk", "c3z", "gz", "gbt", "6dm", "5lu", "djl", "1ys", "512", "bes", "3cj", "fpu", "72d",
    "emk", "4kr", "465", "83d", "6t", "cbt", "65c", "k3", "112", "5ys", "hct", "1lu", "32d", "bpu", "7cj", "fes",
    "8jc", "4o2", "42u", "0z4", "24", "6ld", "k2k", "os", "15r", "qus", "hg4", "1h5", "n5l", "bt5", "bmz", "3kc",
    "4k6", "8ng", "e0h", "46q", "cb0", "60", "kw", "k6o", "5y7", "11v", "1l1", "hc0", "7za", "f8p", "3og", "skn",
    "4ov", "eio", "0zp", "421", "cfp", "2p", "o7", "61g", "qu7", "156", "1hq", "5d8", "b0y", "3rh", "faw", "7gn",
    "bn", "6x6", "6ay", "2m0", "e9q", "a58", "iag", "0nf", "ne6", "7j7", "77p", "f1i", "9l0", "5ia", "h7n", "18o",
    "247", "rt6", "6e9", "2ip", "07a", "a1x", "4fo", "min", "fhn", "7nw", "730", "nx9", "1ah", "hni", "50f", "957",
    "6xr", "203", "2mt", "ckm", "aqt", "03e", "edr", "4bk", "7js", "flj", "n85", "774", "hjm", "1el", "913", "54b",
    "c2j", "fj", "2i4", "kf5", "au4", "8z5", "0jb", "iec", "7n3", "3bz", "f5m", "73t", "5me", "9h4", "1xc", "h3j",
    "7d", "6i4", "64s", "g2j", "8o3", "4jb", "i4m", "82t", "33t", "b5m", "7bz", "3n3", "l3j", "5xc", "hbd", "1me",
    "gkm", "6mt", "603", "nc", "0bk", "adr", "43e", "864", "374", "j85", "blj", "3js", "14b", "q0k", "5el", "dcu",
    "6ip", "2e9", "jg", "647", "iin", "0fo", "820", "47a", "jx9", "330", "3nw", "bhn", "q4o", "10f", "9d9", "5ah",
    "6m0", "wh", "2x6", "60w", "4nf", "8k7", "86p", "a9q", "b1i", "37p", "3j7", "je6", "58o", "9y6", "1ia", "qmh",];

/// The spelling of one installation: its prefixes.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    channels: String,
}

/// The log of a deleted, live or future conversation, feed or channel in text: `c:id`, `u:id`, `a:name`.
pub fn log_text(key: &LogKey) -> String {
    match key {
        LogKey::Conversation(id) => format!("c:{id}"),
        LogKey::User(user) => format!("u:{user}"),
        LogKey::App(name) => format!("a:{name}"),
    }
}

/// Reads [`log_text`].
pub fn parse_log(text: &str) -> Option<LogKey> {
    match text.split_once(':')? {
        ("c", id) => ConversationId::parse(id).ok().map(LogKey::Conversation),
        ("u", id) => UserId::parse(id).ok().map(LogKey::User),
        ("a", name) => Some(LogKey::App(name.into())),
        _ => None,
    }
}

/// The partition of something by its text.
pub fn partition(text: &str) -> usize {
    usize::try_from(xxh3_64(text.as_bytes()) % PARTITIONS as u64).unwrap_or(0)
}

/// The partition of a log.
pub fn log_partition(log: &LogKey) -> usize {
    partition(&log_text(log))
}

/// The partition of a user's own things.
pub fn user_partition(user: &UserId) -> usize {
    partition(&format!("u:{user}"))
}

impl Keys {
    /// Keys that begin with `prefix`, channels that begin with `channels`.
    pub fn new(prefix: &str, channels: &str) -> Self {
        Self { prefix: prefix.to_owned(), channels: channels.to_owned() }
    }

    fn key(&self, partition: usize, kind: &str, text: &str) -> String {
        let tag = TAGS.get(partition % PARTITIONS).copied().unwrap_or_default();
        let prefix = if kind.starts_with("ch") { &self.channels } else { &self.prefix };
        // Spelled many times for each message.
        let mut key = String::with_capacity(prefix.len() + kind.len() + tag.len() + text.len() + 4);
        for part in [prefix.as_str(), kind, ":{", tag, "}", text] {
            key.push_str(part);
        }
        key
    }

    /// The keys of a log, in the order every function on logs takes them.
    pub fn log(&self, log: &LogKey) -> Vec<String> {
        self.log_for(log, usize::MAX)
    }

    /// The first so many of them: five for who appends a message, six for who moves a cursor. What is not handed over
    /// need not be spelled, sent and read.
    pub fn log_for(&self, log: &LogKey, count: usize) -> Vec<String> {
        let text = log_text(log);
        let at = partition(&text);
        let spell = |kind: &str| match kind {
            "d" => format!("{}/", self.key(at, "d", &text)),
            "e" => self.key(at, "e", ""),
            kind => self.key(at, kind, &text),
        };
        ["l", "s", "m", "d", "ch", "r", "x", "y", "o", "e"].into_iter().take(count).map(spell).collect()
    }

    /// The state of a log.
    pub fn state(&self, log: &LogKey) -> String {
        let text = log_text(log);
        self.key(partition(&text), "l", &text)
    }

    /// What the states of all conversations look like, in the words of `SCAN`.
    pub fn all_states(&self) -> String {
        let mut pattern = String::new();
        for c in self.prefix.chars() {
            if "*?[]\\^".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + "l:{*}c:*"
    }

    /// The conversation of which this is the state.
    pub fn conversation_of(&self, state: &str) -> Option<ConversationId> {
        let (_, text) = state.strip_prefix(&self.prefix)?.split_once('}')?;
        let id = ConversationId::parse(text.strip_prefix("c:")?).ok()?;
        (self.state(&LogKey::Conversation(id.clone())) == state).then_some(id)
    }

    /// The state, members and cursors of a conversation.
    pub fn place(&self, id: &ConversationId) -> [String; 3] {
        let text = format!("c:{id}");
        ["l", "m", "r"].map(|kind| self.key(partition(&text), kind, &text))
    }

    /// The state, members, cursors and entries of a conversation.
    pub fn overview(&self, id: &ConversationId) -> [String; 4] {
        let text = format!("c:{id}");
        ["l", "m", "r", "s"].map(|kind| self.key(partition(&text), kind, &text))
    }

    /// The counter of changes of a partition's logs of a kind: `c`, `u` or `a`. `save_log` finds it at the beginning of the states.
    pub fn changes(&self, partition: usize, kind: &str) -> String {
        self.key(partition, "l", kind)
    }

    /// The epoch of a log's partition.
    pub fn epoch(&self, log: &LogKey) -> String {
        self.key(partition(&log_text(log)), "e", "")
    }

    /// A user's presence: leases, announced status, the partition's deadlines, channels; places, the partition's endings.
    pub fn presence(&self, user: &UserId) -> Vec<String> {
        let mut keys = self.coming(user);
        let at = user_partition(user);
        keys.extend([self.key(at, "pw", user.as_str()), self.key(at, "po", "")]);
        keys
    }

    /// The first five of them: who takes a lease needs no more.
    pub fn coming(&self, user: &UserId) -> Vec<String> {
        let at = user_partition(user);
        let of = |kind| self.key(at, kind, user.as_str());
        let whole = |kind| self.key(at, kind, "");
        vec![of("p"), of("pa"), whole("px"), of("ch:p"), whole("ch:pa")]
    }

    /// What a sweep of a partition looks at.
    pub fn sweep(&self, partition: usize) -> Vec<String> {
        let whole = |kind| self.key(partition, kind, "");
        let kinds = ["sl", "po", "px", "ty", "tx", "ch:pa", "p", "pa", "pw", "ch:p"];
        let mut keys: Vec<String> = kinds.into_iter().map(whole).collect();
        keys.push(self.key(partition, "ch", "c:"));
        keys
    }

    /// When the leases of a partition end.
    pub fn deadlines(&self, partition: usize) -> String {
        self.key(partition, "px", "")
    }

    /// The endings of a partition.
    pub fn endings(&self, partition: usize) -> String {
        self.key(partition, "po", "")
    }

    /// Members, typists, deadlines and channel of a conversation.
    pub fn typing(&self, id: &ConversationId) -> Vec<String> {
        let text = format!("c:{id}");
        let at = partition(&text);
        vec![
            self.key(at, "m", &text),
            self.key(at, "ty", ""),
            self.key(at, "tx", ""),
            self.key(at, "ch", &text),
        ]
    }

    /// A user's conversations.
    pub fn belongs(&self, user: &UserId) -> String {
        self.key(user_partition(user), "uc", user.as_str())
    }

    /// The same, and the user's leases.
    pub fn belonging(&self, user: &UserId) -> [String; 2] {
        [self.belongs(user), self.key(user_partition(user), "p", user.as_str())]
    }

    /// Where a user used which client ids; a bucket number follows. Two keys, though one is meant: while a slot moves,
    /// a function on one key that is not there is sent to the new owner, and would begin the bucket there anew; on two
    /// it has to wait.
    pub fn uses(&self, user: &UserId) -> [String; 2] {
        [self.uses_stem(user), self.belongs(user)]
    }

    /// The stem alone.
    pub fn uses_stem(&self, user: &UserId) -> String {
        format!("{}/", self.key(user_partition(user), "mi", user.as_str()))
    }

    /// A user's integers, and their marks.
    pub fn sequence(&self, user: &UserId) -> [String; 2] {
        ["sq", "sm"].map(|kind| self.key(user_partition(user), kind, user.as_str()))
    }

    /// A user's rate window.
    pub fn window(&self, user: &UserId, rule: &str) -> String {
        self.key(user_partition(user), "w", &format!("{user}/{rule}"))
    }

    /// A shared value.
    pub fn shared(&self, name: &str) -> String {
        self.key(partition(name), "v", name)
    }

    /// A partition's trail, who has it, and the stem of what was put aside.
    pub fn trail(&self, partition: usize) -> [String; 3] {
        let stem = |kind| self.key(partition, kind, "");
        [stem("tr"), stem("th"), format!("{}/", stem("td"))]
    }

    /// What the nodes said last, and until when each is live.
    pub fn nodes(&self) -> [String; 2] {
        ["nd", "nt"].map(|kind| self.key(0, kind, ""))
    }

    /// The counter of numbers.
    pub fn counter(&self) -> String {
        self.key(0, "n", "")
    }

    /// What the installation settled at its first start.
    pub fn config(&self) -> String {
        self.key(0, "cfg", "")
    }

    /// Whose the numbers of one partition are.
    pub fn owners(&self, number: u32) -> String {
        self.key(number as usize % PARTITIONS, "no", "")
    }

    /// The channels of a topic: one, or one per partition.
    pub fn channels(&self, topic: &Topic) -> Vec<String> {
        match topic {
            Topic::PresenceAll => (0..PARTITIONS).map(|at| self.key(at, "ch:pa", "")).collect(),
            Topic::Presence(user) => vec![self.key(user_partition(user), "ch:p", user.as_str())],
            Topic::Nodes => vec![self.key(0, "ch:n", "")],
            Topic::Conversation(_) | Topic::User(_) | Topic::App(_) => LogKey::of_topic(topic)
                .map(|log| log_text(&log))
                .map(|text| self.key(partition(&text), "ch", &text))
                .into_iter()
                .collect(),
        }
    }
}

/// What of a key decides its slot: its hash tag when it has one.
pub fn tag(key: &str) -> &str {
    let tagged = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tagged.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// The cluster slot of a key.
pub fn slot(key: &str) -> u16 {
    let crc = tag(key).bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_spread_the_partitions_evenly_over_the_slots() {
        assert_eq!(slot("123456789"), 0x31c3, "the published check value of the CRC");
        for (partition, tag) in TAGS.iter().enumerate() {
            assert_eq!(usize::from(slot(&format!("gw:x:{{{tag}}}y{{z}}"))), partition * 64 + 32, "{tag}");
        }
    }

    #[test]
    fn states_tell_their_conversation() {
        let (keys, other) = (Keys::new("gw[1]:", "gw/"), Keys::new("gw:", "gw/"));
        assert_eq!(keys.all_states(), "gw\\[1\\]:l:{*}c:*");
        let id = ConversationId::parse("a:c:b@").unwrap();
        let state = keys.state(&LogKey::Conversation(id.clone()));
        assert_eq!(keys.conversation_of(&state), Some(id));
        assert_eq!(other.conversation_of(&state), None);
        assert_eq!(keys.conversation_of(&state.replace("l:{", "m:{")), None);
        assert_eq!(keys.conversation_of(&keys.changes(7, "c")), None);
        assert_eq!(keys.conversation_of(&keys.state(&LogKey::App("c:x".into()))), None);
    }

    #[test]
    fn what_one_call_touches_lies_in_one_slot() {
        let keys = Keys::new("gw:", "gw/");
        let (user, id) = (UserId::parse("u:1").unwrap(), ConversationId::parse("c@2").unwrap());
        let log = LogKey::Conversation(id.clone());
        let mut of_conversation = keys.log(&log);
        of_conversation.extend(keys.place(&id));
        of_conversation.extend(keys.overview(&id));
        of_conversation.extend(keys.typing(&id));
        of_conversation.extend(keys.channels(&log.topic()));
        of_conversation.push(keys.epoch(&log));
        of_conversation.extend(keys.trail(log_partition(&log)));
        of_conversation.extend(keys.sweep(partition("c:c@2")));
        let mut of_user = keys.presence(&user);
        of_user.extend(keys.sequence(&user));
        of_user.extend(keys.channels(&Topic::Presence(user.clone())));
        of_user.extend(keys.sweep(user_partition(&user)));
        of_user.extend(keys.uses(&user));
        of_user.push(keys.window(&user, "r"));
        for ring in [of_conversation, of_user] {
            assert!(ring.iter().all(|key| slot(key) == slot(&ring[0])), "{ring:?}");
        }
        let mut all = keys.channels(&Topic::PresenceAll);
        all.dedup();
        assert_eq!(all.len(), PARTITIONS);
    }

    #[test]
    fn sweeps_find_the_keys_of_users_and_conversations() {
        let keys = Keys::new("gw:", "gw/");
        let (user, id) = (UserId::parse("u").unwrap(), ConversationId::parse("c").unwrap());
        let sweep = keys.sweep(user_partition(&user));
        let presence = keys.presence(&user);
        for (stem, whole) in [(6, 0), (7, 1), (8, 5), (9, 3)] {
            assert_eq!(format!("{}u", sweep[stem]), presence[whole]);
        }
        assert_eq!((&sweep[1], &sweep[2], &sweep[5]), (&presence[6], &presence[2], &presence[4]));
        let sweep = keys.sweep(partition("c:c"));
        let typing = keys.typing(&id);
        assert_eq!((&sweep[3], &sweep[4], &format!("{}c", sweep[10])), (&typing[1], &typing[2], &typing[3]));
    }

    #[test]
    fn logs_read_back() {
        for text in ["c:a:b", "u:x", "a:feed:updates"] {
            assert_eq!(log_text(&parse_log(text).unwrap()), text);
        }
        assert_eq!((parse_log("z:1"), parse_log("c"), parse_log("c:a b")), (None, None, None));
    }
}
