//! Typing deadlines.

use std::time::Duration;

use parlance_model::{Author, Topic};

use super::{Rig, conv, create, heard, silent, sweep_through, topic, user};
use crate::{Inbox, Publication, TypingChanged, TypingOutcome};

const TTL: Duration = Duration::from_secs(4);

async fn told(inbox: &mut Inbox) -> TypingChanged {
    match heard(inbox).await {
        Publication::Typing(changed) => changed,
        other => panic!("{other:?}"),
    }
}

pub async fn starts_and_stops_alternate(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let author = Author { name: Some("A".into()), ..Author::bare(user("a")) };
    let to = [user("b")];
    let set =
        async |node: usize, on: bool| nodes[node].typing.set(&conv("c"), &author, on, &to).await.unwrap();
    assert_eq!(set(0, false).await, TypingOutcome::Refreshed);
    assert_eq!(set(0, true).await, TypingOutcome::Published);
    let start = told(&mut inbox).await;
    assert_eq!(
        (start.on, &start.author, &start.to[..], start.until),
        (true, &author, &to[..], start.at + TTL)
    );
    rig.advance(Duration::from_secs(1)).await;
    assert_eq!(set(1, true).await, TypingOutcome::Refreshed);
    let refresh = told(&mut inbox).await;
    assert!(refresh.on && refresh.until > start.until);
    assert_eq!(set(1, false).await, TypingOutcome::Published);
    let stop = told(&mut inbox).await;
    assert_eq!((stop.on, &stop.to[..]), (false, &to[..]));
    assert_eq!(set(0, false).await, TypingOutcome::Refreshed);
    silent(&nodes[1], &mut inbox).await;
}

pub async fn a_heartbeat_adds_whom_it_names_once(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inbox = nodes[0].bus.inbox().unwrap();
    nodes[0].bus.subscribe(&[topic("c")]).await.unwrap();
    let author = Author::bare(user("a"));
    for (to, expected) in
        [(&["b"][..], &["b"][..]), (&["c", "b", "c"], &["b", "c"]), (&["d"], &["b", "c", "d"])]
    {
        let to: Vec<_> = to.iter().map(|id| user(id)).collect();
        nodes[0].typing.set(&conv("c"), &author, true, &to).await.unwrap();
        let told: Vec<String> = told(&mut inbox).await.to.iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }
    nodes[0].typing.set(&conv("c"), &author, false, &[]).await.unwrap();
    assert_eq!(told(&mut inbox).await.to.len(), 3, "whoever was told of the start is told of the stop");
}

pub async fn silence_stops_typing_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let author = Author::bare(user("a"));
    nodes[0].typing.set(&conv("c"), &author, true, &[]).await.unwrap();
    assert_eq!(sweep_through(rig, &nodes[1], 3).await.typists, 0);
    nodes[0].typing.set(&conv("c"), &author, true, &[]).await.unwrap();
    assert_eq!(sweep_through(rig, &nodes[1], 3).await.typists, 0);
    assert_eq!(sweep_through(rig, &nodes[1], 2).await.typists, 1);
    assert_eq!(sweep_through(rig, &nodes[0], 2).await.typists, 0);
    let heard = [told(&mut inbox).await.on, told(&mut inbox).await.on, told(&mut inbox).await.on];
    assert_eq!(heard, [true, true, false]);
    silent(&nodes[1], &mut inbox).await;
    // Late sweepers change nothing: a start after silence comes after its stop.
    nodes[0].typing.set(&conv("c"), &author, true, &[]).await.unwrap();
    rig.advance(TTL + Duration::from_secs(1)).await;
    assert_eq!(nodes[0].typing.set(&conv("c"), &author, true, &[]).await.unwrap(), TypingOutcome::Published);
    nodes[1].bus.unsubscribe(&[Topic::Nodes]).await.unwrap();
    let heard = [told(&mut inbox).await.on, told(&mut inbox).await.on, told(&mut inbox).await.on];
    assert_eq!(heard, [true, false, true]);
}

pub async fn strangers_do_not_type(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    create(node, "c", &["a"]).await;
    let mut inbox = node.bus.inbox().unwrap();
    node.bus.subscribe(&[topic("c"), topic("none")]).await.unwrap();
    for (place, who) in [("c", "eve"), ("none", "a")] {
        for on in [true, false] {
            let outcome = node.typing.set(&conv(place), &Author::bare(user(who)), on, &[]).await.unwrap();
            assert_eq!(outcome, TypingOutcome::Ignored);
        }
    }
    silent(node, &mut inbox).await;
}
