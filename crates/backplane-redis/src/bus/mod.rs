//! Publish and subscribe: the node's own connection for sharded channels, and its inbox.
//!
//! Owns: that what was subscribed stays subscribed, and that `Lost` is said where publications may be missing: when
//! the connection goes, when everything is subscribed again, and when the inbox is full. Must not know: commands.

mod connection;
mod desk;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parlance_backplane::{Bus, Delivery, Fault, Inbox, Publication, Signal};
use parlance_model::Topic;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Connection;
use desk::Desk;

use crate::engine::{Node, Options};
use crate::envelope;
use crate::topology::{Address, Topology};

/// Orders that wait for the connection; callers wait beyond.
const ORDERS: usize = 1024;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

enum Order {
    Subscribe(Vec<(String, Topic)>, oneshot::Sender<()>),
    Unsubscribe(Vec<String>),
}

/// The handle on the task that keeps the subscriptions.
pub struct Subscriber {
    orders: mpsc::Sender<Order>,
    stop: CancellationToken,
    patience: Duration,
}

/// The inbox's other end.
struct Outlet {
    inbox: mpsc::Sender<Delivery>,
    /// The newest thing in the inbox is `Lost`: until there is room, dropping more needs no second word.
    lost: bool,
}

impl Outlet {
    fn deliver(&mut self, topic: &Topic, publication: Publication) {
        if self.inbox.capacity() <= 1 {
            self.lose();
        } else if self.inbox.try_send(Delivery::Published(topic.clone(), publication)).is_ok() {
            self.lost = false;
        }
    }

    /// The last place is kept for this, so that it never has to wait for a later publication.
    fn lose(&mut self) {
        if !self.lost || self.inbox.capacity() > 1 {
            self.lost = self.inbox.try_send(Delivery::Lost).is_ok() || self.lost;
        }
    }
}

impl Subscriber {
    /// Starts the task that keeps the connection.
    pub fn start(topology: &Topology, options: &Options, tasks: &TaskTracker) -> (Self, Inbox) {
        let (sender, inbox) = mpsc::channel(options.inbox.max(2) + 1);
        let (orders, queue) = mpsc::channel(ORDERS);
        let stop = CancellationToken::new();
        let desk = Desk::new(Outlet { inbox: sender, lost: false });
        let layout = topology.layout();
        let address = layout.of_slot(0).cloned().unwrap_or_else(|| Address::plain("127.0.0.1", 6379));
        let keeper = Keeper { address, patience: options.patience, queue, desk };
        let stopped = stop.clone();
        tasks.spawn(async move { stopped.run_until_cancelled(keeper.run()).await });
        (Self { orders, stop, patience: options.patience }, inbox)
    }

    /// Ends the task.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    async fn order(&self, order: Order) -> Result<(), Fault> {
        let sent = tokio::time::timeout(self.patience, self.orders.send(order)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::Unavailable("the subscriptions to Redis do not answer".to_owned())),
        }
    }
}

struct Keeper {
    address: Address,
    patience: Duration,
    queue: mpsc::Receiver<Order>,
    desk: Desk,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            match Connection::open(&self.address, self.patience).await {
                Ok(connection) => {
                    pause = PAUSE_MIN;
                    match self.serve(connection).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "the subscriptions to Redis were interrupted"),
                    }
                    self.desk.interrupted();
                }
                Err(error) => tracing::warn!(%error, "no connection to Redis for subscriptions"),
            }
            if self.queue.is_closed() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until the connection is gone; without an error, until the engine is.
    async fn serve(&mut self, mut connection: Connection) -> std::io::Result<()> {
        for channels in self.desk.resume() {
            connection.send("SSUBSCRIBE", &channels).await?;
        }
        loop {
            tokio::select! {
                order = self.queue.recv() => match order {
                    Some(Order::Subscribe(channels, done)) => {
                        for channels in self.desk.subscribe(channels, done) {
                            connection.send("SSUBSCRIBE", &channels).await?;
                        }
                    }
                    Some(Order::Unsubscribe(channels)) => {
                        for channels in self.desk.unsubscribe(channels) {
                            connection.send("SUNSUBSCRIBE", &channels).await?;
                        }
                    }
                    // The engine was dropped: nobody listens any more.
                    None => return Ok(()),
                },
                push = connection.next() => {
                    if let Some(push) = push? {
                        self.desk.push(&push)?;
                    }
                }
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
        self.subscriber.order(Order::Subscribe(topics.iter().flat_map(channels).collect(), done)).await?;
        match tokio::time::timeout(self.subscriber.patience, confirmed).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::Unavailable("Redis did not confirm a subscription".to_owned())),
        }
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        let channels = topics.iter().flat_map(|topic| self.keys.channels(topic)).collect();
        self.subscriber.order(Order::Unsubscribe(channels)).await
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
}
