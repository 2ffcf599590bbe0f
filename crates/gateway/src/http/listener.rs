//! Accepting TCP connections: the queue, the limits, and going on when descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::connection::{self, Visit};
use super::permit::Permits;
use super::router::Public;
use crate::node::Node;

/// Connections the kernel completes ahead of us. The usual 128 overflows when clients return all at once,
/// and each overflow costs its client a second.
const BACKLOG: u32 = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One listener.
pub struct Gate {
    node: Arc<Node>,
    name: &'static str,
    router: Router,
    public: Option<Public>,
    permits: Permits,
}

impl Gate {
    /// A listener that serves `router`. Only the public one limits connections.
    pub fn new(node: &Arc<Node>, name: &'static str, router: Router, permits: Permits) -> Self {
        Self { node: node.clone(), name, router, public: None, permits }
    }

    /// The same, which answers what it can of `public` without the router.
    pub fn shortcut(self, public: &Public) -> Self {
        Self { public: Some(public.clone()), ..self }
    }

    /// Binds and begins to accept, until the node halts.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn open(self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        let tracker = self.node.tracker.clone();
        tracker.spawn(self.accept_all(listener));
        Ok(bound)
    }

    async fn accept_all(self, listener: TcpListener) {
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                () = self.node.halt.cancelled() => {
                    // Those that were let in by the kernel would be reset with the listener.
                    while let Some(Ok((stream, remote))) = listener.accept().now_or_never() {
                        self.admit(stream, remote);
                    }
                    return;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    pause = FIRST_PAUSE;
                    self.admit(stream, remote);
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    // Descriptors or memory are exhausted: accepting again at once would only spin.
                    self.node.metrics.door.accept_errors.inc();
                    tracing::warn!(%error, listener = self.name, "accept");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) {
        let config = self.node.config.load();
        let limits = &config.limits;
        let (all, per_address) =
            if self.name == "public" { (limits.connections, limits.connections_per_ip) } else { (0, 0) };
        let permit = match self.permits.take(remote.ip(), all, per_address) {
            Ok(permit) => Arc::new(permit),
            Err(reason) => {
                self.node.metrics.refused("-", reason);
                turn_away(&stream);
                return;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        // Finds peers that went without a word (a cable, a NAT) when nothing else is written to them.
        if let Err(error) = SockRef::from(&stream).set_keepalive(true) {
            tracing::debug!(%error, "SO_KEEPALIVE");
        }
        let visit = Visit {
            node: self.node.clone(),
            router: self.router.clone(),
            public: self.public.clone(),
            stream: Arc::new(stream),
            permit,
            sockets: self.node.metrics.door.sockets.with_label_values(&[self.name]),
        };
        self.node.tracker.spawn(connection::serve(visit));
    }
}

/// Answers without a task, a timer or a wait: a flood of these must stay cheap.
fn turn_away(stream: &TcpStream) {
    let mut scrap = [0; 4096];
    let _ = stream.try_read(&mut scrap);
    let _ = stream.try_write(connection::FULL);
}

/// Whether only the connection in question failed.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
