//! Opening TCP connections from as many addresses as there must be.
//!
//! Must not know: what is said over them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::{TcpSocket, TcpStream};

/// Connections from one source address: well below a quarter of the ports it has. Linux looks among these first when an
/// address may be used again, one after the other, and when all are taken each connect costs it a millisecond.
const PER_SOURCE: usize = 2_000;

/// Where to, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// The server.
    pub address: SocketAddr,
    /// An address of this machine; any when `None`.
    pub source: Option<SocketAddr>,
}

impl Dial {
    /// To `address`, as the connection with this number: they come from several addresses, so that none runs out of
    /// ports.
    pub fn numbered(address: SocketAddr, index: usize) -> Self {
        Self { address, source: sources(address, index) }
    }

    /// Connects.
    pub async fn tcp(self) -> Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            // Without this an address would have as many connections as ports over all servers.
            socket.set_reuseaddr(true)?;
            socket.bind(source).context("no free port")?;
        }
        let stream = socket.connect(self.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The source address of the connection with this index; only this machine has several for the asking.
pub fn sources(address: SocketAddr, index: usize) -> Option<SocketAddr> {
    let last = u8::try_from(2 + index / PER_SOURCE).ok()?;
    address.ip().is_loopback().then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))
}

#[cfg(test)]
mod tests {
    use super::sources;

    #[test]
    fn sources_change_before_their_ports_run_out() {
        let local = "127.0.0.1:80".parse().unwrap();
        assert_eq!(sources(local, 1_999), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(sources(local, 2_000), Some("127.0.0.3:0".parse().unwrap()));
        assert_eq!(sources("192.0.2.1:80".parse().unwrap(), 0), None);
    }
}
