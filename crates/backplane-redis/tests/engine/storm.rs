//! Connections that are cut all the time: what is acknowledged is in the log once, and every listener gets it in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parlance_backplane::{Appended, Backplane, Change, Delivery, MemberSet, Publication, Range};
use parlance_backplane_redis::Redis;
use parlance_model::{
    Author, ConversationId, ConversationKind, Entry, LogKey, Message, Record, Time, UserId,
};
use tokio::task::JoinSet;

const WRITERS: usize = 4;
const EACH: usize = 150;

fn user() -> UserId {
    UserId::parse("a").unwrap()
}

fn conv() -> ConversationId {
    ConversationId::parse("c").unwrap()
}

fn key() -> LogKey {
    LogKey::Conversation(conv())
}

async fn create(node: &Backplane) {
    let change = Change {
        id: conv(),
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

/// Says it until it is acknowledged, as a client does.
async fn deliver(node: &Backplane, id: &str) -> u64 {
    loop {
        let client_id = Some(id.into());
        let author = Author::bare(user());
        let message =
            Message { author, client_id, body: id.into(), metadata: None, extra: None, trace: None };
        match node.log.append(&conv(), message).await {
            Ok(Appended::New(stored) | Appended::Duplicate(stored)) => return stored.seq,
            Ok(other) => panic!("{other:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Listens as a node does: what is in order is taken, anything else makes it read the log.
async fn listen(node: Backplane, until: u64) -> Vec<Entry> {
    let mut inbox = node.bus.inbox().unwrap();
    let mut heard: Vec<Entry> = Vec::new();
    while heard.len() < usize::try_from(until).unwrap() {
        let position = heard.last().map_or(0, |entry| entry.seq);
        let delivery = tokio::time::timeout(Duration::from_secs(2), inbox.recv()).await;
        match delivery {
            Ok(Some(Delivery::Published(_, Publication::Entry(entry)))) if entry.seq <= position => {}
            Ok(Some(Delivery::Published(_, Publication::Entry(entry)))) if entry.seq == position + 1 => {
                heard.push(entry);
            }
            // Out of order, lost, or silent for long: the log knows.
            _ => {
                if let Ok(page) = node.log.range(&key(), Range::After { seq: position, limit: 1000 }).await {
                    heard.extend(page.entries);
                }
            }
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_doubled_or_out_of_order() {
    let server = Arc::new(crate::support::Server::start().await);
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(Redis::connect(server.options(Arc::new(|| Time(0)))).await.unwrap());
    }
    let nodes: Vec<Backplane> = engines.iter().map(Redis::backplane).collect();
    create(&nodes[0]).await;
    nodes[2].bus.subscribe(&[key().topic()]).await.unwrap();
    let total = WRITERS * EACH + 1;
    let mut listening = JoinSet::new();
    listening.spawn(listen(nodes[2].clone(), total as u64));
    let done = Arc::new(AtomicBool::new(false));
    let (stop, operator) = (done.clone(), server.clone());
    let mut storm = JoinSet::new();
    storm.spawn(async move {
        let mut cuts = 0u32;
        while !stop.load(Ordering::SeqCst) {
            let kind = if cuts.is_multiple_of(2) { "pubsub" } else { "normal" };
            operator.operator(&format!("CLIENT KILL TYPE {kind} SKIPME yes")).await;
            cuts += 1;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        cuts
    });
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let node = nodes[writer % 2].clone();
        writing.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..EACH {
                let id = format!("{writer}-{n}");
                acknowledged.push((deliver(&node, &id).await, id));
            }
            acknowledged
        });
    }
    let acknowledged = writing.join_all().await;
    done.store(true, Ordering::SeqCst);
    assert!(storm.join_next().await.unwrap().unwrap() > 2, "there was a storm");
    let heard = listening.join_next().await.unwrap().unwrap();
    assert_eq!(
        heard.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        (1..=total as u64).collect::<Vec<_>>()
    );
    for said in acknowledged {
        assert!(said.is_sorted(), "one writer's messages keep their order");
        for (seq, id) in said {
            let entry = &heard[usize::try_from(seq).unwrap() - 1];
            let Record::Message(message) = &entry.record else { panic!("{entry:?}") };
            assert_eq!(*message.body, *id);
        }
    }
    for engine in engines {
        engine.close().await;
    }
}
