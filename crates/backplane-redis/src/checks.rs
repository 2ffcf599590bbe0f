//! Whether a server is set up so that what is acknowledged is kept: asked at start, and of every primary that comes
//! later. What the ack level cannot do without is refused; of the rest the operator is told, one line each.
//!
//! Must not know: what is kept there.

use std::collections::BTreeMap;

use parlance_backplane::AckLevel;

use crate::durable::Socket;
use crate::link::{Command, LinkFault, Reply};

/// The oldest release that has functions and sharded channels.
const OLDEST: u32 = 7;
const SETTINGS: [&str; 6] = [
    "appendfsync",
    "client-output-buffer-limit",
    "cluster-require-full-coverage",
    "maxmemory-policy",
    "min-replicas-to-write",
    "stream-node-max-bytes",
];
/// A conversation's almost empty log takes up to this many bytes; the server's default is four times as many.
const STREAM_NODE: u64 = 1024;
/// A subscriber that is so far behind may be dropped; less is a burst.
const PUBSUB_BUFFER: u64 = 64 << 20;

/// What is asked of every primary.
#[derive(Debug, Clone, Copy)]
pub struct Demands {
    /// What an acknowledgement promises.
    pub level: AckLevel,
    /// Replicas that must have it first, where the level says so.
    pub replicas: u32,
}

/// What a server says of itself: `INFO` lines and settings, by name.
type Facts = BTreeMap<String, String>;

/// What came of looking.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the node must not start on it.
    pub refused: Option<String>,
    /// What the operator should know.
    pub complaints: Vec<String>,
    /// There is an append-only file.
    pub keeps: bool,
}

/// What an acknowledged message survives, in words.
pub fn survives(demands: Demands, keeps: bool) -> String {
    match demands.level {
        AckLevel::RedisWait => {
            format!("the loss of a primary: {} replica(s) have it first", demands.replicas)
        }
        AckLevel::RedisFsync => "power loss of the Redis host: it is on disk first".to_owned(),
        _ if keeps => "kill -9 of Redis; a power loss or a failover may take the last moments".to_owned(),
        _ => "nothing that happens to Redis: it has no append-only file".to_owned(),
    }
}

/// Looks at one server.
///
/// # Errors
/// When it does not answer.
pub async fn inspect(server: &mut Socket, demands: Demands) -> Result<Findings, LinkFault> {
    let mut facts = Facts::new();
    for section in ["server", "replication", "persistence", "memory", "cluster"] {
        let told = server.ask(Command::new("INFO", &[section])).await?;
        let lines = told.text().unwrap_or_default().lines().filter_map(|line| line.split_once(':'));
        facts.extend(lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let mut words = vec!["GET"];
    words.extend(SETTINGS);
    match server.ask(Command::new("CONFIG", &words)).await {
        Ok(Reply::List(all)) => facts.extend(all.chunks_exact(2).filter_map(|pair| {
            let [name, value] = pair else { return None };
            Some((name.text().ok()?.to_owned(), value.text().ok()?.to_owned()))
        })),
        Ok(_) | Err(LinkFault::Forbidden(_)) => {}
        Err(fault) => return Err(fault),
    }
    Ok(judge(&facts, demands))
}

fn judge(facts: &Facts, demands: Demands) -> Findings {
    let fact = |name: &str| facts.get(name).map(String::as_str);
    let mut findings = Findings {
        refused: refusal(facts, demands),
        complaints: Vec::new(),
        keeps: fact("aof_enabled") == Some("1"),
    };
    let mut complain = |line: &str| findings.complaints.push(line.to_owned());
    if fact("aof_enabled") != Some("1") {
        complain("ACKNOWLEDGED MESSAGES DO NOT SURVIVE REDIS: set appendonly yes");
    }
    if fact("maxmemory_policy").or(fact("maxmemory-policy")) != Some("noeviction") {
        complain("REDIS MAY DROP MESSAGES TO SAVE MEMORY: set maxmemory-policy noeviction");
    }
    if fact("appendfsync") == Some("no") {
        complain("the append-only file is synced when the system likes: set appendfsync everysec");
    }
    if fact("cluster_enabled") == Some("1") && fact("cluster-require-full-coverage") == Some("yes") {
        complain("one lost shard stops all of them: set cluster-require-full-coverage no");
    }
    if number(facts, "stream-node-max-bytes").is_some_and(|bytes| bytes == 0 || bytes > STREAM_NODE) {
        complain("every conversation takes 4 KB and not 1: set stream-node-max-bytes 1024");
    }
    if pubsub_limit(facts).is_some_and(|bytes| bytes < PUBSUB_BUFFER) {
        complain(
            "a burst cuts the nodes' subscriptions off: set client-output-buffer-limit pubsub 256mb 64mb 60",
        );
    }
    if demands.level != AckLevel::RedisWait && number(facts, "min-replicas-to-write").is_some_and(|n| n > 0) {
        complain("min-replicas-to-write does not keep acknowledged messages: use ack_level redis-wait");
    }
    if fact("appendfsync").is_none() {
        complain(
            "CONFIG is not allowed here: appendfsync, stream-node-max-bytes, client-output-buffer-limit, \
             cluster-require-full-coverage and min-replicas-to-write could not be checked",
        );
    }
    findings
}

fn refusal(facts: &Facts, demands: Demands) -> Option<String> {
    let fact = |name: &str| facts.get(name).map(String::as_str);
    let release = fact("redis_version").unwrap_or("unknown");
    let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Some(format!("it is Redis {release}, and {OLDEST}.0 or later is needed"));
    }
    if fact("role").is_some_and(|role| role != "master") {
        return Some("it is a replica, and a primary is needed".to_owned());
    }
    match demands.level {
        AckLevel::RedisWait => {
            let online = online_replicas(facts);
            (online < demands.replicas).then(|| {
                format!(
                    "ack_level redis-wait wants {} connected replica(s), and it has {online}",
                    demands.replicas
                )
            })
        }
        AckLevel::RedisFsync if fact("aof_enabled") != Some("1") => {
            Some("ack_level redis-fsync needs appendonly yes".to_owned())
        }
        AckLevel::RedisFsync => match fact("appendfsync") {
            Some("always") => None,
            Some(other) => Some(format!("ack_level redis-fsync needs appendfsync always, and it is {other}")),
            None => Some(
                "ack_level redis-fsync needs appendfsync always, and CONFIG is not allowed to see it"
                    .to_owned(),
            ),
        },
        AckLevel::Memory
        | AckLevel::File
        | AckLevel::FileArchived
        | AckLevel::Redis
        | AckLevel::RedisArchived => None,
    }
}

fn number(facts: &Facts, name: &str) -> Option<u64> {
    facts.get(name)?.parse().ok()
}

/// `slave0:ip=…,port=…,state=online,…`
fn online_replicas(facts: &Facts) -> u32 {
    let replica = |name: &str| {
        name.strip_prefix("slave").is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let online = facts.iter().filter(|(name, value)| replica(name) && value.contains("state=online"));
    u32::try_from(online.count()).unwrap_or(u32::MAX)
}

/// The smaller limit of `… pubsub <hard> <soft> <seconds>`; 0 is none.
fn pubsub_limit(facts: &Facts) -> Option<u64> {
    let words: Vec<&str> = facts.get("client-output-buffer-limit")?.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "pubsub")?;
    let limits = [words.get(at + 1)?, words.get(at + 2)?].map(|limit| limit.parse().unwrap_or(0));
    limits.into_iter().filter(|limit| *limit > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let all = [
            ("redis_version", "7.0.15"),
            ("role", "master"),
            ("slave0", "ip=127.0.0.1,port=1,state=online,offset=1,lag=0"),
            ("slave1", "ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0"),
            ("slave_expires_tracked_keys", "0"),
            ("aof_enabled", "1"),
            ("maxmemory_policy", "noeviction"),
            ("cluster_enabled", "1"),
            ("cluster-require-full-coverage", "no"),
            ("appendfsync", "always"),
            ("stream-node-max-bytes", "1024"),
            ("client-output-buffer-limit", "normal 0 0 0 slave 1 1 60 pubsub 268435456 67108864 60"),
            ("min-replicas-to-write", "0"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    const PLAIN: Demands = Demands { level: AckLevel::Redis, replicas: 1 };

    fn with(name: &str, value: &str) -> Facts {
        let mut facts = good();
        facts.insert(name.to_owned(), value.to_owned());
        facts
    }

    #[test]
    fn each_setting_that_loses_something_is_complained_of_once() {
        assert_eq!(judge(&good(), PLAIN), Findings { keeps: true, ..Findings::default() });
        for (name, value) in [
            ("aof_enabled", "0"),
            ("maxmemory_policy", "allkeys-lru"),
            ("cluster-require-full-coverage", "yes"),
            ("appendfsync", "no"),
            ("stream-node-max-bytes", "4096"),
            ("client-output-buffer-limit", "pubsub 33554432 8388608 60"),
            ("min-replicas-to-write", "1"),
        ] {
            let findings = judge(&with(name, value), PLAIN);
            assert_eq!((findings.complaints.len(), findings.refused), (1, None), "{name}");
        }
        let mut blind = good();
        blind.retain(|name, _| !SETTINGS.contains(&name.as_str()));
        let complaints = judge(&blind, PLAIN).complaints;
        assert!(complaints.len() == 1 && complaints[0].contains("could not be checked"), "{complaints:?}");
    }

    #[test]
    fn what_the_level_cannot_do_without_is_refused() {
        let refused = |facts: &Facts, level, replicas| judge(facts, Demands { level, replicas }).refused;
        assert_eq!(refused(&good(), AckLevel::RedisWait, 1), None);
        assert!(refused(&good(), AckLevel::RedisWait, 2).unwrap().contains("it has 1"));
        assert_eq!(refused(&good(), AckLevel::RedisFsync, 1), None);
        assert!(refused(&with("appendfsync", "everysec"), AckLevel::RedisFsync, 1).is_some());
        assert!(refused(&with("aof_enabled", "0"), AckLevel::RedisFsync, 1).is_some());
        let mut blind = good();
        blind.remove("appendfsync");
        assert!(refused(&blind, AckLevel::RedisFsync, 1).is_some());
        assert!(refused(&with("redis_version", "6.2.14"), AckLevel::Redis, 1).unwrap().contains("6.2.14"));
        assert!(refused(&with("role", "slave"), AckLevel::Redis, 1).is_some());
    }
}
