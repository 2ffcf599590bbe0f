//! The balancer as one client sees it: a port that leads to any node that is ready, can be cut, and can fall silent.
//!
//! Owns: bytes. Must not know: what they mean.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::history::{Recorder, What};

/// A node as the balancer knows it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its number in the run.
    pub node: usize,
    /// Its public listener.
    pub address: String,
}

/// The nodes that are ready, as a balancer's probes find them.
#[derive(Clone, Default)]
pub struct Targets(Arc<Mutex<Vec<Target>>>);

impl Targets {
    /// These and no others.
    pub fn set(&self, targets: Vec<Target>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Who is there.
    pub fn all(&self) -> Vec<Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Line {
    /// As it should be.
    #[default]
    Well,
    /// Nothing passes, nobody is told.
    Silent,
    /// What comes from the server is let through at a trickle: one small read in this many milliseconds.
    Slow(u64),
}

/// See the module. Dropped, it closes.
pub struct Door {
    address: SocketAddr,
    line: watch::Sender<Line>,
    cuts: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a connection's task needs.
#[derive(Clone)]
struct Inside {
    targets: Targets,
    notes: Recorder,
    line: watch::Receiver<Line>,
    cuts: watch::Receiver<u64>,
}

impl Door {
    /// Opens one.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn open(targets: Targets, notes: Recorder, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (line, seen) = watch::channel(Line::Well);
        let (cuts, cut) = watch::channel(0);
        let stop = CancellationToken::new();
        let inside = Inside { targets, notes, line: seen, cuts: cut };
        let tracker = TaskTracker::new();
        let accepting = accept(listener, inside, seed, tracker.clone(), stop.clone());
        let stopped = stop.clone();
        tracker.spawn(async move { stopped.run_until_cancelled(accepting).await });
        Ok(Self { address, line, cuts, stop })
    }

    /// Where it is, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the line is like this.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Cuts what is connected.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    inside: Inside,
    seed: u64,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let mut dice = StdRng::seed_from_u64(seed);
    while let Ok((client, _)) = listener.accept().await {
        let targets = inside.targets.all();
        if targets.is_empty() {
            continue;
        }
        let target = targets[dice.random_range(0..targets.len())].clone();
        let (inside, stop) = (inside.clone(), stop.clone());
        tracker.spawn(async move { stop.run_until_cancelled(serve(client, target, inside)).await });
    }
}

async fn serve(client: TcpStream, target: Target, mut inside: Inside) {
    let Ok(server) = TcpStream::connect(&target.address).await else { return };
    // A line that does not batch is the harder one.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    inside.notes.note(What::Reached { node: target.node });
    inside.cuts.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pump(from_client, to_server, inside.line.clone(), false);
    let down = pump(from_server, to_client, inside.line.clone(), true);
    tokio::select! {
        // Either end closed: so is the other, as a balancer does it.
        () = up => {}
        () = down => {}
        _ = inside.cuts.changed() => {}
    }
}

/// Moves bytes until one side ends.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>, slows: bool) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let state = *line.borrow_and_update();
        let piece = match state {
            Line::Silent => {
                // Nothing is read and nothing is answered; the sender's window fills.
                if line.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Line::Slow(pause) if slows => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                512
            }
            Line::Well | Line::Slow(_) => buffer.len(),
        };
        let read = tokio::select! {
            read = from.read(&mut buffer[..piece]) => read,
            changed = line.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
