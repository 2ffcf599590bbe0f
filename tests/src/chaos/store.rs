//! The Redis under the nodes: one server, a Sentinel trio or a cluster, seen alike.
//!
//! Must not know: faults' schedule, nodes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use parlance_redis_rig::{Cluster, Operator, Sentinels, Server};
use serde::{Deserialize, Serialize};

/// What the nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server.
    Standalone,
    /// A primary, two replicas, three Sentinels.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
    /// Five primaries, and nobody to take the place of one.
    Shards,
}

/// See the module.
pub enum Store {
    /// One server.
    Standalone(Server),
    /// A primary, two replicas, three Sentinels.
    Sentinel(Sentinels),
    /// Several primaries.
    Cluster(Cluster),
}

impl Store {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(topology: Topology) -> Result<Self> {
        Ok(match topology {
            Topology::Standalone => Self::Standalone(Server::standalone().await?),
            Topology::Sentinel => Self::Sentinel(Sentinels::start().await?),
            Topology::Cluster => Self::Cluster(Cluster::start().await?),
            Topology::Shards => Self::Cluster(Cluster::with(5, 0).await?),
        })
    }

    /// Where a gateway finds it.
    pub fn url(&self) -> String {
        match self {
            Self::Standalone(server) => server.url(),
            Self::Sentinel(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// All data servers.
    pub fn servers(&self) -> Vec<&Server> {
        match self {
            Self::Standalone(server) => vec![server],
            Self::Sentinel(sentinels) => sentinels.servers().iter().collect(),
            Self::Cluster(cluster) => cluster.servers().iter().collect(),
        }
    }

    /// The only server.
    ///
    /// # Errors
    /// When there are several.
    pub fn single(&mut self) -> Result<&mut Server> {
        match self {
            Self::Standalone(server) => Ok(server),
            Self::Sentinel(_) | Self::Cluster(_) => bail!("this fault is one of a standalone Redis"),
        }
    }

    /// The cluster.
    ///
    /// # Errors
    /// When it is none.
    pub fn cluster(&mut self) -> Result<&mut Cluster> {
        match self {
            Self::Cluster(cluster) => Ok(cluster),
            Self::Standalone(_) | Self::Sentinel(_) => bail!("this fault is one of a cluster"),
        }
    }

    /// The Sentinel trio.
    ///
    /// # Errors
    /// When it is none.
    pub fn sentinels(&mut self) -> Result<&mut Sentinels> {
        match self {
            Self::Sentinel(sentinels) => Ok(sentinels),
            Self::Standalone(_) | Self::Cluster(_) => bail!("this fault is one of Sentinel"),
        }
    }

    /// Sends a command to every server that answers; how many did.
    pub async fn everywhere(&self, words: &[&str]) -> usize {
        let mut done = 0;
        for server in self.servers().into_iter().filter(|server| server.runs()) {
            // A replica refuses what only a primary may do.
            done += usize::from(server.command(words).await.is_ok());
        }
        done
    }

    /// The ports of all data servers.
    pub fn ports(&self) -> Vec<u16> {
        self.servers().iter().map(|server| server.port()).collect()
    }
}

/// Connections to a server and its keys, if it answers at once.
///
/// # Errors
/// When it does not.
pub async fn usage(port: u16) -> Result<(u64, u64)> {
    let asked = async {
        let mut operator = Operator::connect(port).await?;
        let clients = operator.command(&["INFO", "clients"]).await?;
        let line = clients.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        let keys = operator.command(&["DBSIZE"]).await?;
        Ok((line.context("no count")?.trim().parse()?, keys.trim().parse()?))
    };
    tokio::time::timeout(Duration::from_millis(300), asked).await.context("no answer at once")?
}
