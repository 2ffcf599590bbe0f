//! One conversation `c` of one member `a`, and what is said in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parlance_backplane::{Appended, Backplane, Change, Clock, Delivery, Fault, MemberSet, Range};
use parlance_model::{
    Author, ConversationId, ConversationKind, LogKey, Message, Record, Time, Topic, UserId,
};

/// A clock that the server does not go by.
pub fn later() -> Clock {
    Arc::new(|| Time(1_755_633_600_000))
}

pub fn conv() -> ConversationId {
    ConversationId::parse("c").unwrap()
}

pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// Creating it.
pub fn change() -> Change {
    Change {
        id: conv(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(vec![user("a")]),
        number: None,
        by: None,
    }
}

pub async fn create(node: &Backplane) {
    node.conversations.change(change()).await.unwrap().unwrap();
}

pub fn message(client_id: &str) -> Message {
    let client_id = Some(client_id.into());
    Message {
        author: Author::bare(user("a")),
        client_id,
        body: "x".into(),
        metadata: None,
        extra: None,
        trace: None,
    }
}

pub async fn append(node: &Backplane, client_id: &str) -> Result<Appended, Fault> {
    node.log.append(&conv(), message(client_id)).await
}

/// Sends until it is acknowledged, as a client does. Whether it was there already.
pub async fn resend(node: &Backplane, client_id: &str) -> bool {
    let started = Instant::now();
    loop {
        match append(node, client_id).await {
            Ok(appended) => return matches!(appended, Appended::Duplicate(_)),
            Err(fault) => assert!(started.elapsed() < Duration::from_secs(20), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The client ids of what was said, in order.
pub async fn messages(node: &Backplane) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let log = LogKey::Conversation(conv());
        let page = node.log.range(&log, Range::After { seq: after, limit: 500 }).await.unwrap();
        for entry in &page.entries {
            after = entry.seq;
            if let Record::Message(message) = &entry.record {
                all.push(message.client_id.as_deref().unwrap_or_default().to_owned());
            }
        }
        if !page.more {
            return all;
        }
    }
}

/// Checks that two installations have the same names for different things.
pub async fn apart(one: &Backplane, two: &Backplane) {
    let mut inbox = two.bus.inbox().unwrap();
    for node in [one, two] {
        node.bus.subscribe(&[Topic::Conversation(conv())]).await.unwrap();
    }
    create(one).await;
    assert!(two.conversations.get(&conv()).await.unwrap().is_none());
    append(one, "of one").await.unwrap();
    assert!(matches!(append(two, "nowhere").await, Ok(Appended::NoConversation)));
    create(two).await;
    append(two, "of two").await.unwrap();
    assert_eq!((messages(one).await, messages(two).await), (vec!["of one".into()], vec!["of two".into()]));
    let mut heard =
        async || tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.unwrap().unwrap();
    // Creating and the one message of its own: nothing of the other one came before.
    for _ in 0..2 {
        let Delivery::Published(_, parlance_backplane::Publication::Entry(entry)) = heard().await else {
            panic!("not an entry");
        };
        let foreign = matches!(&entry.record, Record::Message(message) if message.client_id.as_deref() != Some("of two"));
        assert!(!foreign, "{entry:?}");
    }
    assert!(inbox.try_recv().is_err());
}
