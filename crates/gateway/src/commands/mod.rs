//! Use cases: what a client's command does, for every dialect alike. Permission and policy are checked
//! here, shape was checked by `parlance-wire`.

pub mod conversations;
mod history;
mod permission;
mod presence;
mod queued;
mod reaction;
mod receipt;
pub(crate) mod rooms;
pub mod send;
mod subscribe;
mod typing;

pub(crate) use receipt::{UpTo, read_up_to};
pub(crate) use subscribe::tell_presence;

use std::sync::Arc;

use parlance_model::{Answer, Command, LogKey, Record, Reject};

use crate::node::Node;
use crate::session::{Link, Own};
use crate::trace;

/// Carries out a command of an authenticated connection.
///
/// # Errors
/// The refusal, in canonical form.
pub async fn run(node: &Arc<Node>, link: &Arc<Link>, command: Command) -> Result<Answer, Reject> {
    if !node.health.keeps() && needs_engine(&command) {
        // Known already: nobody waits for it, and nothing queues up.
        return Err(node.away());
    }
    match command {
        // Everything but the most frequent lies apart: a future is as large as the largest of what it may become.
        Command::Send(send) => {
            let span = trace::begin(node, &link.parent, Some(link.dialect));
            let done = send::run(node, link, send, &span).await;
            span.end(trace::of_answer(&done));
            done
        }
        Command::Typing(typing) => Box::pin(typing::run(node, link, typing)).await,
        Command::Receipt(receipt) => Box::pin(receipt::run(node, link, receipt)).await,
        Command::Presence(change) => Box::pin(presence::run(node, link, change)).await,
        Command::Ping => Box::pin(presence::ping(node, link)).await,
        Command::Subscribe(channel) => Box::pin(subscribe::subscribe(node, link, channel)).await,
        Command::Unsubscribe(channel) => Box::pin(subscribe::unsubscribe(node, link, channel)).await,
        Command::NotificationRead { id } => Box::pin(notification_read(node, link, id)).await,
        Command::Join { conversation, role } => Box::pin(rooms::join(node, link, conversation, role)).await,
        Command::Leave { conversation } => Box::pin(rooms::leave(node, link, conversation)).await,
        Command::React(react) => Box::pin(reaction::run(node, link, react)).await,
        Command::History(history) => Box::pin(history::run(node, link, history)).await,
        Command::QueuedEvents => Box::pin(queued::run(node, link)).await,
        // The session of these is handled by the session itself.
        Command::Register(_) => Ok(Answer::Registered { user: link.listener.user.clone() }),
        Command::Disconnect => {
            let reason = "goodbye".to_owned();
            link.listener.notify(parlance_hub::Notice::Close { code: 1000, reason });
            Ok(Answer::Done)
        }
    }
}

const fn needs_engine(command: &Command) -> bool {
    !matches!(command, Command::Ping | Command::Register(_) | Command::Disconnect)
}

/// Kept in the user's feed, and told to the user's other connections.
async fn notification_read(node: &Node, link: &Link, id: Option<Arc<str>>) -> Result<Answer, Reject> {
    let key = LogKey::User(link.listener.user.clone());
    // First: the feed may come round before the post returns.
    link.will(Own::Read(id.clone()));
    match node.backplane.log.post(&key, Record::NotificationRead { id: id.clone() }, None).await {
        Ok(_) => Ok(Answer::Done),
        Err(fault) => {
            link.takes(&Own::Read(id));
            Err(node.unavailable(&fault))
        }
    }
}
