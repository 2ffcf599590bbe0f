//! Publish and subscribe.

use parlance_model::{Entry, LogKey, Topic};

use super::{Rig, conv, create, next, say, silent, topic, user};
use crate::{Delivery, Publication, Range, Signal};

pub async fn signals_reach_subscribers_and_nobody_else(rig: &dyn Rig) {
    let nodes = rig.nodes(3).await;
    let mut inboxes: Vec<_> = nodes.iter().map(|node| node.bus.inbox().unwrap()).collect();
    assert!(nodes[0].bus.inbox().is_none(), "an inbox is given out once");
    let place = Topic::User(user("u"));
    for node in &nodes[..2] {
        node.bus.subscribe(&[place.clone(), Topic::User(user("v"))]).await.unwrap();
        node.bus.subscribe(std::slice::from_ref(&place)).await.unwrap();
    }
    let signal = Signal::Disconnect { reason: "revoked".into(), reconnect: false };
    nodes[2].bus.signal(&place, signal.clone()).await.unwrap();
    for inbox in &mut inboxes[..2] {
        let expected = Delivery::Published(place.clone(), Publication::Signal(signal.clone()));
        assert_eq!(next(inbox).await, expected);
    }
    for (node, inbox) in nodes.iter().zip(&mut inboxes) {
        node.bus.subscribe(&[Topic::Nodes]).await.unwrap();
        silent(node, inbox).await;
        node.bus.unsubscribe(&[Topic::Nodes]).await.unwrap();
    }
}

pub async fn unsubscribed_topics_fall_silent(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let mut inbox = node.bus.inbox().unwrap();
    node.bus.subscribe(&[topic("c")]).await.unwrap();
    say(node, "c", "a", "x").await;
    assert!(matches!(
        next(&mut inbox).await,
        Delivery::Published(_, Publication::Entry(Entry { seq: 2, .. }))
    ));
    node.bus.unsubscribe(&[topic("c"), topic("d")]).await.unwrap();
    say(node, "c", "a", "x").await;
    silent(node, &mut inbox).await;
}

pub async fn an_overflowing_inbox_says_lost_and_goes_on(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c"), Topic::User(user("u"))]).await.unwrap();
    let before = say(&nodes[0], "c", "a", "x").await.seq;
    let noise = Signal::Disconnect { reason: String::new(), reconnect: true };
    for _ in 0..rig.inbox_capacity() + 1000 {
        nodes[0].bus.signal(&Topic::User(user("u")), noise.clone()).await.unwrap();
    }
    let missed = say(&nodes[0], "c", "a", "y").await.seq;
    let mut position = 0;
    loop {
        match next(&mut inbox).await {
            Delivery::Published(_, Publication::Entry(entry)) => position = entry.seq,
            Delivery::Published(..) => {}
            Delivery::Lost => break,
        }
    }
    assert_eq!(position, before, "what was heard before the loss is in order");
    // The log has what was lost.
    let key = LogKey::Conversation(conv("c"));
    let page = nodes[1].log.range(&key, Range::After { seq: position, limit: 10 }).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), vec![missed]);
    let after = say(&nodes[0], "c", "a", "z").await.seq;
    loop {
        match next(&mut inbox).await {
            Delivery::Published(_, Publication::Entry(entry)) if entry.seq == after => break,
            Delivery::Published(_, Publication::Entry(entry)) => assert_eq!(entry.seq, missed),
            _ => {}
        }
    }
}
