//! The handle an application holds. Nothing here waits, except for [`Client::close`] and
//! [`Client::send_when_free`]: everything is handed to the task.

use std::sync::Arc;

use parlance_model::{ReceiptKind, Status};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, Order};
use crate::outbox::Draft;
use crate::task::Task;
use crate::update::Outgoing;
use crate::{Message, Options, Update};

/// Orders beside messages that may wait for the task.
const WORDS: usize = 256;

/// Why something was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// Too many messages wait for their acknowledgement already.
    #[error("too many messages wait to be sent")]
    QueueFull,
    /// The client has stopped: closed, or refused by the server.
    #[error("the client has stopped")]
    Stopped,
}

/// A connected, or reconnecting, client. Dropping it stops the task without waiting for it.
#[derive(Debug)]
pub struct Client {
    orders: mpsc::Sender<Order>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Client {
    /// Starts a client. It connects by itself and reports [`Update::Connected`]; what is sent before that
    /// waits. The receiver must be read: a full one stops the client from reading its socket.
    pub fn connect(options: Options) -> (Self, mpsc::Receiver<Update>) {
        let (orders, taken) = mpsc::channel(options.queue + WORDS);
        let (updates, told) = mpsc::channel(options.updates.max(1));
        let places = Arc::new(Semaphore::new(options.queue));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let engine = Engine::new(options.clone());
        let task = Task { options, engine, orders: taken, updates, stop: stop.clone() };
        tasks.spawn(task.run());
        tasks.close();
        (Self { orders, places, stop, tasks }, told)
    }

    /// Sends a message and returns its local id, under which [`Update::State`] reports on it. `to` names the
    /// recipients of a conversation that this message creates.
    ///
    /// # Errors
    /// When the queue is full or the client has stopped.
    pub fn send(&self, conversation: &str, body: &str, to: &[&str]) -> Result<String, SendError> {
        self.send_with(conversation, body, to, None)
    }

    /// [`Self::send`] with metadata.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_with(
        &self,
        conversation: &str,
        body: &str,
        to: &[&str],
        metadata: Option<Value>,
    ) -> Result<String, SendError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| SendError::QueueFull)?;
        self.enqueue(
            Outgoing::Message {
                id: uuid::Uuid::new_v4().to_string(),
                conversation: conversation.to_owned(),
                body: body.to_owned(),
                to: owned(to),
                metadata,
            },
            place,
        )
    }

    /// [`Self::send`], once the queue has room.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn send_when_free(
        &self,
        conversation: &str,
        body: &str,
        to: &[&str],
    ) -> Result<String, SendError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| SendError::Stopped)?;
        self.enqueue(
            Outgoing::Message {
                id: uuid::Uuid::new_v4().to_string(),
                conversation: conversation.to_owned(),
                body: body.to_owned(),
                to: owned(to),
                metadata: None,
            },
            place,
        )
    }

    fn enqueue(&self, frame: Outgoing, place: OwnedSemaphorePermit) -> Result<String, SendError> {
        let Outgoing::Message { id, conversation, .. } = &frame else { return Err(SendError::Stopped) };
        let (id, conversation) = (id.clone(), conversation.clone());
        self.order(Order::Send(Draft { id: id.clone(), conversation, frame, place: Some(place) }))?;
        Ok(id)
    }

    /// A key was pressed: others hear "typing" after the debounce, and its end by itself.
    ///
    /// # Errors
    /// When the client has stopped or is overwhelmed.
    pub fn typing(&self, conversation: &str, to: &[&str]) -> Result<(), SendError> {
        self.order(Order::TypingInput { conversation: conversation.to_owned(), to: owned(to) })
    }

    /// The input was emptied: takes "typing" back at once.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn typing_stopped(&self, conversation: &str) -> Result<(), SendError> {
        self.order(Order::TypingStop { conversation: conversation.to_owned() })
    }

    /// The user has seen a message.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn mark_read(&self, message: &Message) -> Result<(), SendError> {
        self.receipt(ReceiptKind::Read, message)
    }

    /// Sends a receipt by hand, for clients with [`Options::auto_receipts`] off.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn receipt(&self, kind: ReceiptKind, message: &Message) -> Result<(), SendError> {
        self.say(Outgoing::Receipt {
            kind,
            conversation: message.conversation.clone(),
            id: message.id.clone(),
            author: message.from.clone(),
        })
    }

    /// Reacts to a message, named as the dialect names it, or takes a reaction back; where the dialect has a
    /// word for that.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn react(&self, message: &str, kind: &str, on: bool) -> Result<(), SendError> {
        self.say(Outgoing::React { message: message.to_owned(), kind: kind.to_owned(), on })
    }

    /// Subscribes to a channel, now and after every reconnect. `conversation:` and an id is a conversation.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn subscribe(&self, channel: &str) -> Result<(), SendError> {
        self.say(Outgoing::Subscribe { channel: channel.to_owned() })
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn unsubscribe(&self, channel: &str) -> Result<(), SendError> {
        self.say(Outgoing::Unsubscribe { channel: channel.to_owned() })
    }

    /// Sets the status others see, now and after every reconnect.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn set_presence(&self, status: Status) -> Result<(), SendError> {
        self.say(Outgoing::Presence { status })
    }

    /// Asks for what was queued while away, where the dialect has a word for that.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn request_queued(&self) -> Result<(), SendError> {
        self.say(Outgoing::RequestQueued)
    }

    /// Sends a frame as it is; over Socket.IO the array of an event's name and arguments.
    ///
    /// # Errors
    /// As [`Self::typing`].
    pub fn raw(&self, frame: Value) -> Result<(), SendError> {
        self.say(Outgoing::Raw(frame))
    }

    /// Closes the connection cleanly and waits for the task. Unsent messages are lost.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    fn say(&self, word: Outgoing) -> Result<(), SendError> {
        self.order(Order::Say(word))
    }

    fn order(&self, order: Order) -> Result<(), SendError> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => SendError::Stopped,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
