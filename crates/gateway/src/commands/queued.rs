//! What waits for a user: messages of others that no device of the user has received.

use std::sync::Arc;

use parlance_backplane::Range;
use parlance_model::{Answer, LogKey, Record, Reject};

use crate::events;
use crate::node::Node;
use crate::session::Link;

/// Events in one answer; the rest follows when these were received.
const MAX_EVENTS: usize = 500;
/// Bytes of bodies in one answer.
const MAX_BYTES: usize = 256 * 1024;

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>) -> Result<Answer, Reject> {
    let user = &link.listener.user;
    let backplane = &node.backplane;
    let memberships = backplane.conversations.of_user(user).await.map_err(|f| node.unavailable(&f))?;
    let (mut queued, mut bytes) = (Vec::new(), 0);
    for membership in memberships {
        let from = membership.marks.delivered.max(membership.joined_seq);
        if membership.head.seq <= from || queued.len() >= MAX_EVENTS || bytes > MAX_BYTES {
            continue;
        }
        let (key, number) = (LogKey::Conversation(membership.conversation), membership.number);
        let range = Range::After { seq: from, limit: MAX_EVENTS - queued.len() };
        let page = backplane.log.range(&key, range).await.map_err(|f| node.unavailable(&f))?;
        for entry in &page.entries {
            let Record::Message(message) = &entry.record else { continue };
            let foreign = message.author.id != *user;
            bytes += if foreign { message.body.len() } else { 0 };
            if bytes > MAX_BYTES {
                break;
            }
            if let Some(event) = events::of_entry(&key, number, entry, true).filter(|_| foreign) {
                queued.push((entry.at, Arc::new(event)));
            }
        }
    }
    queued.sort_by_key(|(at, _)| *at);
    Ok(Answer::Queued(queued.into_iter().map(|(_, event)| event).collect()))
}
