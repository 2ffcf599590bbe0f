//! Moved cursors, told to authors message by message and to the conversation as a whole.

use parlance_backplane::{CursorChanged, Fault, Range};
use parlance_model::{
    CursorMoved, Event, LogKey, MessageReceipt, MessageRef, ReceiptKind, UserId,
    delivery::{Marks, Moved},
};

use super::deliver::{Ready, To};
use super::job::Job;
use crate::events;

/// At most so many messages are named when a cursor passes a long stretch; the newest.
const NAMED: u64 = 256;

impl Job {
    pub(super) async fn cursor_moved(&mut self, change: CursorChanged) -> Option<()> {
        let track = &mut self.track;
        if change.version <= track.cursor_version {
            return Some(());
        }
        if change.version != track.cursor_version + 1 {
            return self.reread_cursors().await;
        }
        track.cursor_version = change.version;
        let marks = track.marks.entry(change.user.clone()).or_default();
        if let Some((_, to)) = change.moved.delivered {
            marks.delivered = marks.delivered.max(to);
        }
        if let Some((_, to)) = change.moved.read {
            marks.read = marks.read.max(to);
        }
        self.tell_moved(&change).await
    }

    /// A move was missed: reads all cursors and tells what changed. One that went back is not told.
    pub(super) async fn reread_cursors(&mut self) -> Option<()> {
        let Some(LogKey::Conversation(id)) = self.track.key.clone() else { return Some(()) };
        let backplane = &self.node.backplane;
        let read = || async {
            let (version, cursors) = backplane.cursors.cursors(&id).await?;
            let users: Vec<UserId> = cursors.iter().map(|cursor| cursor.user.clone()).collect();
            let joined = backplane.members.joined(&id, &users).await?;
            Ok::<_, Fault>((joined, version, cursors))
        };
        let (joined, version, cursors) = self.insist_reading("reading cursors", read).await?;
        let mut changes = Vec::new();
        let track = &mut self.track;
        track.cursor_version = version;
        for (cursor, joined) in cursors.into_iter().zip(joined) {
            let before = track.marks.entry(cursor.user.clone()).or_default();
            let now = Marks {
                delivered: cursor.delivered.max(before.delivered),
                read: cursor.read.max(before.read),
            };
            let before = std::mem::replace(before, now);
            let Some(joined) = joined else { continue };
            let moved = moved(before, now, joined);
            if moved != Moved::default() {
                let at = self.node.clock.now();
                changes.push(CursorChanged {
                    conversation: id.clone(),
                    user: cursor.user,
                    moved,
                    at,
                    version,
                });
            }
        }
        for change in changes {
            self.tell_moved(&change).await?;
        }
        Some(())
    }

    async fn tell_moved(&mut self, change: &CursorChanged) -> Option<()> {
        let ranges =
            [(ReceiptKind::Delivered, change.moved.delivered), (ReceiptKind::Read, change.moved.read)];
        for (kind, range) in ranges {
            let Some((from, to)) = range else { continue };
            let mut messages = self.messages(from, to).await?;
            let last = messages.last().cloned();
            messages.retain(|m| m.author != change.user);
            for message in &messages {
                let event = Event::Receipt(MessageReceipt {
                    conversation: change.conversation.clone(),
                    message: message.clone(),
                    kind,
                    by: change.user.clone(),
                    at: change.at,
                });
                let to = To::Only(message.author.clone());
                self.ready.push(Ready::Event { topic: self.topic.clone(), event, to });
            }
            let event = Event::Cursor(CursorMoved {
                conversation: change.conversation.clone(),
                kind,
                by: change.user.clone(),
                at: change.at,
                messages,
                last,
            });
            let to =
                To::Cursor { conversation: change.conversation.clone(), user: change.user.clone(), seq: to };
            self.ready.push(Ready::Event { topic: self.topic.clone(), event, to });
        }
        Some(())
    }

    /// The messages of sequences `from+1..=to`: remembered, else from the log.
    pub(super) async fn messages(&self, from: u64, to: u64) -> Option<Vec<MessageRef>> {
        let from = from.max(to.saturating_sub(NAMED));
        if let Some(messages) = self.track.remembered(from, to) {
            return Some(messages);
        }
        let limit = usize::try_from(to - from).unwrap_or(usize::MAX);
        let range = Range::After { seq: from, limit };
        let Some(key) = &self.track.key else { return Some(Vec::new()) };
        let what = "reading what a receipt or a reaction is about";
        let page = self.insist_reading(what, || self.node.backplane.log.range(key, range)).await?;
        Some(page.entries.iter().filter(|e| e.seq <= to).filter_map(events::message_ref).collect())
    }
}

/// How a member's cursors moved since they were seen last; nothing from before the join is the member's to tell.
fn moved(before: Marks, now: Marks, joined: u64) -> Moved {
    let beyond = |before: u64, now: u64| {
        let from = before.max(joined);
        (now > from).then_some((from, now))
    };
    Moved { delivered: beyond(before.delivered, now.delivered), read: beyond(before.read, now.read) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reread_tells_what_moved_since_the_join() {
        let marks = |delivered, read| Marks { delivered, read };
        let told = |delivered, read| Moved { delivered, read };
        for (before, now, joined, expected) in [
            (marks(4, 2), marks(7, 5), 0, told(Some((4, 7)), Some((2, 5)))),
            (marks(4, 2), marks(4, 2), 0, told(None, None)),
            // Never seen before: the cursors began at the join.
            (marks(0, 0), marks(10, 10), 10, told(None, None)),
            (marks(0, 0), marks(12, 10), 10, told(Some((10, 12)), None)),
            // Only one of the two was seen; or both in an earlier membership.
            (marks(12, 0), marks(12, 11), 10, told(None, Some((10, 11)))),
            (marks(3, 1), marks(12, 11), 10, told(Some((10, 12)), Some((10, 11)))),
        ] {
            assert_eq!(moved(before, now, joined), expected, "{before:?} {now:?} {joined}");
        }
    }
}
