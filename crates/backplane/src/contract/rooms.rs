//! Who is present in a conversation.

use std::time::Duration;

use parlance_model::{Author, ConnectionId, NodeId, Record, Topic};
use tokio::task::JoinSet;

use super::{Rig, change, conv, create, heard, silent, sweep_through, topic, user};
use crate::{Backplane, Entering, Inbox, Leaving, MemberSet, Publication, RoomChanged, Touch};

const LEASE: Duration = Duration::from_secs(5);

fn connection(number: u64) -> ConnectionId {
    ConnectionId { node: NodeId::parse("n1").unwrap(), number }
}

fn author(id: &str) -> Author {
    Author { name: Some(format!("the {id}").into()), ..Author::bare(user(id)) }
}

fn entering(id: &str, number: u64, places: &[&str]) -> Entering {
    let conversations = places.iter().map(|place| conv(place)).collect();
    Entering { conversations, author: author(id), connection: connection(number), explicit: false }
}

async fn lease(rig: &dyn Rig, id: &str, number: u64) -> Touch {
    let heard = rig.now().await;
    Touch {
        user: user(id),
        connection: connection(number),
        mount: "m".into(),
        status: None,
        deadline: heard + LEASE,
        heard,
        max: 0,
    }
}

async fn touch(rig: &dyn Rig, node: &Backplane, id: &str, number: u64) {
    node.presence.touch(lease(rig, id, number).await).await.unwrap();
}

async fn enter(node: &Backplane, id: &str, number: u64, places: &[&str]) {
    node.rooms.enter(entering(id, number, places)).await.unwrap();
}

async fn ask_in(node: &Backplane, id: &str, number: u64, places: &[&str]) {
    node.rooms.enter(Entering { explicit: true, ..entering(id, number, places) }).await.unwrap();
}

async fn leave(node: &Backplane, id: &str, number: u64, places: &[&str], explicit: bool) {
    let Entering { conversations, author, connection, .. } = entering(id, number, places);
    node.rooms.leave(Leaving { conversations, author, connection, explicit }).await.unwrap();
}

async fn present(node: &Backplane, place: &str) -> Vec<String> {
    node.rooms.present(&conv(place)).await.unwrap().iter().map(ToString::to_string).collect()
}

/// An inbox that hears these conversations.
async fn listen(node: &Backplane, places: &[&str]) -> Inbox {
    let topics: Vec<Topic> = places.iter().map(|place| topic(place)).collect();
    node.bus.subscribe(&topics).await.unwrap();
    node.bus.inbox().unwrap()
}

async fn told(inbox: &mut Inbox) -> RoomChanged {
    match heard(inbox).await {
        Publication::Room(changed) => changed,
        other => panic!("{other:?}"),
    }
}

/// Whose change: conversation, user, present, flipped, explicit.
async fn summary(inbox: &mut Inbox) -> (String, String, bool, bool, bool) {
    let RoomChanged { conversation, author, present, flipped, explicit, .. } = told(inbox).await;
    (conversation.to_string(), author.id.to_string(), present, flipped, explicit)
}

fn flip(place: &str, who: &str, present: bool) -> (String, String, bool, bool, bool) {
    (place.to_owned(), who.to_owned(), present, true, false)
}

pub async fn the_first_in_and_the_last_out_are_told(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = listen(&nodes[1], &["c", "d"]).await;
    for (id, number) in [("b", 1), ("a", 2), ("b", 3)] {
        touch(rig, &nodes[0], id, number).await;
    }
    enter(&nodes[0], "b", 1, &["c", "c", "d"]).await;
    let first = told(&mut inbox).await;
    assert_eq!((first.author, first.at), (author("b"), rig.now().await));
    assert_eq!(summary(&mut inbox).await, flip("d", "b", true));
    // The same connection again, another connection of the user, and another user.
    enter(&nodes[1], "b", 1, &["c"]).await;
    enter(&nodes[1], "b", 3, &["c"]).await;
    enter(&nodes[1], "a", 2, &["c"]).await;
    assert_eq!(summary(&mut inbox).await, flip("c", "a", true));
    assert_eq!(present(&nodes[0], "c").await, ["a", "b"], "in order of user id");
    assert_eq!(present(&nodes[0], "d").await, ["b"]);
    leave(&nodes[1], "b", 1, &["c"], false).await;
    leave(&nodes[1], "b", 1, &["c"], false).await;
    assert_eq!(present(&nodes[0], "c").await, ["a", "b"], "the other connection is still in");
    leave(&nodes[0], "b", 3, &["c", "d", "none"], false).await;
    assert_eq!(summary(&mut inbox).await, flip("c", "b", false));
    silent(&nodes[1], &mut inbox).await;
    assert_eq!(present(&nodes[1], "c").await, ["a"]);
    assert_eq!(present(&nodes[1], "d").await, ["b"], "the first connection never left that one");
    assert_eq!(present(&nodes[1], "none").await, Vec::<String>::new());
}

pub async fn what_was_asked_for_is_told_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = listen(&nodes[1], &["c"]).await;
    for number in [1, 2, 3] {
        touch(rig, &nodes[0], "a", number).await;
    }
    let mut expect = async |present, flipped, explicit| {
        let said = ("c".to_owned(), "a".to_owned(), present, flipped, explicit);
        assert_eq!(summary(&mut inbox).await, said);
    };
    // In implicitly; asked for afterwards: told once, as no first connection.
    enter(&nodes[0], "a", 1, &["c"]).await;
    expect(true, true, false).await;
    ask_in(&nodes[0], "a", 1, &["c"]).await;
    expect(true, false, true).await;
    ask_in(&nodes[1], "a", 1, &["c"]).await;
    enter(&nodes[0], "a", 1, &["c"]).await;
    ask_in(&nodes[0], "a", 1, &["c"]).await;
    // Others of the user: told when they ask, not when they do not.
    ask_in(&nodes[1], "a", 2, &["c"]).await;
    expect(true, false, true).await;
    enter(&nodes[1], "a", 3, &["c"]).await;
    leave(&nodes[0], "a", 2, &["c"], true).await;
    expect(false, false, true).await;
    leave(&nodes[0], "a", 2, &["c"], true).await;
    leave(&nodes[0], "a", 3, &["c"], false).await;
    leave(&nodes[1], "a", 1, &["c"], true).await;
    expect(false, true, true).await;
    leave(&nodes[1], "a", 1, &["c"], true).await;
    // Having asked once is forgotten with the leaving.
    ask_in(&nodes[0], "a", 1, &["c"]).await;
    expect(true, true, true).await;
    silent(&nodes[1], &mut inbox).await;
}

pub async fn a_closed_lease_leaves_its_rooms(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = listen(&nodes[1], &["c", "d"]).await;
    for number in [1, 2] {
        touch(rig, &nodes[0], "a", number).await;
    }
    ask_in(&nodes[0], "a", 1, &["c"]).await;
    enter(&nodes[0], "a", 1, &["d"]).await;
    enter(&nodes[0], "a", 2, &["d"]).await;
    for place in ["c", "d"] {
        assert_eq!(told(&mut inbox).await.conversation, conv(place));
    }
    nodes[1].presence.close(&user("a"), &connection(1)).await.unwrap();
    let gone = told(&mut inbox).await;
    assert_eq!((&gone.author, gone.explicit), (&author("a"), false));
    assert_eq!((gone.conversation, gone.present, gone.flipped), (conv("c"), false, true));
    assert_eq!((present(&nodes[0], "c").await.len(), present(&nodes[0], "d").await.len()), (0, 1));
    nodes[0].presence.close(&user("a"), &connection(1)).await.unwrap();
    nodes[0].presence.close(&user("a"), &connection(2)).await.unwrap();
    assert_eq!(summary(&mut inbox).await, flip("d", "a", false));
    silent(&nodes[1], &mut inbox).await;
    // The same connection comes back to nothing.
    touch(rig, &nodes[0], "a", 1).await;
    assert!(present(&nodes[1], "c").await.is_empty());
    silent(&nodes[1], &mut inbox).await;
}

pub async fn an_expired_lease_leaves_its_rooms_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = listen(&nodes[1], &["c"]).await;
    nodes[0].presence.sweep().await.unwrap();
    for (id, number) in [("a", 1), ("b", 2)] {
        touch(rig, &nodes[0], id, number).await;
        enter(&nodes[0], id, number, &["c"]).await;
        assert_eq!(summary(&mut inbox).await, flip("c", id, true));
    }
    sweep_through(rig, &nodes[1], 3).await;
    let kept = [lease(rig, "b", 2).await];
    assert_eq!(nodes[1].presence.refresh(&kept).await.unwrap().ended, Vec::<usize>::new());
    for _ in 0..4 {
        rig.advance(Duration::from_secs(1)).await;
        // Every node sweeps; one wins.
        for node in &nodes {
            node.presence.sweep().await.unwrap();
        }
    }
    assert_eq!(summary(&mut inbox).await, flip("c", "a", false));
    silent(&nodes[1], &mut inbox).await;
    assert_eq!(present(&nodes[0], "c").await, ["b"]);
    // Refresh says what ended; the touch alone brings nothing back, entering again does.
    let late = [lease(rig, "a", 1).await];
    assert_eq!(nodes[0].presence.refresh(&late).await.unwrap().ended, vec![0]);
    touch(rig, &nodes[0], "a", 1).await;
    assert_eq!(present(&nodes[0], "c").await, ["b"]);
    silent(&nodes[1], &mut inbox).await;
    enter(&nodes[0], "a", 1, &["c"]).await;
    assert_eq!(summary(&mut inbox).await, flip("c", "a", true));
}

pub async fn without_a_lease_nobody_enters(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    let mut inbox = listen(node, &["c"]).await;
    touch(rig, node, "a", 1).await;
    // No lease at all, another connection of the user, another user's lease, and a lease that ended.
    enter(node, "b", 9, &["c"]).await;
    ask_in(node, "a", 2, &["c"]).await;
    ask_in(node, "b", 1, &["c"]).await;
    node.presence.close(&user("a"), &connection(1)).await.unwrap();
    ask_in(node, "a", 1, &["c"]).await;
    assert!(present(node, "c").await.is_empty());
    silent(node, &mut inbox).await;
}

pub async fn a_removed_member_is_out(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b", "x"]).await;
    let mut inbox = listen(&nodes[1], &["c"]).await;
    for (id, number) in [("a", 1), ("a", 2), ("b", 3)] {
        touch(rig, &nodes[0], id, number).await;
        ask_in(&nodes[0], id, number, &["c"]).await;
        told(&mut inbox).await;
    }
    let remove = MemberSet::Delta { add: vec![], remove: vec![user("a"), user("x")] };
    nodes[1].conversations.change(change("c", remove)).await.unwrap().unwrap();
    let Publication::Entry(entry) = heard(&mut inbox).await else { panic!("first the record of it") };
    assert!(matches!(entry.record, Record::Members { removed, .. } if removed.len() == 2));
    let gone = told(&mut inbox).await;
    assert_eq!((&gone.author, gone.explicit), (&author("a"), false));
    assert_eq!((gone.conversation, gone.present, gone.flipped), (conv("c"), false, true));
    assert_eq!(present(&nodes[0], "c").await, ["b"]);
    // What ended has ended: neither leaving nor the end of the lease says it again.
    leave(&nodes[0], "a", 1, &["c"], true).await;
    nodes[0].presence.close(&user("a"), &connection(2)).await.unwrap();
    // Coming back as a member brings nothing back.
    let add = MemberSet::Delta { add: vec![user("a")], remove: vec![] };
    nodes[1].conversations.change(change("c", add)).await.unwrap().unwrap();
    assert!(matches!(heard(&mut inbox).await, Publication::Entry(_)));
    silent(&nodes[1], &mut inbox).await;
    assert_eq!(present(&nodes[0], "c").await, ["b"]);
    enter(&nodes[0], "a", 1, &["c"]).await;
    assert_eq!(summary(&mut inbox).await, flip("c", "a", true));
}

pub async fn a_deleted_conversation_is_empty(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    create(&nodes[0], "other", &["a"]).await;
    for (id, number) in [("a", 1), ("b", 2), ("b", 3)] {
        touch(rig, &nodes[0], id, number).await;
        enter(&nodes[0], id, number, &["c", "other"]).await;
    }
    let mut inbox = listen(&nodes[1], &["c", "other"]).await;
    assert!(nodes[1].conversations.delete(&conv("c")).await.unwrap());
    assert!(matches!(heard(&mut inbox).await, Publication::Entry(entry) if entry.record == Record::Deleted));
    let mut gone = [summary(&mut inbox).await, summary(&mut inbox).await];
    gone.sort();
    assert_eq!(gone, [flip("c", "a", false), flip("c", "b", false)]);
    assert!(present(&nodes[0], "c").await.is_empty());
    nodes[0].presence.close(&user("a"), &connection(1)).await.unwrap();
    assert_eq!(summary(&mut inbox).await, flip("other", "a", false), "other rooms are as they were");
    silent(&nodes[1], &mut inbox).await;
    assert_eq!(present(&nodes[1], "other").await, ["b"]);
}

pub async fn comings_and_goings_alternate_under_concurrency(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = listen(&nodes[1], &["c"]).await;
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        touch(rig, &nodes[0], "a", number).await;
        let node = nodes[usize::from(number % 2 == 0)].clone();
        tasks.spawn(async move {
            for _ in 0..25 {
                enter(&node, "a", number, &["c"]).await;
                leave(&node, "a", number, &["c"], false).await;
            }
            enter(&node, "a", number, &["c"]).await;
        });
    }
    tasks.join_all().await;
    for number in 0..7 {
        nodes[0].presence.close(&user("a"), &connection(number)).await.unwrap();
    }
    assert_eq!(present(&nodes[1], "c").await, ["a"]);
    nodes[0].presence.close(&user("a"), &connection(7)).await.unwrap();
    assert!(present(&nodes[1], "c").await.is_empty());
    // A marker after everything: the comings and goings before it alternate, and end with a going.
    touch(rig, &nodes[0], "z", 99).await;
    enter(&nodes[0], "z", 99, &["c"]).await;
    let mut inside = false;
    loop {
        let changed = told(&mut inbox).await;
        assert!(changed.flipped);
        if changed.author.id == user("z") {
            break;
        }
        assert_eq!(changed.present, !inside);
        inside = changed.present;
    }
    assert!(!inside);
}
