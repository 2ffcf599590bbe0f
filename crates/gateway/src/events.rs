//! Log entries as the events clients are told.

use parlance_backplane::{MANY, NAMED, Outline};
use parlance_model::{
    AppEvent, ConversationChanged, ConversationId, Entry, Event, LogKey, MessageEvent, MessageRef,
    NotificationEvent, NotificationRead, ReactionEvent, Record, Resync, UserId,
};

/// The event an entry is told as, where no more than the entry is needed. `number` is the conversation's
/// integer id.
pub fn of_entry(key: &LogKey, number: u32, entry: &Entry, queued: bool) -> Option<Event> {
    match key {
        LogKey::Conversation(id) => in_conversation(id, number, entry, queued),
        LogKey::User(_) => in_feed(entry),
        LogKey::App(channel) => match &entry.record {
            Record::App { kind, payload, .. } => Some(Event::App(AppEvent {
                id: entry.id,
                channel: channel.clone(),
                kind: kind.clone(),
                payload: payload.clone(),
                at: entry.at,
            })),
            _ => None,
        },
    }
}

fn in_conversation(id: &ConversationId, number: u32, entry: &Entry, queued: bool) -> Option<Event> {
    match &entry.record {
        Record::Message(message) => Some(Event::Message(MessageEvent {
            conversation: id.clone(),
            number,
            id: entry.id,
            seq: entry.seq,
            at: entry.at,
            message: message.clone(),
            queued,
        })),
        Record::Reaction { author, target, kind, added } => Some(Event::Reaction(ReactionEvent {
            conversation: id.clone(),
            number,
            seq: entry.seq,
            author: author.clone(),
            message: parlance_model::MessageId::of_sequence(&[number], *target).unwrap_or(entry.id),
            message_at: entry.at,
            kind: kind.clone(),
            added: *added,
            id: entry.id,
            at: entry.at,
        })),
        Record::Lost { from, to } => {
            let (from, to) = (*from, *to);
            Some(Event::Resync(Resync { conversation: id.clone(), number, from, to, at: entry.at }))
        }
        _ => None,
    }
}

fn in_feed(entry: &Entry) -> Option<Event> {
    match &entry.record {
        Record::App { kind, payload, .. } => Some(Event::Notification(NotificationEvent {
            id: entry.id,
            at: entry.at,
            kind: kind.clone(),
            payload: payload.clone(),
        })),
        Record::NotificationRead { id } => Some(Event::NotificationRead(NotificationRead {
            id: entry.id,
            notification: id.clone(),
            at: entry.at,
        })),
        _ => None,
    }
}

/// Whether those who come and go are told by name, or left out: of very many members, more than a few at once are.
pub fn is_told_by_name(outline: &Outline, entry: &Entry) -> bool {
    let Record::Members { added, removed, .. } = &entry.record else { return true };
    let were_many = outline.many || outline.conversation.members.len() + removed.len() > MANY;
    !were_many || (1..=NAMED).contains(&(added.len() + removed.len()))
}

/// Whether somebody came with an entry; those who are not named are some too.
pub fn has_newcomers(entry: &Entry) -> bool {
    matches!(&entry.record, Record::Members { added, removed, .. } if !added.is_empty() || removed.is_empty())
}

/// How a change of members or title is told; `None`: not at all. Of a conversation that has many members not all are
/// told of, only whom the change names.
pub fn of_change(outline: &Outline, entry: &Entry) -> Option<Event> {
    let mut change = bare_change(outline, entry);
    if is_told_by_name(outline, entry) {
        if let Record::Members { added, removed, .. } = &entry.record {
            (change.added, change.removed) = (added.clone(), removed.clone());
        }
    } else if outline.many {
        return None;
    }
    if outline.many {
        change.members.clone_from(&change.added);
    }
    Some(Event::Conversation(change))
}

/// How it is told to a newcomer whom the entry does not name.
pub fn of_arrival(outline: &Outline, entry: &Entry, user: &UserId) -> Event {
    let mut change = bare_change(outline, entry);
    change.added = vec![user.clone()];
    if outline.many {
        change.members.clone_from(&change.added);
    }
    Event::Conversation(change)
}

/// How it is told to one who went, when nobody else is told.
pub fn of_departure(outline: &Outline, entry: &Entry, user: &UserId) -> Event {
    let mut change = bare_change(outline, entry);
    change.removed = vec![user.clone()];
    Event::Conversation(change)
}

/// Nobody named but the members, as far as the outline has them.
fn bare_change(outline: &Outline, entry: &Entry) -> ConversationChanged {
    let conversation = &outline.conversation;
    ConversationChanged {
        conversation: conversation.id.clone(),
        number: conversation.number(),
        seq: entry.seq,
        kind: conversation.kind,
        title: conversation.title.clone(),
        members: conversation.members.iter().map(|m| m.user.clone()).collect(),
        added: Vec::new(),
        removed: Vec::new(),
        created_by: conversation.created_by.clone(),
        created_at: conversation.created_at,
        at: entry.at,
    }
}

/// The sequence of the message an entry reacts to; `None` for other entries.
pub const fn reacts_to(entry: &Entry) -> Option<u64> {
    match &entry.record {
        Record::Reaction { target, .. } => Some(*target),
        _ => None,
    }
}

/// A reaction to `message`: ids are told with their message's time, which the reaction's entry does not have.
pub fn about(mut event: Event, message: Option<&MessageRef>) -> Event {
    if let (Event::Reaction(reaction), Some(message)) = (&mut event, message) {
        (reaction.message, reaction.message_at) = (message.id, message.at);
    }
    event
}

/// How receipts name the message of an entry; `None` for other entries.
pub fn message_ref(entry: &Entry) -> Option<MessageRef> {
    let Record::Message(message) = &entry.record else { return None };
    Some(MessageRef {
        id: entry.id,
        at: entry.at,
        client_id: message.client_id.clone(),
        author: message.author.id.clone(),
    })
}
