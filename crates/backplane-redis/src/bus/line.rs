//! One primary's connection for subscriptions, again and again until the line is stopped.
//!
//! Owns: connecting, carrying commands out and pushes in. Must not know: which channels are wanted and why.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parlance_backplane::stats::Wire;
use rand::Rng;
use tokio::time::Instant;

use super::connection::{Connection, Push};
use super::desk::{Assignment, Desk};
use super::table::Verb;
use crate::envelope;
use crate::topology::Topology;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Before what was refused is tried again where it was refused; a new layout is quicker.
const RETRY: Duration = Duration::from_millis(100);

/// The task of one line.
pub struct Line {
    /// What it is to do.
    pub assignment: Assignment,
    /// Where pushes go.
    pub desk: Arc<Mutex<Desk>>,
    /// Whom doubts are told.
    pub topology: Topology,
    /// How long connecting may take.
    pub patience: Duration,
}

impl Line {
    /// Until it is stopped.
    pub async fn run(self) {
        let mut pause = PAUSE_MIN;
        let address = &self.assignment.address;
        let mut broken = None;
        loop {
            if let Some(since) = broken {
                // Whoever answers there next may have got a successor and not know: nothing is published there.
                self.topology.vouched(address, since).await;
            }
            match Connection::open(address, self.topology.dialer(), self.patience).await {
                Ok(connection) => {
                    let since = Instant::now();
                    let _counted = self.topology.stats_of(address).connected(Wire::Subscriptions);
                    let ended = self.serve(connection).await;
                    self.desk.lock().interrupted(self.assignment.id);
                    if let Err(error) = ended {
                        tracing::warn!(%address, %error, "the subscriptions at a Redis were interrupted");
                    }
                    // One that breaks as soon as it stands is not worth hurrying for.
                    if since.elapsed() > pause * 4 {
                        pause = PAUSE_MIN;
                    }
                }
                Err(error) => tracing::warn!(%address, %error, "no connection to a Redis for subscriptions"),
            }
            broken = Some(Instant::now());
            self.topology.doubt();
            // Spread out: a server that comes back is not met by all nodes at once.
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until the connection is gone, which is an error.
    async fn serve(&self, mut connection: Connection) -> io::Result<()> {
        let id = self.assignment.id;
        let mut retry = None;
        loop {
            while let Some(push) = connection.arrived()? {
                self.take(push)?;
            }
            let (work, waits) = {
                let mut desk = self.desk.lock();
                (desk.work(id), desk.waits(id))
            };
            if retry.is_none() && waits {
                self.topology.doubt();
                retry = Some(Instant::now() + RETRY);
            }
            let name = |verb| match verb {
                Verb::Subscribe => "SSUBSCRIBE",
                Verb::Unsubscribe => "SUNSUBSCRIBE",
            };
            let work: Vec<_> = work.into_iter().map(|it| (name(it.verb), it.channels)).collect();
            if !work.is_empty() {
                connection.send(&work).await?;
            }
            let at = retry.unwrap_or_else(Instant::now);
            tokio::select! {
                more = connection.more() => more?,
                () = self.assignment.wake.notified() => {
                    // Who else is about to want something goes first: many that come at once are one write.
                    tokio::task::yield_now().await;
                }
                () = tokio::time::sleep_until(at), if retry.is_some() => {
                    self.desk.lock().retry(id);
                    retry = None;
                }
            }
        }
    }

    fn take(&self, push: Push<'_>) -> io::Result<()> {
        let id = self.assignment.id;
        match push {
            Push::Message { channel, payload } => {
                let topic = self.desk.lock().topic(id, channel).cloned();
                let Some(topic) = topic else { return Ok(()) };
                match envelope::publication(&topic, payload) {
                    Ok(Some(publication)) => self.desk.lock().deliver(topic, publication),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "an unreadable publication was skipped"),
                }
            }
            Push::Subscribed(channel) => self.desk.lock().subscribed(id, &channel),
            Push::Unsubscribed(channel) => {
                self.desk.lock().unsubscribed(id, &channel);
            }
            Push::Refused(why) => {
                if !self.desk.lock().refused(id) {
                    return Err(io::Error::other(why));
                }
                tracing::debug!(address = %self.assignment.address, why, "a subscription was refused");
            }
        }
        Ok(())
    }
}
