//! A primary with two replicas under three Sentinels.
//!
//! Owns: building them, knowing who is primary, killing it. Must not know: clients.

use anyhow::{Context, Result};

use crate::cluster::start_all;
use crate::operator::until;
use crate::server::{Kind, Server, Setup};

/// The name under which the primary is watched.
const NAME: &str = "mymaster";

/// Six running servers. The servers keep their index for life; their roles change.
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// One primary and two replicas, given up after a second without an answer.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn start() -> Result<Self> {
        Self::build(Setup::new(Kind::Plain)).await
    }

    /// The same with settings of one's own for the three servers.
    ///
    /// # Errors
    /// When they do not come up.
    pub async fn build(setup: Setup) -> Result<Self> {
        let mut servers = start_all(vec![setup.clone(); 3]).await?;
        let port = servers[0].port().to_string();
        for replica in &servers[1..] {
            replica.command(&["REPLICAOF", "127.0.0.1", &port]).await?;
        }
        // Sentinels ask the primary for its replicas at once, and then every ten seconds only.
        for replica in &mut servers[1..] {
            let up = async || Ok(replica.info("replication", "master_link_status").await? == "up");
            until("a replica to follow", up).await?;
        }
        let sentinel = Setup { program: setup.program, ..Setup::new(Kind::Sentinel) }
            .set("sentinel", &format!("monitor {NAME} 127.0.0.1 {port} 2"))
            .set("sentinel", &format!("down-after-milliseconds {NAME} 1000"))
            .set("sentinel", &format!("failover-timeout {NAME} 3000"))
            .set("sentinel", &format!("parallel-syncs {NAME} 2"));
        let sentinels = start_all(vec![sentinel; 3]).await?;
        let started = Self { servers, sentinels };
        started.wait_ok().await?;
        Ok(started)
    }

    /// Where a gateway finds them.
    pub fn url(&self) -> String {
        let all: Vec<String> = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis-sentinel://{}/{NAME}", all.join(","))
    }

    /// The primary and its replicas, dead ones too.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One of [`Self::servers`].
    ///
    /// # Panics
    /// When there is none of that index.
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// One of [`Self::servers`], for killing and restarting it.
    ///
    /// # Panics
    /// When there is none of that index.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// The Sentinels, for killing and restarting them.
    pub fn sentinels(&mut self) -> &mut [Server] {
        &mut self.sentinels
    }

    /// What a Sentinel says of the primary: names and values, by turns.
    async fn says(sentinel: &Server, name: &str) -> Result<String> {
        let all = sentinel.command(&["SENTINEL", "MASTER", NAME]).await?;
        let lines: Vec<&str> = all.lines().collect();
        let found = lines.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1));
        Ok((*found.with_context(|| format!("no {name}"))?).to_owned())
    }

    /// Waits until all running Sentinels know each other and the replicas, and agree that the primary is well.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn wait_ok(&self) -> Result<()> {
        until("the Sentinels to know each other", async || {
            let primary = self.primary().await?;
            for sentinel in self.sentinels.iter().filter(|it| it.runs()) {
                let expected = [("num-slaves", "2"), ("num-other-sentinels", "2"), ("flags", "master")];
                for (name, value) in expected {
                    if Self::says(sentinel, name).await? != value {
                        return Ok(false);
                    }
                }
                if Self::says(sentinel, "port").await? != self.servers[primary].port().to_string() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    /// The primary, as most running Sentinels name it.
    ///
    /// # Errors
    /// When no two agree.
    pub async fn primary(&self) -> Result<usize> {
        let mut named = vec![0; self.servers.len()];
        for sentinel in self.sentinels.iter().filter(|it| it.runs()) {
            let port = Self::says(sentinel, "port").await?;
            let index = self.servers.iter().position(|server| server.port().to_string() == port);
            named[index.context("an unknown primary")?] += 1;
        }
        named.iter().position(|count| *count >= 2).context("the Sentinels do not agree")
    }

    /// Kills the primary where it stands and says which it was.
    ///
    /// # Errors
    /// When the Sentinels do not know it, or it cannot be killed.
    pub async fn kill_primary(&mut self) -> Result<usize> {
        let index = self.primary().await?;
        self.servers[index].kill9()?;
        Ok(index)
    }

    /// Waits until a server other than `old` is primary and takes writes, and says which.
    ///
    /// # Errors
    /// When none does.
    pub async fn wait_failover(&self, old: usize) -> Result<usize> {
        until("a failover", async || {
            let primary = self.primary().await?;
            let role = async || self.servers[primary].info("replication", "role").await;
            Ok(primary != old && self.servers[primary].runs() && role().await? == "master")
        })
        .await?;
        self.primary().await
    }

    /// Has the Sentinels replace the primary though it is well, and says by which.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn failover(&self) -> Result<usize> {
        let old = self.primary().await?;
        let sentinel = self.sentinels.iter().find(|it| it.runs()).context("no Sentinel runs")?;
        until("a Sentinel to agree to a failover", async || {
            Ok(sentinel.command(&["SENTINEL", "FAILOVER", NAME]).await? == "OK")
        })
        .await?;
        self.wait_failover(old).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() -> Result<()> {
        let started = Instant::now();
        let mut all = Sentinels::start().await?;
        println!("three Sentinels in {:?}", started.elapsed());
        let old = all.kill_primary().await?;
        let new = all.wait_failover(old).await?;
        assert_eq!(all.server(new).command(&["SET", "k", "v"]).await?, "OK");
        all.server_mut(old).restart().await?;
        until("it to follow", async || Ok(all.server(old).command(&["GET", "k"]).await? == "v")).await
    }
}
