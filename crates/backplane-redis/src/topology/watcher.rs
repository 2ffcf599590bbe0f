//! The task that looks at the layout: every second, and at once when it is doubted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Fault;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::probe::Probe;
use super::{Address, Dialer, Layout, Place, Topology, cluster, sentinel};
use crate::times::Times;

/// Between two looks when nobody doubts.
const PERIOD: Duration = Duration::from_secs(1);
/// The same under Sentinels. A primary that is replaced though it is well goes on for as long as it is not told, and
/// what it takes meanwhile is lost: the sooner nodes see that a failover began, the less that is.
const SENTINEL_PERIOD: Duration = Duration::from_millis(200);
/// Between two looks however much is doubted.
const GAP: Duration = Duration::from_millis(50);

enum Eye {
    Cluster(cluster::Eye),
    Sentinel(sentinel::Eye),
}

impl Eye {
    async fn look(&mut self, known: &Layout) -> Result<Layout, String> {
        match self {
            Self::Cluster(eye) => eye.look(known).await,
            Self::Sentinel(eye) => eye.look().await,
        }
    }

    fn doubted(&mut self) {
        if let Self::Cluster(eye) = self {
            eye.doubt();
        }
    }

    const fn period(&self) -> Duration {
        match self {
            Self::Cluster(_) => PERIOD,
            Self::Sentinel(_) => SENTINEL_PERIOD,
        }
    }
}

/// Looks until something is seen, and keeps looking until `stop`.
///
/// # Errors
/// [`Fault::Unavailable`] when nobody can tell in time what the layout is.
pub async fn start(
    place: Place,
    dialer: Dialer,
    times: Times,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Topology, Fault> {
    let doubt = Arc::new(Notify::new());
    let mut eye = match place {
        Place::Standalone(address) => {
            // Nothing is asked: it is for saying what is wrong with the address, the login or the certificate.
            knock(&dialer, &address, times)
                .await
                .map_err(|error| Fault::Unavailable(format!("Redis at {address}: {error}")))?;
            let layout = Arc::new(Layout::standalone(address));
            return Ok(Topology::new(watch::channel(layout).1, doubt).dialed_by(dialer));
        }
        Place::Cluster(seeds) => Eye::Cluster(cluster::Eye::new(dialer.clone(), seeds)),
        Place::Sentinel { sentinels, service, server } => {
            Eye::Sentinel(sentinel::Eye::new(dialer.clone(), sentinels, service, server))
        }
    };
    let mut attempts = times.attempts();
    let first = loop {
        match eye.look(&Layout::new([])).await {
            Ok(layout) => break layout,
            Err(error) => attempts.again(error).await.map_err(Fault::Unavailable)?,
        }
    };
    let (sender, seen) = watch::channel(Arc::new(first));
    let (looked, begun) = watch::channel(Instant::now());
    let doubts = doubt.clone();
    let stop = stop.clone();
    tasks.spawn(async move { stop.run_until_cancelled(keep(eye, sender, looked, doubts)).await });
    Ok(Topology::new(seen, doubt).dialed_by(dialer).looked_at(begun))
}

/// Whether somebody answers there in time. A refusal is final: waiting makes no password right.
async fn knock(dialer: &Dialer, address: &Address, times: Times) -> io::Result<()> {
    let mut attempts = times.attempts();
    loop {
        match Probe::open(dialer, address).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(error) => attempts.again(error).await?,
        }
    }
}

async fn keep(
    mut eye: Eye,
    seen: watch::Sender<Arc<Layout>>,
    looked: watch::Sender<Instant>,
    doubt: Arc<Notify>,
) {
    let mut blind = false;
    loop {
        tokio::time::sleep(GAP).await;
        if tokio::time::timeout(eye.period(), doubt.notified()).await.is_ok() {
            eye.doubted();
        }
        let (known, begun) = (seen.borrow().clone(), Instant::now());
        match eye.look(&known).await {
            Ok(layout) => {
                if blind {
                    tracing::info!("it can be seen again where Redis is");
                    blind = false;
                }
                if layout != *known {
                    tracing::info!(primaries = ?layout.primaries(), "Redis is laid out anew");
                    seen.send_replace(Arc::new(layout));
                }
                looked.send_replace(begun);
            }
            // Said once: what was known last stays in use.
            Err(error) if !blind => {
                tracing::warn!(%error, "it cannot be seen where Redis is");
                blind = true;
            }
            Err(_) => {}
        }
    }
}
