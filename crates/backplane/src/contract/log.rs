//! Appending: order, dedupe, membership, publication, reactions.

use std::sync::Arc;
use std::time::Duration;

use parlance_model::{
    Author, LogKey, Message, MessageId, RawJson, Record, SELF_NUMBER_LIMIT, Topic, TraceContext,
};
use tokio::task::JoinSet;

use super::{Rig, conv, create, head, heard, message, say, silent, topic, user};
use crate::{Appended, Find, Publication, Range, Reacted, Standing, Stored};

const ALL: Range = Range::After { seq: 0, limit: 1000 };

pub async fn appends_are_dense_and_ordered(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut tasks = JoinSet::new();
    for writer in 0..8 {
        let node = nodes[writer % 2].clone();
        tasks.spawn(async move {
            let mut seqs = Vec::new();
            for n in 0..10 {
                seqs.push(say(&node, "c", "a", &format!("{writer} {n}")).await.seq);
            }
            seqs
        });
    }
    for seqs in tasks.join_all().await {
        assert!(seqs.is_sorted(), "one caller's appends keep their order: {seqs:?}");
    }
    let page = nodes[1].log.range(&LogKey::Conversation(conv("c")), ALL).await.unwrap();
    assert_eq!(page.head, 81, "one record of the creation, and 80 messages");
    let seqs: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=81).collect::<Vec<_>>());
    assert!(page.entries.windows(2).all(|two| two[0].at <= two[1].at && two[1].prev_at == two[0].at));
    assert!(page.entries.windows(2).all(|two| two[0].id < two[1].id));
}

/// Whatever is written with a message comes with it, however it is read: this one belongs to a trace.
pub async fn a_trace_goes_with_its_message(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let trace = TraceContext { trace: 1 << 100, span: 7, flags: 1 };
    let traced = Message { trace: Some(Box::new(trace)), ..message("a", "m1", "hi") };
    let appended = nodes[0].log.append(&conv("c"), traced.clone()).await.unwrap();
    assert!(matches!(appended, Appended::New(_)), "{appended:?}");
    let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("an entry") };
    assert_eq!((entry.record.trace(), &entry.record), (Some(&trace), &Record::Message(traced)));
    let page = nodes[1].log.range(&LogKey::Conversation(conv("c")), ALL).await.unwrap();
    assert_eq!(page.entries.last(), Some(&entry));
    // A resend is what it was.
    let again = nodes[1].log.append(&conv("c"), message("a", "m1", "hi")).await.unwrap();
    assert!(matches!(again, Appended::Duplicate(_)), "{again:?}");
}

pub async fn concurrent_resends_get_one_id(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let node = nodes[n % 2].clone();
        tasks.spawn(async move { node.log.append(&conv("c"), message("a", "m1", "hi")).await.unwrap() });
    }
    let (mut fresh, mut places) = (0, Vec::new());
    for appended in tasks.join_all().await {
        match appended {
            Appended::New(stored) => {
                fresh += 1;
                places.push(stored);
            }
            Appended::Duplicate(stored) => places.push(stored),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((fresh, places.len()), (1, 32));
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    assert!(matches!(heard(&mut inbox).await, Publication::Entry(entry) if entry.seq == 2));
    silent(&nodes[1], &mut inbox).await;
}

pub async fn client_ids_are_scoped(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a", "b"]).await;
    create(node, "d", &["a", "b"]).await;
    let mut ids = Vec::new();
    for (place, author) in [("c", "a"), ("c", "b"), ("d", "a")] {
        match node.log.append(&conv(place), message(author, "same", "x")).await.unwrap() {
            Appended::New(stored) => ids.push(stored.id),
            other => panic!("{place} {author}: {other:?}"),
        }
    }
    assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    // Without a client id nothing is a duplicate.
    assert_ne!(say(node, "c", "a", "y").await.id, say(node, "c", "a", "y").await.id);
}

pub async fn strangers_append_nothing(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    node.log.append(&conv("c"), message("a", "m", "x")).await.unwrap();
    for client_id in ["", "m"] {
        let refused = node.log.append(&conv("c"), message("eve", client_id, "x")).await.unwrap();
        assert_eq!(refused, Appended::NotMember);
    }
    let nowhere = node.log.append(&conv("none"), message("a", "", "x")).await.unwrap();
    assert_eq!(nowhere, Appended::NoConversation);
    let page = node.log.range(&LogKey::Conversation(conv("c")), ALL).await.unwrap();
    assert_eq!(page.head, 2);
    assert_eq!(head(node, "none").await, None);
}

pub async fn publications_come_in_order_on_every_node(rig: &dyn Rig) {
    let nodes = rig.nodes(3).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inboxes = Vec::new();
    for node in &nodes[1..] {
        node.bus.subscribe(&[topic("c")]).await.unwrap();
        inboxes.push(node.bus.inbox().unwrap());
    }
    let mut tasks = JoinSet::new();
    for writer in 0..8 {
        let node = nodes[writer % 3].clone();
        tasks.spawn(async move {
            for _ in 0..12 {
                say(&node, "c", "b", "x").await;
            }
        });
    }
    tasks.join_all().await;
    let page = nodes[0].log.range(&LogKey::Conversation(conv("c")), ALL).await.unwrap();
    for inbox in &mut inboxes {
        for entry in &page.entries[1..] {
            assert_eq!(heard(inbox).await, Publication::Entry(entry.clone()));
        }
    }
}

pub async fn subscribe_then_read_misses_nothing(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    let writer = nodes[0].clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for _ in 0..100 {
            say(&writer, "c", "a", "x").await;
        }
    });
    tokio::task::yield_now().await;
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let page = nodes[1].log.range(&LogKey::Conversation(conv("c")), ALL).await.unwrap();
    let mut position = page.head;
    while position < 101 {
        let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("only entries are published") };
        if entry.seq > position {
            assert_eq!(entry.seq, position + 1, "a gap between what was read and what was heard");
            position = entry.seq;
        }
    }
    tasks.join_all().await;
}

pub async fn reactions_are_idempotent(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a", "b"]).await;
    let target = say(node, "c", "a", "x").await.seq;
    let react = async |who: &str, target: u64, added: bool| {
        node.log.react(&conv("c"), Author::bare(user(who)), target, Arc::from("👍"), added).await.unwrap()
    };
    assert_eq!(react("b", target, false).await, Reacted::Same(None));
    let Reacted::New(first) = react("b", target, true).await else { panic!("a first reaction is new") };
    assert_eq!(first.seq, target + 1);
    assert_eq!(react("b", target, true).await, Reacted::Same(Some(first)));
    assert!(matches!(react("a", target, true).await, Reacted::New(_)));
    assert!(matches!(react("b", target, false).await, Reacted::New(_)));
    assert_eq!(react("b", target, false).await, Reacted::Same(None));
    assert_eq!(react("eve", target, true).await, Reacted::NotMember);
    for missing in [0, 1, first.seq, 99] {
        assert_eq!(react("a", missing, true).await, Reacted::NoMessage, "{missing}");
    }
    let head = head(node, "c").await.unwrap();
    assert_eq!(head.seq, target + 3);
}

pub async fn standing_reactions_are_read(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    create(&nodes[0], "d", &["a"]).await;
    let mut targets = Vec::new();
    for place in ["c", "c", "c", "d"] {
        targets.push(say(&nodes[0], place, "a", "x").await.seq);
    }
    let react = async |place: &str, who: &str, target: u64, kind: &str, added: bool| {
        rig.advance(Duration::from_millis(5)).await;
        let reacted =
            nodes[0].log.react(&conv(place), Author::bare(user(who)), target, kind.into(), added).await;
        match reacted.unwrap() {
            Reacted::New(stored) => stored,
            other => panic!("{other:?}"),
        }
    };
    let stands = |target: usize, kind: &str, who: &str, stored: Stored| Standing {
        target: targets[target],
        kind: kind.into(),
        user: user(who),
        seq: stored.seq,
        at: stored.at,
    };
    let late = react("c", "b", targets[0], "👎", true).await;
    react("c", "a", targets[0], "👍", true).await;
    let other = react("c", "a", targets[2], "👍", true).await;
    let own = react("c", "a", targets[0], "👀", true).await;
    react("c", "a", targets[0], "👍", false).await;
    let again = react("c", "a", targets[0], "👍", true).await;
    react("d", "a", targets[3], "👍", true).await;
    react("c", "a", targets[1], "👍", true).await;
    react("c", "a", targets[1], "👍", false).await;
    let read = async |place: &str, first: u64, last: u64| {
        nodes[1].reactions.standing(&conv(place), first, last).await.unwrap()
    };
    let of_first = vec![stands(0, "👎", "b", late), stands(0, "👀", "a", own), stands(0, "👍", "a", again)];
    let mut all = of_first.clone();
    all.push(stands(2, "👍", "a", other));
    assert_eq!(read("c", 1, u64::MAX).await, all);
    assert_eq!(read("c", targets[0], targets[2]).await, all);
    assert_eq!(read("c", targets[0], targets[1]).await, of_first);
    assert_eq!(read("c", targets[1], targets[1]).await, []);
    assert_eq!(read("c", targets[2], targets[0]).await, []);
    assert_eq!(read("none", 1, u64::MAX).await, []);
    nodes[0].conversations.delete(&conv("c")).await.unwrap();
    assert_eq!(read("c", 1, u64::MAX).await, []);
}

pub async fn feeds_and_channels_are_logs(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    let (feed, channel) = (LogKey::User(user("u")), LogKey::App("feed:x".into()));
    nodes[1].bus.subscribe(&[Topic::User(user("u")), Topic::App("feed:x".into())]).await.unwrap();
    let record =
        Record::App { kind: "notification".into(), payload: RawJson::trusted("{\"n\":1}"), trace: None };
    let mut ids: Vec<MessageId> = Vec::new();
    for key in [&feed, &channel] {
        for seq in 1..=3 {
            let posted = nodes[0].log.post(key, record.clone(), None).await.unwrap().stored;
            assert_eq!(posted.seq, seq);
            assert!(posted.id.number() >= SELF_NUMBER_LIMIT);
            let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("an entry") };
            assert_eq!((entry.seq, entry.id, &entry.record), (seq, posted.id, &record));
            ids.push(posted.id);
        }
        let page = nodes[1].log.range(key, ALL).await.unwrap();
        assert_eq!((page.entries.len(), page.first, page.head, page.more), (3, 1, 3, false));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    rig.advance(Duration::from_millis(1)).await;
    assert!(nodes[0].log.post(&LogKey::Conversation(conv("c")), record, None).await.is_err());
}

pub async fn posts_with_a_name_are_stored_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    let (feed, channel) = (LogKey::User(user("u")), LogKey::App("feed:x".into()));
    nodes[1].bus.subscribe(&[Topic::User(user("u"))]).await.unwrap();
    let record = |n: u32| {
        let payload = RawJson::trusted(n.to_string());
        Record::App { kind: "notification".into(), payload, trace: None }
    };
    let post = async |node: usize, key: &LogKey, n: u32, once: &str| {
        nodes[node].log.post(key, record(n), Some(once)).await.unwrap()
    };
    // At once, at two nodes: one of them stores it.
    let (one, other) = tokio::join!(post(0, &feed, 1, "k"), post(1, &feed, 1, "k"));
    assert_eq!(one.stored, other.stored);
    assert!(one.fresh != other.fresh, "{one:?} {other:?}");
    rig.advance(Duration::from_millis(5)).await;
    let again = post(0, &feed, 1, "k").await;
    assert_eq!((again.stored, again.fresh), (one.stored, false));
    // Another name, no name, another log.
    assert!(post(1, &feed, 2, "l").await.fresh);
    assert!(nodes[0].log.post(&feed, record(3), None).await.unwrap().fresh);
    assert!(post(0, &channel, 4, "k").await.fresh);
    for n in 1..=3 {
        let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("an entry") };
        assert_eq!(entry.record, record(n));
    }
    assert_eq!(nodes[1].log.range(&feed, ALL).await.unwrap().entries.len(), 3);
    // It is no user's client id.
    let id = Find::ClientId { author: user("u"), id: "k".into(), conversation: None };
    assert_eq!(nodes[0].log.find(id).await.unwrap(), None);
}
