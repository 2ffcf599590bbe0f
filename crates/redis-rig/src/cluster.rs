//! A cluster of servers, built by commands: met, given slots, replicated.
//!
//! Owns: who is primary of what, killing, failing over, moving slots. Must not know: clients.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::operator::until;
use crate::server::{Kind, Server, Setup};
use crate::view::{self, Seen};

const SLOTS: usize = 16384;

/// A running cluster. Its servers keep their index for life; their roles change.
pub struct Cluster {
    setup: Setup,
    servers: Vec<Server>,
    ids: Vec<String>,
}

/// Starts servers side by side.
pub(crate) async fn start_all(setups: Vec<Setup>) -> Result<Vec<Server>> {
    let mut starting = JoinSet::new();
    for (index, setup) in setups.into_iter().enumerate() {
        starting.spawn(async move { (index, Server::start(setup).await) });
    }
    let mut started = starting.join_all().await;
    started.sort_by_key(|(index, _)| *index);
    started.into_iter().map(|(_, server)| server).collect()
}

impl Cluster {
    /// Three primaries with one replica each.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self> {
        Self::with(3, 1).await
    }

    /// So many primaries with so many replicas each, the primaries first.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn with(primaries: usize, replicas_each: usize) -> Result<Self> {
        Self::build(Setup::new(Kind::Cluster), primaries, replicas_each).await
    }

    /// The same with settings of one's own.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn build(setup: Setup, primaries: usize, replicas_each: usize) -> Result<Self> {
        ensure!(primaries > 0, "a cluster has a primary");
        let count = primaries * (1 + replicas_each);
        let servers = start_all(vec![setup.clone(); count]).await?;
        let mut cluster = Self { setup, servers, ids: Vec::new() };
        cluster.introduce().await?;
        for (index, server) in cluster.servers.iter().take(primaries).enumerate() {
            let (first, last) = (index * SLOTS / primaries, (index + 1) * SLOTS / primaries - 1);
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
        }
        for (index, server) in cluster.servers.iter().enumerate().skip(primaries) {
            let of = &cluster.ids[index % primaries];
            // It has to have heard of that primary first.
            let replicate = async || Ok(server.command(&["CLUSTER", "REPLICATE", of]).await? == "OK");
            until("a replica to know its primary", replicate).await?;
        }
        cluster.wait_ok().await?;
        Ok(cluster)
    }

    /// Makes everybody known to everybody: gossip alone would take seconds.
    async fn introduce(&mut self) -> Result<()> {
        for (index, server) in self.servers.iter().enumerate() {
            self.ids.push(server.command(&["CLUSTER", "MYID"]).await?);
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await?;
        }
        for (index, server) in self.servers.iter().enumerate() {
            for other in self.servers.iter().skip(index + 1) {
                server.command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]).await?;
            }
        }
        Ok(())
    }

    /// Where a gateway finds it.
    pub fn url(&self) -> String {
        let all: Vec<String> = self.servers.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis-cluster://{}", all.join(","))
    }

    /// Every server, dead ones too.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One server.
    ///
    /// # Panics
    /// When there is none of that index.
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// One server, for killing and restarting it.
    ///
    /// # Panics
    /// When there is none of that index.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    fn index_of(&self, id: &str) -> Option<usize> {
        self.ids.iter().position(|known| known == id)
    }

    async fn view_of(&self, index: usize) -> Result<Vec<Seen>> {
        Ok(view::read(&self.servers[index].command(&["CLUSTER", "NODES"]).await?))
    }

    /// What each running server says of itself.
    async fn own_words(&self) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        for index in (0..self.servers.len()).filter(|index| self.servers[*index].runs()) {
            all.extend(self.view_of(index).await?.into_iter().find(|seen| seen.own));
        }
        Ok(all)
    }

    /// The running primary of a slot: the one with the newest claim.
    ///
    /// # Errors
    /// When nobody running claims it.
    pub async fn primary_of_slot(&self, slot: u16) -> Result<usize> {
        let all = self.own_words().await?;
        let newest = all.iter().filter(|seen| seen.claims(slot)).max_by_key(|seen| seen.epoch);
        newest.and_then(|seen| self.index_of(&seen.id)).with_context(|| format!("nobody has slot {slot}"))
    }

    /// The running primaries.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn primaries(&self) -> Result<Vec<usize>> {
        let all = self.own_words().await?;
        Ok(all.iter().filter(|it| it.primary.is_none()).filter_map(|it| self.index_of(&it.id)).collect())
    }

    /// The running replicas of a server.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn replicas_of(&self, index: usize) -> Result<Vec<usize>> {
        let all = self.own_words().await?;
        let its = all.iter().filter(|seen| seen.primary.as_ref() == Some(&self.ids[index]));
        Ok(its.filter_map(|seen| self.index_of(&seen.id)).collect())
    }

    /// Waits until all running servers agree who has which slot, nobody who has some is missing, and replicas follow.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn wait_ok(&self) -> Result<()> {
        until("the cluster to be well", async || self.is_ok().await).await
    }

    async fn is_ok(&self) -> Result<bool> {
        let mut agreed: Option<Vec<_>> = None;
        for index in (0..self.servers.len()).filter(|index| self.servers[*index].runs()) {
            let info = self.servers[index].command(&["CLUSTER", "INFO"]).await?;
            let wanted = ["cluster_state:ok", "cluster_slots_ok:16384"];
            if !wanted.iter().all(|wanted| info.lines().any(|line| line == *wanted)) {
                return Ok(false);
            }
            let mut view = self.view_of(index).await?;
            let settled = |id: &String| view.iter().any(|seen| seen.id == *id && seen.settled);
            if !self.ids.iter().zip(&self.servers).all(|(id, it)| !it.runs() || settled(id)) {
                return Ok(false);
            }
            let follows = view.iter().any(|seen| seen.own && seen.primary.is_some());
            if follows && self.servers[index].info("replication", "master_link_status").await? != "up" {
                return Ok(false);
            }
            view.retain(|seen| seen.settled);
            let mut roles: Vec<_> = view.into_iter().map(|it| (it.id, it.primary, it.slots)).collect();
            roles.sort();
            if agreed.get_or_insert_with(|| roles.clone()) != &roles {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills the primary of a slot where it stands and says which it was.
    ///
    /// # Errors
    /// When there is none, or it cannot be killed.
    pub async fn kill_primary(&mut self, slot: u16) -> Result<usize> {
        let index = self.primary_of_slot(slot).await?;
        self.servers[index].kill9()?;
        Ok(index)
    }

    /// Waits until a slot has a running primary other than `old`, and says which.
    ///
    /// # Errors
    /// When it does not get one.
    pub async fn wait_failover(&self, slot: u16, old: usize) -> Result<usize> {
        until("a failover", async || Ok(self.primary_of_slot(slot).await? != old)).await?;
        self.primary_of_slot(slot).await
    }

    /// Makes a replica of this primary take its place, in good order, and says which.
    ///
    /// # Errors
    /// When it has none, or that does not work.
    pub async fn failover(&self, primary: usize) -> Result<usize> {
        let replica = *self.replicas_of(primary).await?.first().context("no replica")?;
        until("a failover", async || {
            if self.primaries().await?.contains(&replica) {
                return Ok(true);
            }
            // Asked again: an attempt that is outvoted ends without a word.
            self.servers[replica].command(&["CLUSTER", "FAILOVER"]).await?;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            Ok(self.primaries().await?.contains(&replica))
        })
        .await?;
        Ok(replica)
    }

    /// Adds a primary without slots, made known by `CLUSTER MEET` as an operator would: it has no functions.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn add_empty_primary(&mut self) -> Result<usize> {
        let server = Server::start(self.setup.clone()).await?;
        let port = server.port().to_string();
        for known in self.servers.iter().filter(|known| known.runs()) {
            known.command(&["CLUSTER", "MEET", "127.0.0.1", &port]).await?;
        }
        self.ids.push(server.command(&["CLUSTER", "MYID"]).await?);
        self.servers.push(server);
        self.wait_ok().await?;
        Ok(self.servers.len() - 1)
    }

    /// Moves slots with what is in them from one primary to another while clients go on, as `redis-cli --cluster
    /// reshard` does.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn migrate(&self, slots: impl IntoIterator<Item = u16>, from: usize, to: usize) -> Result<()> {
        let (mut source, mut target) =
            (self.servers[from].operator().await?, self.servers[to].operator().await?);
        let mut others = Vec::new();
        for index in self.primaries().await?.into_iter().filter(|index| ![from, to].contains(index)) {
            others.push(self.servers[index].operator().await?);
        }
        let port = self.servers[to].port().to_string();
        for slot in slots {
            let slot = slot.to_string();
            target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]).await?;
            source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]).await?;
            loop {
                let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await?;
                if keys.is_empty() {
                    break;
                }
                let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
                command.extend(keys.lines());
                source.command(&command).await?;
            }
            // The new owner first: in between, nobody would be.
            for operator in [&mut target, &mut source].into_iter().chain(&mut others) {
                operator.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &self.ids[to]]).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn slots_move_with_their_keys_and_replicas_take_over() -> Result<()> {
        let started = Instant::now();
        let mut cluster = Cluster::start().await?;
        println!("a cluster of 3 and 3 in {:?}", started.elapsed());
        // The slot of "foo" is 12182.
        let owner = cluster.primary_of_slot(12182).await?;
        assert_eq!(owner, 2);
        assert_eq!(cluster.server(owner).command(&["SET", "foo", "1"]).await?, "OK");
        let fresh = cluster.add_empty_primary().await?;
        cluster.migrate(12180..12190, owner, fresh).await?;
        assert_eq!(cluster.server(fresh).command(&["GET", "foo"]).await?, "1");
        assert!(cluster.server(owner).command(&["GET", "foo"]).await.is_err(), "moved");
        cluster.wait_ok().await?;
        let before = cluster.primary_of_slot(0).await?;
        let after = cluster.failover(before).await?;
        assert_ne!(before, after);
        cluster.wait_ok().await?;
        assert_eq!(cluster.kill_primary(0).await?, after);
        assert_eq!(cluster.wait_failover(0, after).await?, before);
        cluster.server_mut(after).restart().await?;
        cluster.wait_ok().await
    }
}
