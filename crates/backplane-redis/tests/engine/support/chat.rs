//! Conversations to append to, by where they lie.

use std::sync::Arc;

use parlance_backplane::{Appended, Backplane, Change, Clock, Fault, MemberSet, Stored};
use parlance_model::{Author, ConversationId, ConversationKind, Message, Time, UserId};

/// A clock that stands still: it is the time of Redis that counts.
pub fn clock() -> Clock {
    Arc::new(|| Time(1_755_633_600_000))
}

/// The slot of a conversation: there are 256 partitions, spread evenly.
pub fn slot_of(id: &ConversationId) -> u16 {
    let partition = xxhash_rust::xxh3::xxh3_64(format!("c:{id}").as_bytes()) % 256;
    u16::try_from(partition * 64 + 32).unwrap()
}

/// A conversation whose slot is in a range.
pub fn conversation_in(slots: std::ops::Range<u16>) -> ConversationId {
    let ids = (0..).map(|n| ConversationId::parse(&format!("c{n}")).unwrap());
    ids.into_iter().find(|id| slots.contains(&slot_of(id))).unwrap()
}

pub fn user() -> UserId {
    UserId::parse("a").unwrap()
}

/// Creates a conversation.
pub async fn create(node: &Backplane, id: &ConversationId) {
    let change = Change {
        id: id.clone(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(vec![user()]),
        number: None,
        by: None,
    };
    node.conversations.change(change).await.unwrap().unwrap();
}

/// Appends a message, or finds that it was appended.
pub async fn say(node: &Backplane, id: &ConversationId, client_id: &str) -> Result<Stored, Fault> {
    let message = Message {
        author: Author::bare(user()),
        client_id: Some(client_id.into()),
        body: "x".into(),
        metadata: None,
        extra: None,
        trace: None,
    };
    match node.log.append(id, message).await? {
        Appended::New(stored) | Appended::Duplicate(stored) => Ok(stored),
        other => panic!("{other:?}"),
    }
}
