//! `cargo run -p parlance-redis-rig -- standalone|sentinel|cluster`: Redis servers to try things with. Prints their
//! address, and ends them when its standard input ends.

use anyhow::{Result, bail};
use parlance_redis_rig::{Cluster, Sentinels, Server};
use tokio::io::AsyncReadExt;

enum Servers {
    Standalone(Server),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

impl Servers {
    async fn start(kind: &str) -> Result<Self> {
        Ok(match kind {
            "standalone" => Self::Standalone(Server::standalone().await?),
            "sentinel" => Self::Sentinel(Sentinels::start().await?),
            "cluster" => Self::Cluster(Cluster::start().await?),
            other => bail!("{other:?} is none of standalone, sentinel, cluster"),
        })
    }

    fn url(&self) -> String {
        match self {
            Self::Standalone(server) => server.url(),
            Self::Sentinel(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let kind = std::env::args().nth(1).unwrap_or_else(|| "standalone".to_owned());
    let servers = Servers::start(&kind).await?;
    println!("{}", servers.url());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
