//! Brings faults about and takes them back.
//!
//! Must not know: clients beyond their doors, verdicts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use parlance_redis_rig::Faults;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::door::{Door, Line};
use super::faults::Fault;
use super::history::What;
use super::probes::TWIN;
use super::rig::{Rig, readiness};
use super::shards;
use crate::token::{expiry, sign};
use crate::{SECRET, Ws};

/// How long the tokens last that run out.
const TOKEN_TTL: Duration = Duration::from_secs(4);
/// How long a node may take to end after it was asked to.
const DRAIN: Duration = Duration::from_secs(40);

/// How many sockets are dropped at once, and within what they are back.
const CROWD: usize = 500;
const BACK: Duration = Duration::from_secs(15);

/// What faults act upon.
pub struct Stage<'a> {
    /// The processes.
    pub rig: &'a mut Rig,
    /// Every client's way in.
    pub doors: &'a [Door],
    /// Members of the conversations.
    pub members: &'a mut BTreeMap<String, Vec<String>>,
    /// For victims and spans.
    pub dice: StdRng,
    /// Faults take as long as in production.
    pub long: bool,
}

impl<'a> Stage<'a> {
    /// The victims follow from the seed.
    pub fn new(
        rig: &'a mut Rig,
        doors: &'a [Door],
        members: &'a mut BTreeMap<String, Vec<String>>,
        (seed, long): (u64, bool),
    ) -> Self {
        Self { rig, doors, members, dice: StdRng::seed_from_u64(seed ^ 0xfa17), long }
    }

    /// Brings a fault about; over when this returns.
    ///
    /// # Errors
    /// When it cannot be brought about or taken back.
    pub async fn apply(&mut self, fault: Fault) -> Result<()> {
        self.rig.notes.note(What::Fault { name: fault.name().to_owned() });
        self.act(fault).await.with_context(|| fault.name())?;
        self.rig.notes.note(What::Healed { name: fault.name().to_owned() });
        Ok(())
    }

    async fn act(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Calm | Fault::ClockSkew | Fault::DroppedFrames | Fault::Flood => Ok(()),
            Fault::NodeKill => self.node_kill().await,
            Fault::NodeStall => self.node_stall().await,
            Fault::Rolling => self.rolling().await,
            Fault::DrainDeadline => self.drain_deadline().await,
            Fault::CrashAfterAppend | Fault::CrashBeforeAppend => self.crash().await,
            Fault::Descriptors => self.descriptors().await,
            Fault::RedisKill => self.redis_kill().await,
            Fault::RedisEmpty => self.redis_empty().await,
            Fault::RedisStall => self.redis_stall().await,
            Fault::ClientPause => self.everywhere(&["CLIENT", "PAUSE", "4000", "ALL"], 4000).await,
            Fault::NodeCut => self.node_cut().await,
            Fault::PubsubKill => self.pubsub_kill().await,
            Fault::OutputOverrun => self.output_overrun().await,
            Fault::RedisFull => self.redis_full().await,
            Fault::FunctionFlush => self.everywhere(&["FUNCTION", "FLUSH"], 1000).await,
            Fault::PacketLoss => self.packet_loss().await,
            Fault::SentinelFailover | Fault::SentinelFailoverWait => self.sentinel_failover().await,
            Fault::ClusterFailover | Fault::ClusterFailoverWait => self.cluster_failover().await,
            Fault::ShardDown => self.shard_down().await,
            Fault::SlotMigration => self.slot_migration().await,
            Fault::SocketDrop => self.socket_drop().await,
            Fault::Poison => self.poison().await,
            Fault::TokenExpiry => self.token_expiry().await,
            Fault::Revoked => self.revoked().await,
            Fault::ArchiveKill => self.archive_kill().await,
            Fault::HalfOpen => self.some_doors(3, Line::Silent, 5000).await,
            Fault::SlowReaders => self.some_doors(3, Line::Slow(100), 6000).await,
            Fault::Flapping => self.flapping().await,
            Fault::MassDisconnect => {
                self.doors.iter().for_each(Door::cut);
                Ok(())
            }
        }
    }

    fn victim(&mut self) -> Result<usize> {
        let running: Vec<usize> = (0..self.rig.nodes.len())
            .filter(|n| self.rig.nodes[*n].as_ref().is_some_and(|node| node.pid().is_some()))
            .collect();
        ensure!(!running.is_empty(), "no node runs");
        Ok(running[self.dice.random_range(0..running.len())])
    }

    async fn wait(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }

    async fn node_kill(&mut self) -> Result<()> {
        let victim = self.victim()?;
        self.rig.notes.note(What::Killed { node: victim });
        self.rig.node(victim)?.kill9()?;
        self.wait(1500).await;
        self.rig.restart(victim).await
    }

    async fn node_stall(&mut self) -> Result<()> {
        let victim = self.victim()?;
        self.rig.notes.note(What::Killed { node: victim });
        self.rig.node(victim)?.signal(Signal::STOP)?;
        self.wait(if self.long { 60_000 } else { 4000 }).await;
        self.rig.node(victim)?.signal(Signal::CONT)
    }

    /// New nodes first, and clients go only to those: nobody is sent away twice.
    async fn rolling(&mut self) -> Result<()> {
        let old: Vec<usize> = (0..self.rig.nodes.len()).filter(|n| self.rig.nodes[*n].is_some()).collect();
        let mut new = Vec::new();
        for _ in &old {
            new.push(self.rig.add_node().await?);
        }
        self.rig.until_ready().await?;
        self.rig.prefer(&new);
        self.rig.notes.note(What::Rollout);
        for node in old {
            self.drain(node).await?;
        }
        Ok(())
    }

    async fn drain(&mut self, node: usize) -> Result<()> {
        let notes = self.rig.notes.clone();
        let gateway = self.rig.node(node)?;
        let internal = gateway.internal_address().to_owned();
        gateway.signal(Signal::TERM)?;
        notes.note(What::Stopping { node });
        self.wait(150).await;
        // A node that has ended already does not answer: that is no "ready".
        let status = readiness(&internal).await.unwrap_or(0);
        notes.note(What::Readiness { node, status });
        let ended = self.rig.node(node)?.exited(DRAIN).await;
        notes.note(What::Exited { node, code: ended.ok().and_then(|status| status.code()) });
        self.rig.forget(node);
        Ok(())
    }

    /// The answer it owes is one that a node gives which stands still.
    async fn drain_deadline(&mut self) -> Result<()> {
        let (leaving, still) = (0, 1);
        let path = "/socket.io/?EIO=4&transport=polling";
        let opened = self.rig.node(still)?.public("GET", path, None).await?;
        let open: Value = serde_json::from_str(opened.body.trim_start_matches('0'))?;
        let sid = open["sid"].as_str().context("no session")?.to_owned();
        self.rig.notes.note(What::Killed { node: still });
        self.rig.node(still)?.signal(Signal::STOP)?;
        let mut owed = TcpStream::connect(self.rig.node(leaving)?.address()).await?;
        owed.write_all(format!("GET {path}&sid={sid} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        // It is on its way: what has arrived when a node is asked to stop is answered.
        self.wait(300).await;
        let drained = self.drain(leaving).await;
        self.rig.node(still)?.signal(Signal::CONT)?;
        drained?;
        self.rig.add_node().await.map(drop)
    }

    /// The failpoint strikes by itself; another node takes its place.
    async fn crash(&mut self) -> Result<()> {
        let ended = self.rig.node(0)?.exited(Duration::from_secs(25)).await;
        ensure!(ended.is_ok_and(|status| !status.success()), "the failpoint did not strike");
        self.rig.notes.note(What::Killed { node: 0 });
        self.rig.forget(0);
        self.rig.add_node().await.map(drop)
    }

    async fn descriptors(&mut self) -> Result<()> {
        let victim = self.victim()?;
        let id = self.rig.node(victim)?.pid().context("it does not run")?;
        let open = std::fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no process id")?;
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit")?;
        // "unlimited" is no number.
        let maximum = line.split_whitespace().nth(1).and_then(|hard| hard.parse().ok());
        let limit = Rlimit { current: Some(open + 1), maximum };
        let before = prlimit(Some(pid), Resource::Nofile, limit)?;
        // Clients that come now find a node that cannot accept them.
        for door in self.doors.iter().take(self.doors.len() / 2) {
            door.cut();
        }
        self.wait(5000).await;
        prlimit(Some(pid), Resource::Nofile, before)?;
        Ok(())
    }

    async fn redis_kill(&mut self) -> Result<()> {
        let server = self.rig.store.single()?;
        // What a busy disk holds up is not promised.
        server.written().await?;
        server.kill9()?;
        sleep(Duration::from_millis(1000)).await;
        server.restart().await
    }

    async fn archive_kill(&mut self) -> Result<()> {
        let outside = self.rig.outside.as_mut().context("there is no archive")?;
        for ms in [3000, 500] {
            outside.kill9()?;
            sleep(Duration::from_millis(ms)).await;
            outside.restart().await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    async fn redis_empty(&mut self) -> Result<()> {
        self.rig.store.single()?.restart_empty().await?;
        // What a backend does when it is told that everything is gone.
        self.rig.seed(self.members).await
    }

    async fn redis_stall(&mut self) -> Result<()> {
        self.rig.store.single()?.pause()?;
        self.wait(if self.long { 20_000 } else { 5000 }).await;
        self.rig.store.single()?.resume()
    }

    async fn everywhere(&self, words: &[&str], then_ms: u64) -> Result<()> {
        ensure!(self.rig.store.everywhere(words).await > 0, "no server did it");
        self.wait(then_ms).await;
        Ok(())
    }

    async fn node_cut(&mut self) -> Result<()> {
        let victim = self.victim()?;
        let proxy = self.rig.proxies.get(victim).context("no proxy")?;
        proxy.set(Faults { blackhole: true, ..Faults::default() });
        sleep(Duration::from_secs(if self.long { 25 } else { 7 })).await;
        proxy.heal();
        Ok(())
    }

    async fn pubsub_kill(&self) -> Result<()> {
        for _ in 0..4 {
            self.everywhere(&["CLIENT", "KILL", "TYPE", "pubsub"], 2000).await?;
        }
        Ok(())
    }

    /// A node that does not read, and a server with little patience.
    async fn output_overrun(&mut self) -> Result<()> {
        let name = "client-output-buffer-limit";
        self.everywhere(&["CONFIG", "SET", name, "pubsub 16kb 8kb 1"], 0).await?;
        let victim = self.victim()?;
        self.rig.node(victim)?.signal(Signal::STOP)?;
        let filler = "x".repeat(64 * 1024);
        for (verb, channel) in self.channels().await? {
            self.rig.store.everywhere(&[verb, &channel, &filler]).await;
        }
        self.wait(1500).await;
        self.rig.node(victim)?.signal(Signal::CONT)?;
        self.everywhere(&["CONFIG", "SET", name, "pubsub 32mb 8mb 60"], 1000).await
    }

    async fn redis_full(&self) -> Result<()> {
        self.everywhere(&["CONFIG", "SET", "maxmemory", "1mb"], 5000).await?;
        self.everywhere(&["CONFIG", "SET", "maxmemory", "0"], 0).await
    }

    async fn packet_loss(&self) -> Result<()> {
        let faults = Faults {
            delay: Duration::from_millis(15),
            jitter: Duration::from_millis(30),
            loss: 0.03,
            cut: 0.002,
            ..Faults::default()
        };
        self.rig.proxies.iter().for_each(|proxy| proxy.set(faults));
        self.wait(8000).await;
        self.rig.proxies.iter().for_each(parlance_redis_rig::Proxy::heal);
        Ok(())
    }

    async fn sentinel_failover(&mut self) -> Result<()> {
        let sentinels = self.rig.store.sentinels()?;
        let old = sentinels.kill_primary().await?;
        sentinels.wait_failover(old).await?;
        sentinels.server_mut(old).restart().await
    }

    async fn cluster_failover(&mut self) -> Result<()> {
        let slot = self.dice.random_range(0..16384);
        let cluster = self.rig.store.cluster()?;
        let old = cluster.kill_primary(slot).await?;
        cluster.wait_failover(slot, old).await?;
        cluster.server_mut(old).restart().await
    }

    async fn shard_down(&mut self) -> Result<()> {
        let cluster = self.rig.store.cluster()?;
        let dead = shards::victim(cluster).await?;
        let (conversations, users) = shards::away(cluster, dead, self.members).await?;
        let server = cluster.server_mut(dead);
        // What a busy disk holds up is not promised.
        server.written().await?;
        server.kill9()?;
        self.rig.notes.note(What::Away { conversations, users });
        for _ in 0..16 {
            self.wait(500).await;
            for (node, gateway) in self.rig.nodes.iter().enumerate() {
                let Some(gateway) = gateway else { continue };
                let status = readiness(gateway.internal_address()).await.unwrap_or(0);
                self.rig.notes.note(What::Well { node, status });
            }
        }
        self.rig.notes.note(What::Back);
        let cluster = self.rig.store.cluster()?;
        cluster.server_mut(dead).restart().await?;
        cluster.wait_ok().await
    }

    async fn slot_migration(&mut self) -> Result<()> {
        let cluster = self.rig.store.cluster()?;
        let primaries = cluster.primaries().await?;
        let [from, to, ..] = primaries[..] else { anyhow::bail!("too few primaries") };
        let first = (0..16384_u16).step_by(64).map(|slot| slot + 32);
        let mut slots = Vec::new();
        for slot in first {
            if cluster.primary_of_slot(slot).await? == from {
                slots.push(slot);
            }
        }
        // Half of its partitions: the others show whether they notice.
        slots.truncate(slots.len() / 2);
        cluster.migrate(slots, from, to).await
    }

    /// Channels somebody subscribes to, each with the verb that publishes there.
    async fn channels(&self) -> Result<Vec<(&'static str, String)>> {
        let mut found = Vec::new();
        for (list, verb) in [("CHANNELS", "PUBLISH"), ("SHARDCHANNELS", "SPUBLISH")] {
            for server in self.rig.store.servers() {
                let all = server.command(&["PUBSUB", list]).await?;
                found.extend(all.lines().filter(|line| !line.is_empty()).map(|line| (verb, line.to_owned())));
            }
        }
        Ok(found)
    }

    async fn poison(&mut self) -> Result<()> {
        let huge = "x".repeat(5_000_000);
        let mut channels = self.channels().await?;
        channels.shuffle(&mut self.dice);
        for (n, (verb, channel)) in channels.into_iter().take(24).enumerate() {
            let noise: String = (0..200).map(|_| char::from(self.dice.random_range(0..128_u8))).collect();
            let words = [huge.as_str(), noise.as_str(), "", "\u{93}\u{1}\u{2}", "{\"v\":999}"];
            self.rig.store.everywhere(&[verb, &channel, words[n % words.len()]]).await;
        }
        self.wait(1000).await;
        Ok(())
    }

    async fn revoked(&mut self) -> Result<()> {
        let rooms: Vec<String> = self.members.keys().cloned().collect();
        for room in rooms.iter().take(2) {
            let Some(members) = self.members.get_mut(room) else { continue };
            let at = self.dice.random_range(0..members.len());
            let user = members.remove(at);
            let change = json!({ "removeMembers": [user] });
            self.rig.any()?.call("PATCH", &format!("/api/v1/conversations/{room}"), Some(&change)).await?;
            self.rig.notes.note(What::Removed { conversation: room.clone(), user });
            self.wait(1500).await;
        }
        Ok(())
    }

    /// Each socket ends when its token does, soon after; a new token lets the user in again.
    async fn token_expiry(&self) -> Result<()> {
        let exp = expiry(TOKEN_TTL);
        let short = sign(&json!({ "sub": TWIN, "user_id": TWIN, "exp": exp }), SECRET)?;
        let mut sockets = Vec::new();
        for node in self.rig.nodes.iter().flatten() {
            sockets.push((node, Ws::connect(&node.url(&format!("/sechat?token={short}"))).await?));
        }
        sleep(TOKEN_TTL).await;
        for (node, mut socket) in sockets {
            let code = socket.closed().await.context("a socket outlives its token")?;
            ensure!(code.is_some(), "a socket whose token has run out ends without a word");
            node.connect("/sechat", TWIN).await?.close(1000).await?;
        }
        Ok(())
    }

    async fn some_doors(&mut self, count: usize, line: Line, ms: u64) -> Result<()> {
        let mut chosen: Vec<usize> = (0..self.doors.len()).collect();
        chosen.shuffle(&mut self.dice);
        chosen.truncate(count);
        chosen.iter().for_each(|door| self.doors[*door].set(line));
        self.wait(ms).await;
        for door in chosen {
            self.doors[door].cut();
            self.doors[door].set(Line::Well);
        }
        Ok(())
    }

    /// Nobody closes anything: the kernel resets what is dropped.
    async fn socket_drop(&self) -> Result<()> {
        let nodes: Vec<_> = self.rig.nodes.iter().flatten().collect();
        let crowd = (0..CROWD).zip(nodes.iter().cycle());
        let crowd: Vec<_> = crowd.map(|(n, node)| (node, format!("crowd{n}"))).collect();
        // Who is told to come back later does.
        let enter = || {
            join_all(crowd.iter().map(async |(node, user)| {
                loop {
                    match node.connect("/sechat", user).await {
                        Ok(socket) => return socket,
                        Err(_) => sleep(Duration::from_millis(300)).await,
                    }
                }
            }))
        };
        let inside = timeout(BACK, enter()).await.context("they do not get in")?;
        self.wait(1000).await;
        drop(inside);
        let back = timeout(BACK, enter()).await.context("not all are back in time")?;
        ensure!(back.len() == CROWD, "only {} are back", back.len());
        Ok(())
    }

    async fn flapping(&mut self) -> Result<()> {
        let count = self.doors.len().min(4);
        for _ in 0..10 {
            self.doors[..count].iter().for_each(Door::cut);
            let pause = self.dice.random_range(200..900);
            self.wait(pause).await;
        }
        Ok(())
    }
}
