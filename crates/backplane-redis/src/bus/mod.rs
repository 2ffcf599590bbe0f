//! Publish and subscribe: the node's own connections for sharded channels, one per primary, and its inbox.
//!
//! Owns: that what was subscribed stays subscribed, wherever its slot is, and that `Lost` is said where publications
//! may be missing: when a subscription goes, when those that went stand again, and when the inbox is full. Must not
//! know: commands.

mod connection;
mod desk;
mod failpoint;
mod line;
mod outlet;
mod table;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use parlance_backplane::{Bus, Fault, Inbox, Signal};
use parlance_model::Topic;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use desk::Desk;
use line::Line;
use outlet::{Outlet, SPACING};

use crate::engine::{Node, Options};
use crate::envelope;
use crate::topology::Topology;

/// The handle on the tasks that keep the subscriptions.
pub struct Subscriber {
    desk: Arc<Mutex<Desk>>,
    stop: CancellationToken,
    patience: Duration,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The engine was dropped: nobody listens any more.
        self.stop.cancel();
    }
}

impl Subscriber {
    /// Starts the tasks that keep the connections.
    pub fn start(topology: &Topology, options: &Options, tasks: &TaskTracker) -> (Self, Inbox) {
        let (sender, inbox) = mpsc::channel(options.inbox.max(2) + 1);
        let (stop, owing) = (CancellationToken::new(), Arc::new(Notify::new()));
        let desk = Arc::new(Mutex::new(Desk::new(Outlet::new(sender, owing.clone()))));
        let keeper = Keeper {
            desk: desk.clone(),
            topology: topology.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            patience: options.patience,
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(keeper.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(settle(desk.clone(), owing)));
        (Self { desk, stop, patience: options.patience }, inbox)
    }

    /// Ends the tasks.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Says what is owed about gaps, in its time.
async fn settle(desk: Arc<Mutex<Desk>>, owing: Arc<Notify>) {
    loop {
        owing.notified().await;
        tokio::time::sleep(SPACING).await;
        desk.lock().settle();
    }
}

/// Starts a line for every primary there is.
struct Keeper {
    desk: Arc<Mutex<Desk>>,
    topology: Topology,
    tasks: TaskTracker,
    stop: CancellationToken,
    patience: Duration,
}

impl Keeper {
    async fn run(self) {
        let mut seen = self.topology.watch();
        loop {
            let layout = seen.borrow_and_update().clone();
            let fresh = self.desk.lock().lay_out(layout);
            for assignment in fresh {
                let (stop, ended) = (assignment.stop.clone(), self.stop.clone());
                let (desk, topology) = (self.desk.clone(), self.topology.clone());
                let line = Line { assignment, desk, topology, patience: self.patience };
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = line.run() => {}
                        () = stop.cancelled() => {}
                        () = ended.cancelled() => {}
                    }
                });
            }
            if seen.changed().await.is_err() {
                // A layout for ever.
                return;
            }
        }
    }
}

#[async_trait]
impl Bus for Node {
    async fn subscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        let channels = |topic: &Topic| {
            let topic = topic.clone();
            self.keys.channels(&topic).into_iter().map(move |channel| (channel, topic.clone()))
        };
        let (done, confirmed) = oneshot::channel();
        self.subscriber.desk.lock().subscribe(topics.iter().flat_map(channels).collect(), done);
        // The presence of everybody lies at every primary: what there is of it is told.
        let everybody = topics == [Topic::PresenceAll];
        let patience = if everybody { self.subscriber.patience / 2 } else { self.subscriber.patience };
        let settled =
            || everybody && self.subscriber.desk.lock().settle_for(&self.keys.channels(&Topic::PresenceAll));
        match tokio::time::timeout(patience, confirmed).await {
            Ok(Ok(())) => Ok(()),
            _ if settled() => Ok(()),
            _ => Err(Fault::Unavailable("Redis did not confirm a subscription".to_owned())),
        }
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        let channels = topics.iter().flat_map(|topic| self.keys.channels(topic)).collect();
        self.subscriber.desk.lock().unsubscribe(channels);
        Ok(())
    }

    async fn signal(&self, topic: &Topic, signal: Signal) -> Result<(), Fault> {
        let payload = Bytes::from(envelope::signal(&signal));
        // One of everybody's presence channels is enough: whoever listens listens to all.
        match self.keys.channels(topic).first() {
            Some(channel) => Ok(self.link.spublish(channel, payload).await?),
            None => Ok(()),
        }
    }

    fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().take()
    }

    fn hears(&self) -> bool {
        self.subscriber.desk.lock().hears()
    }
}
