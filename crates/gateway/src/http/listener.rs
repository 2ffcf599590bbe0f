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
use super::proxies;
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
        // Linux gives them to each connection: asking for them again would be two system calls for each that comes.
        alert(&SockRef::from(&socket));
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        let tracker = self.node.tracker.clone();
        tracker.spawn(self.accept_all(listener));
        Ok(bound)
    }

    async fn accept_all(self, listener: TcpListener) {
        let mut pause = FIRST_PAUSE;
        let mut halted = std::pin::pin!(self.node.halt.cancelled());
        loop {
            let accepted = tokio::select! {
                () = &mut halted => {
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
        self.node.metrics.door.sockets_accepted.with_label_values(&[self.name]).inc();
        let config = self.node.config.load();
        let limits = &config.limits;
        let (all, per_address) =
            if self.name == "public" { (limits.connections, limits.connections_per_ip) } else { (0, 0) };
        let shared = self.public.is_some() && proxies::is_trusted(&config, remote.ip());
        let taken = if shared {
            self.permits.take_shared(remote.ip(), all)
        } else {
            self.permits.take(remote.ip(), all, per_address)
        };
        let permit = match taken {
            Ok(permit) => {
                let sockets = self.node.metrics.door.sockets.with_label_values(&[self.name]);
                Arc::new(permit.shown(sockets))
            }
            Err(reason) => {
                self.node.metrics.refused(None, reason);
                turn_away(&stream);
                return;
            }
        };
        if cfg!(not(target_os = "linux")) {
            alert(&SockRef::from(&stream));
        }
        let visit = Visit {
            node: self.node.clone(),
            router: self.router.clone(),
            public: self.public.clone(),
            stream: Arc::new(stream),
            permit,
        };
        self.node.tracker.spawn(connection::serve(visit));
    }
}

/// Has what is written go out at once, and finds peers that went without a word (a cable, a NAT) when nothing else is
/// written to them.
fn alert(socket: &SockRef<'_>) {
    if let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = socket.set_keepalive(true) {
        tracing::debug!(%error, "SO_KEEPALIVE");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_as_alert_as_their_listener() {
        let socket = TcpSocket::new_v4().unwrap();
        alert(&SockRef::from(&socket));
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        if cfg!(not(target_os = "linux")) {
            alert(&SockRef::from(&stream));
        }
        assert!(stream.nodelay().unwrap() && SockRef::from(&stream).keepalive().unwrap());
    }
}
