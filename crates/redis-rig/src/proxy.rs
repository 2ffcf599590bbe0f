//! A bad network: a port whose connections lead to another one, with faults a test turns on and off.
//!
//! Bytes that were taken are delivered in order or not at all, as TCP does: what is lost on the way shows as a delay,
//! what is swallowed ends the connection once it could be noticed. Chance comes from a seed. Must not know: what is
//! said over the connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pieces under way per direction of a connection; the sender waits beyond, as with a full window.
const UNDER_WAY: usize = 64;

/// What is wrong with the network. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// How much later every piece arrives, in each direction.
    pub delay: Duration,
    /// Up to how much later on top of that, by chance.
    pub jitter: Duration,
    /// How probably a piece is lost and sent again: it and those after it come 200 ms later.
    pub loss: f64,
    /// How probably the connection is cut at a piece.
    pub cut: f64,
    /// New connections are reset.
    pub refuse: bool,
    /// Nothing arrives, and nobody is told; what was sent meanwhile is gone, and the connection with it, afterwards.
    pub blackhole: bool,
    /// Nothing arrives, and nobody is told; all of it arrives afterwards.
    pub freeze: bool,
}

/// The port.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    faults: watch::Sender<Faults>,
    cuts: watch::Sender<u64>,
    stop: CancellationToken,
}

struct Shared {
    target: u16,
    seed: u64,
    accepted: AtomicU64,
    open: AtomicUsize,
}

/// One connection's view of the network.
#[derive(Clone)]
struct Line {
    faults: watch::Receiver<Faults>,
    end: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Proxy {
    /// Opens a port of the loopback address that leads to `target`.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(target: u16, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Shared { target, seed, accepted: AtomicU64::new(0), open: AtomicUsize::new(0) };
        let shared = Arc::new(shared);
        let (faults, seen) = watch::channel(Faults::default());
        let (cuts, cut) = watch::channel(0);
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let accepting = accept(listener, shared.clone(), seen, cut, tracker.clone());
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(accepting).await });
        Ok(Self { port, shared, faults, cuts, stop })
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as a gateway takes that of a Redis.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on the network is like this.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// Nothing is wrong any more.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Cuts every connection there is; new ones come through.
    pub fn cut_all(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections there are.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections there ever were, refused ones too.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    faults: watch::Receiver<Faults>,
    cuts: watch::Receiver<u64>,
    tracker: TaskTracker,
) {
    // Dropped with this task: then every connection ends.
    let all = CancellationToken::new();
    let _end = all.clone().drop_guard();
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        if faults.borrow().refuse {
            // A reset instead of a farewell; on a socket that is gone already there is nothing to reset.
            drop(client.set_zero_linger());
            continue;
        }
        let line = Line { faults: faults.clone(), end: all.child_token() };
        let (shared, mut cuts) = (shared.clone(), cuts.clone());
        cuts.mark_unchanged();
        tracker.spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            tokio::select! {
                // A connection that ends in an error has ended: both ends see that by themselves.
                _ = carry(client, &shared, number, line.clone()) => {}
                _ = cuts.changed() => {}
                () = line.end.cancelled() => {}
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn carry(client: TcpStream, shared: &Shared, number: u64, line: Line) -> io::Result<()> {
    client.set_nodelay(true)?;
    if line.faults.borrow().blackhole {
        return swallow(client, line).await;
    }
    let server = TcpStream::connect(("127.0.0.1", shared.target)).await?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let chance = |way: u64| StdRng::seed_from_u64(shared.seed ^ (number * 2 + way).rotate_left(17));
    tokio::select! {
        done = pump(from_client, to_server, line.clone(), chance(0)) => done,
        done = pump(from_server, to_client, line.clone(), chance(1)) => done,
    }
}

async fn swallow(mut client: TcpStream, mut line: Line) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        tokio::select! {
            read = client.read(&mut bytes) => if read? == 0 { return Ok(()) },
            _ = line.faults.wait_for(|faults| !faults.blackhole) => return Ok(()),
        }
    }
}

/// One direction: a piece is taken when it comes and handed on when it is due.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, line: Line, chance: StdRng) -> io::Result<()> {
    let (taken, due) = mpsc::channel(UNDER_WAY);
    let (taken, handed) = tokio::join!(take(from, taken, line.clone(), chance), hand(to, due, line));
    taken.and(handed)
}

async fn take(
    mut from: OwnedReadHalf,
    taken: mpsc::Sender<(Instant, Vec<u8>)>,
    line: Line,
    mut chance: StdRng,
) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        let mut bytes = vec![0; 16 * 1024];
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        bytes.truncate(read);
        let faults = *line.faults.borrow();
        let mut late = faults.delay + faults.jitter.mul_f64(chance.random::<f64>());
        if chance.random::<f64>() < faults.cut {
            line.end.cancel();
            return Ok(());
        }
        if chance.random::<f64>() < faults.loss {
            late += Duration::from_millis(200);
        }
        last = last.max(Instant::now() + late);
        if taken.send((last, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

async fn hand(
    mut to: OwnedWriteHalf,
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut line: Line,
) -> io::Result<()> {
    let mut swallowed = false;
    while let Some((at, bytes)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        swallowed |= line.faults.borrow().blackhole;
        if swallowed {
            // A hole in the stream cannot be mended: the connection ends when the network is back.
            let mut faults = line.faults.clone();
            let end = line.end.clone();
            let lost = async { while due.recv().await.is_some() {} };
            tokio::select! {
                _ = faults.wait_for(|faults| !faults.blackhole) => end.cancel(),
                () = lost => {}
            }
            return Ok(());
        }
        // The sender lives as long as the proxy, which ends this connection.
        if line.faults.wait_for(|faults| !faults.freeze).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Operator, Server};

    async fn ping(operator: &mut Operator, patience: u64) -> Option<Result<String>> {
        let asked = operator.command(&["PING"]);
        tokio::time::timeout(Duration::from_millis(patience), asked).await.ok()
    }

    #[tokio::test]
    async fn faults_come_and_go() -> Result<()> {
        let server = Server::standalone().await?;
        let proxy = Proxy::start(server.port(), 1).await?;
        let mut operator = Operator::connect(proxy.port()).await?;
        assert_eq!(operator.command(&["PING"]).await?, "PONG");
        proxy.set(Faults { delay: Duration::from_millis(60), ..Faults::default() });
        let started = Instant::now();
        assert_eq!(operator.command(&["PING"]).await?, "PONG");
        assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
        proxy.heal();
        proxy.cut_all();
        assert!(operator.command(&["PING"]).await.is_err());
        let mut operator = Operator::connect(proxy.port()).await?;
        proxy.set(Faults { freeze: true, ..Faults::default() });
        let mut frozen = Box::pin(operator.command(&["PING"]));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut frozen).await.is_err());
        proxy.heal();
        assert_eq!(frozen.as_mut().await?, "PONG");
        drop(frozen);
        proxy.set(Faults { blackhole: true, ..Faults::default() });
        assert!(ping(&mut operator, 50).await.is_none());
        let mut swallowed = Operator::connect(proxy.port()).await?;
        assert!(ping(&mut swallowed, 50).await.is_none());
        proxy.heal();
        assert!(ping(&mut operator, 5000).await.is_some_and(|ended| ended.is_err()));
        assert!(ping(&mut swallowed, 5000).await.is_some_and(|ended| ended.is_err()));
        proxy.set(Faults { refuse: true, ..Faults::default() });
        let refused = async { Operator::connect(proxy.port()).await?.command(&["PING"]).await };
        assert!(refused.await.is_err());
        proxy.heal();
        assert_eq!(Operator::connect(proxy.port()).await?.command(&["PING"]).await?, "PONG");
        assert_eq!(proxy.accepted(), 5);
        Ok(())
    }

    #[tokio::test]
    async fn loss_delays_and_cuts_end() -> Result<()> {
        let server = Server::standalone().await?;
        let proxy = Proxy::start(server.port(), 7).await?;
        let mut operator = Operator::connect(proxy.port()).await?;
        proxy.set(Faults { loss: 0.1, ..Faults::default() });
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(operator.command(&["PING"]).await?, "PONG");
        }
        assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
        proxy.set(Faults { cut: 0.1, ..Faults::default() });
        let mut answered = 0;
        while operator.command(&["PING"]).await.is_ok() {
            answered += 1;
        }
        assert!(answered < 200, "{answered}");
        Ok(())
    }
}
