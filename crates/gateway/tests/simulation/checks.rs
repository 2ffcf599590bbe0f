//! What must hold after every run.

use std::collections::{BTreeMap, BTreeSet};

use parlance_backplane::Range;
use parlance_model::{LogKey, Record};

use super::diary::{Diary, Word};
use super::world::World;

/// The messages of a conversation by text, and how often each is there.
type Log = BTreeMap<String, Vec<u64>>;

/// Everything that does not hold.
pub async fn all(world: &World, diary: &Diary) -> Vec<String> {
    let mut logs = BTreeMap::new();
    for id in world.members.keys() {
        let range = Range::After { seq: 0, limit: usize::MAX };
        let page = world.admin.log.range(&LogKey::Conversation(id.clone()), range).await.unwrap();
        let mut log = Log::new();
        for entry in page.entries {
            if let Record::Message(message) = entry.record {
                log.entry(message.body.to_string()).or_default().push(entry.seq);
            }
        }
        logs.insert(id.to_string(), log);
    }
    let mut wrong = Vec::new();
    acknowledged(diary, &logs, &mut wrong);
    in_order(diary, &logs, &mut wrong);
    complete(world, diary, &logs, &mut wrong);
    presence(world, diary, &mut wrong);
    typing(diary, &mut wrong);
    wrong
}

/// What was acknowledged is in one log once; a sender's acknowledged messages keep their order there.
fn acknowledged(diary: &Diary, logs: &BTreeMap<String, Log>, wrong: &mut Vec<String>) {
    let mut last: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (who, body) in &diary.acked {
        let places: Vec<(&str, u64)> = logs
            .iter()
            .flat_map(|(id, log)| log.get(body).into_iter().flatten().map(move |seq| (id.as_str(), *seq)))
            .collect();
        let [(conversation, seq)] = places[..] else {
            wrong.push(format!("{body} was acknowledged and is in the logs at {places:?}"));
            continue;
        };
        if let Some(before) = last.insert((who, conversation), seq)
            && before >= seq
        {
            wrong.push(format!("{body} of {who} is at {seq}, behind a later one at {before}"));
        }
    }
    for (id, log) in logs {
        for (body, seqs) in log.iter().filter(|(_, seqs)| seqs.len() > 1) {
            wrong.push(format!("{body} is in {id} at {seqs:?}"));
        }
    }
}

/// Within one connection: strictly in order, and nothing of others left out unless it was told.
fn in_order(diary: &Diary, logs: &BTreeMap<String, Log>, wrong: &mut Vec<String>) {
    for (index, session) in diary.sessions.iter().enumerate() {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, word) in &session.heard {
            match word {
                Word::Message { conversation, body } => {
                    let log = &logs[conversation];
                    let Some([seq]) = log.get(body).map(Vec::as_slice) else {
                        wrong.push(format!("session {index} heard {body}, which is not in {conversation}"));
                        continue;
                    };
                    let before = last.insert(conversation, *seq);
                    let Some(before) = before else { continue };
                    if before >= *seq {
                        wrong.push(format!("session {index} heard {body} at {seq} after {before}"));
                    }
                    let own = format!("{}-", session.user);
                    for (missed, seqs) in log.iter().filter(|(body, _)| !body.starts_with(&own)) {
                        if seqs.iter().any(|at| *at > before && at < seq) {
                            wrong.push(format!("session {index} was not told {missed} in {conversation}"));
                        }
                    }
                }
                Word::Lost { conversation, to, .. } => {
                    last.insert(conversation, *to);
                }
                _ => {}
            }
        }
    }
}

/// Whoever is connected in the end was told everything of others, over all connections.
fn complete(world: &World, diary: &Diary, logs: &BTreeMap<String, Log>, wrong: &mut Vec<String>) {
    for (id, members) in &world.members {
        for user in members {
            let own = |session: &&super::diary::Session| session.user == *user;
            if !diary.sessions.iter().filter(own).any(|session| session.until.is_none()) {
                continue;
            }
            let heard: BTreeSet<&str> = diary
                .sessions
                .iter()
                .filter(own)
                .flat_map(|session| &session.heard)
                .filter_map(|(_, word)| match word {
                    Word::Message { body, .. } => Some(body.as_str()),
                    _ => None,
                })
                .collect();
            let theirs = format!("{user}-");
            for (body, seqs) in &logs[id.as_str()] {
                if !body.starts_with(&theirs) && !heard.contains(body.as_str()) {
                    wrong.push(format!("{user} never heard {body} of {id} at {seqs:?}"));
                }
            }
        }
    }
}

/// Nobody with a live device is called offline; an episode ends with one offline, in time; what is told last is so.
fn presence(world: &World, diary: &Diary, wrong: &mut Vec<String>) {
    // A lease, and the sweep.
    const LEASE: u64 = 35_000;
    let end = world.now().millis();
    let stays = Stays(diary);
    for (index, session) in diary.sessions.iter().enumerate() {
        let mut told: BTreeMap<&str, (bool, u64)> = BTreeMap::new();
        for (at, word) in &session.heard {
            let Word::Presence { user, online } = word else { continue };
            let at = at.millis();
            let before = told.insert(user, (*online, at));
            match before {
                Some((false, _)) if !*online => {
                    wrong.push(format!("session {index} was told twice that {user} is offline, at {at}"));
                }
                Some((true, since)) if stays.longest_absence(user, since, at) > GONE => {
                    wrong.push(format!("session {index} was told late that {user} went, at {at}"));
                }
                _ => {}
            }
            // Held back for five seconds: who came meanwhile is there.
            if !*online && stays.throughout(user, at.saturating_sub(LEASE + 6_000), at) {
                wrong.push(format!("session {index} was told that {user} is offline, who is there, at {at}"));
            }
        }
        let until = session.until.map_or(end, |end| end.millis());
        for (user, (online, since)) in told {
            if online && stays.longest_absence(user, since, until) > GONE {
                wrong.push(format!("session {index} was never told that {user} went after {since}"));
            }
            if !online
                && stays.throughout(user, since.max(until.saturating_sub(BACK)), until)
                && since + BACK < until
            {
                wrong.push(format!("session {index} was never told that {user} came back after {since}"));
            }
        }
    }
}

/// An offline is told this long after the last device went, at most: a lease, the sweep, the time all nodes are given
/// after a pause, an offline that is held back, and what bad weather takes.
const GONE: u64 = 35_000 + 1_000 + 15_000 + 5_000 + 5_000;
/// A return is told this long after it at most: all the same with a node that is cut off meanwhile.
const BACK: u64 = 15_000;

/// When users had a connection.
struct Stays<'a>(&'a Diary);

impl Stays<'_> {
    fn of(&self, user: &str) -> impl Iterator<Item = (u64, u64)> {
        let of = self.0.sessions.iter().filter(move |session| session.user.as_str() == user);
        of.map(|session| (session.from.millis(), session.until.map_or(u64::MAX, |end| end.millis())))
    }

    /// Whether one connection was there all the time.
    fn throughout(&self, user: &str, from: u64, until: u64) -> bool {
        self.of(user).any(|(came, went)| came <= from && went >= until)
    }

    /// The longest time within this one without any connection.
    fn longest_absence(&self, user: &str, from: u64, until: u64) -> u64 {
        let mut all: Vec<(u64, u64)> = self.of(user).collect();
        all.sort_unstable();
        let (mut since, mut longest) = (from, 0);
        for (came, went) in all {
            longest = longest.max(came.min(until).saturating_sub(since));
            since = since.max(went);
        }
        longest.max(until.saturating_sub(since))
    }
}

/// A start is followed by a stop in time, and a stop comes after a start.
fn typing(diary: &Diary, wrong: &mut Vec<String>) {
    // Silence, the tick, and what a delivery may take in bad weather.
    const MOST: u64 = 4_000 + 500 + 1_000;
    let last_beat = |conversation: &str, user: &str, by: u64| {
        let of = |typed: &&super::diary::Typed| {
            typed.on
                && typed.conversation.as_str() == conversation
                && typed.user.as_str() == user
                && typed.from.millis() <= by
        };
        let ends = |typed: &super::diary::Typed| {
            typed.until.map_or(typed.from.millis() + 10_000, |end| end.millis())
        };
        diary.typed.iter().filter(of).map(ends).max().unwrap_or(0)
    };
    for (index, session) in diary.sessions.iter().enumerate() {
        let mut typing: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut stopped: BTreeSet<(&str, &str)> = BTreeSet::new();
        let end = session.until.map_or(u64::MAX, |end| end.millis());
        for (at, word) in &session.heard {
            let Word::Typing { conversation, user, on } = word else { continue };
            let at = at.millis();
            if *on {
                typing.insert((conversation, user), at);
            } else if typing.remove(&(conversation.as_str(), user.as_str())).is_none() {
                // Whoever came in between did not hear the first start.
                if !stopped.insert((conversation, user)) {
                    wrong.push(format!("session {index} heard a second stop of {user} at {at}"));
                }
            } else if at > last_beat(conversation, user, at) + MOST {
                wrong.push(format!("session {index} heard the stop of {user} late, at {at}"));
            } else {
                stopped.insert((conversation, user));
            }
        }
        for ((conversation, user), since) in typing {
            if end > last_beat(conversation, user, u64::MAX).max(since) + MOST {
                wrong.push(format!(
                    "session {index} never heard {user} stop typing in {conversation} since {since}"
                ));
            }
        }
    }
}
