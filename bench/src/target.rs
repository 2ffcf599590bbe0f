//! What load is put on: the address, the users' tokens, the paths of the dialects, the process's memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use jsonwebtoken::{EncodingKey, Header, encode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::engine::Client;
use crate::socket::Socket;

/// Connections from one source address: well below the number of ports it has.
const PER_SOURCE: usize = 10_000;

/// One connection to be made.
pub struct Plug {
    /// Where to.
    pub address: SocketAddr,
    /// Which vocabulary.
    pub dialect: Dialect,
    /// Over what, where there is a choice.
    pub transport: Transport,
    /// As whom.
    pub user: String,
    /// Counts the connections: they come from several addresses.
    pub index: usize,
}

/// The gateway under load.
#[derive(Args, Clone)]
pub struct Target {
    /// The gateway, without a path: ws://127.0.0.1:8082.
    #[arg(long)]
    url: String,
    /// The HS256 secret its tokens are signed with.
    #[arg(long, env = "PARLANCE_JWT_SECRET", hide_env_values = true)]
    secret: String,
}

/// A dialect on its usual mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Dialect {
    /// On `/sechat`.
    Sechat,
    /// On `/lingochat/socket.io/`.
    Lingochat,
    /// On `/socket.io/`.
    Famly,
    /// On `/api/socket.io/`.
    Chatgenius,
    /// On `/ws`.
    Socialhub,
}

impl Dialect {
    const fn path(self) -> &'static str {
        match self {
            Self::Sechat => "/sechat",
            Self::Lingochat => "/lingochat/socket.io/",
            Self::Famly => "/socket.io/",
            Self::Chatgenius => "/api/socket.io/",
            Self::Socialhub => "/ws",
        }
    }
}

/// What carries a Socket.IO dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Transport {
    /// A WebSocket.
    Websocket,
    /// HTTP long polling.
    Polling,
}

impl Target {
    /// Connects a user, who joins the main namespace where there are namespaces.
    pub async fn connect(&self, plug: &Plug) -> Result<Client> {
        let path = self.path(plug.dialect, &plug.user)?;
        let source = source(plug.address, plug.index);
        match (plug.dialect, plug.transport) {
            (Dialect::Sechat | Dialect::Socialhub, _) => {
                Ok(Client::Raw(Socket::open(plug.address, source, &path).await?))
            }
            (_, Transport::Websocket) => Client::websocket(plug.address, source, &path).await,
            (_, Transport::Polling) => Client::polling(plug.address, source, &path).await,
        }
    }

    /// Where to connect.
    pub async fn address(&self) -> Result<SocketAddr> {
        let host = self.url.trim_start_matches("ws://").trim_end_matches('/');
        tokio::net::lookup_host(host).await?.next().with_context(|| format!("no address for {host}"))
    }

    /// Path and query with which `user` opens a connection.
    pub fn path(&self, dialect: Dialect, user: &str) -> Result<String> {
        let claims = json!({ "sub": user, "user_id": user, "exp": seconds() + 24 * 3600 });
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(self.secret.as_bytes()))?;
        Ok(format!("{}?token={token}", dialect.path()))
    }
}

/// The source address of the connection with this index: several, so that no address runs out of ports.
pub fn source(address: SocketAddr, index: usize) -> Option<SocketAddr> {
    let last = u8::try_from(2 + index / PER_SOURCE).ok()?;
    address.ip().is_loopback().then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))
}

/// A word that no earlier run used: names of users and conversations begin with it.
pub fn run_id() -> String {
    format!("bench-{:x}", since_epoch().as_millis())
}

/// The resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Times in microseconds: up to two minutes, longer ones count as that.
pub fn times() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

/// A percentile of times, in milliseconds.
pub fn milliseconds(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

/// Lets this process open as many connections as the system allows it.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused, the load stops at the old limit with an error that says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn seconds() -> u64 {
    since_epoch().as_secs()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the load generator is outside the gateway and has no clock of its"
)]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{milliseconds, resident_kib, source, times};

    #[test]
    fn sources_change_before_their_ports_run_out() {
        let local = "127.0.0.1:80".parse().unwrap();
        assert_eq!(source(local, 9_999), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(source(local, 10_000), Some("127.0.0.3:0".parse().unwrap()));
        assert_eq!(source("192.0.2.1:80".parse().unwrap(), 0), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib(std::process::id()).unwrap() > 100);
    }

    #[test]
    fn times_are_kept_as_they_are() {
        let mut all = times().unwrap();
        for time in [500, 20_000, 20_000, 3_000_000] {
            all.saturating_record(time);
        }
        assert!((milliseconds(&all, 0.5) - 20.0).abs() < 0.1);
        assert!((milliseconds(&all, 0.99) - 3000.0).abs() < 5.0);
    }
}
