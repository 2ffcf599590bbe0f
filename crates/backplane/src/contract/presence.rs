//! Presence leases.

use std::time::Duration;

use parlance_model::{ConnectionId, NodeId, Status, Topic};

use super::{Rig, heard, silent, sweep_through, user};
use crate::{Backplane, Inbox, PresenceCause, PresenceChanged, Publication, RETURNED, Touch, Touched};

const LEASE: Duration = Duration::from_secs(5);

fn connection(number: u64) -> ConnectionId {
    ConnectionId { node: NodeId::parse("n1").unwrap(), number }
}

pub(super) async fn lease(rig: &dyn Rig, id: &str, number: u64, status: Option<Status>) -> Touch {
    let heard = rig.now().await;
    Touch {
        user: user(id),
        connection: connection(number),
        mount: "m".into(),
        status,
        deadline: heard + LEASE,
        heard,
        max: 0,
    }
}

async fn told(inbox: &mut Inbox) -> PresenceChanged {
    match heard(inbox).await {
        Publication::Presence(changed) => changed,
        other => panic!("{other:?}"),
    }
}

async fn status(node: &Backplane, id: &str) -> (Status, usize) {
    let presence = node.presence.status(&[user(id)]).await.unwrap();
    (presence[0].status, presence[0].devices)
}

pub async fn leases_combine_and_each_change_is_told_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut one = nodes[1].bus.inbox().unwrap();
    let mut all = nodes[0].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[Topic::Presence(user("u"))]).await.unwrap();
    nodes[0].bus.subscribe(&[Topic::PresenceAll]).await.unwrap();
    assert_eq!(nodes[0].presence.status(&[user("u")]).await.unwrap()[0].last_seen, None);
    let steps = [
        (0, 1, None, Some(Status::Online)),
        (1, 2, Some(Status::Away), None),
        (1, 2, Some(Status::Busy), Some(Status::Busy)),
        (0, 1, None, None),
        (1, 2, Some(Status::Offline), Some(Status::Online)),
    ];
    let mut before = Status::Offline;
    for (node, number, said, change) in steps {
        let touch = lease(rig, "u", number, said).await;
        assert_eq!(nodes[node].presence.touch(touch).await.unwrap(), Touched::Ok);
        if let Some(now) = change {
            for inbox in [&mut one, &mut all] {
                let told = told(inbox).await;
                assert_eq!((told.before, told.status, told.cause), (before, now, PresenceCause::Said));
            }
            before = now;
        }
    }
    assert_eq!(status(&nodes[1], "u").await, (Status::Online, 2));
    nodes[1].presence.close(&user("u"), &connection(1)).await.unwrap();
    let gone = told(&mut one).await;
    assert_eq!((gone.status, gone.cause), (Status::Offline, PresenceCause::Closed));
    nodes[1].presence.close(&user("u"), &connection(2)).await.unwrap();
    nodes[1].presence.close(&user("u"), &connection(2)).await.unwrap();
    silent(&nodes[1], &mut one).await;
    let after = nodes[0].presence.status(&[user("u"), user("nobody")]).await.unwrap();
    assert_eq!((after[0].status, after[0].devices, after[1].last_seen), (Status::Offline, 0, None));
    assert!(after[0].last_seen.is_some());
}

pub async fn an_unrefreshed_lease_ends_once(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = nodes[0].bus.inbox().unwrap();
    nodes[0].bus.subscribe(&[Topic::Presence(user("u"))]).await.unwrap();
    nodes[0].presence.sweep().await.unwrap();
    for number in [1, 2] {
        nodes[0].presence.touch(lease(rig, "u", number, None).await).await.unwrap();
    }
    assert_eq!(told(&mut inbox).await.status, Status::Online);
    assert_eq!(sweep_through(rig, &nodes[1], 3).await.leases, 0);
    assert_eq!(
        nodes[1].presence.refresh(&[lease(rig, "u", 2, None).await]).await.unwrap().ended,
        Vec::<usize>::new()
    );
    assert_eq!(sweep_through(rig, &nodes[1], 3).await.leases, 1);
    assert_eq!(status(&nodes[1], "u").await, (Status::Online, 1));
    let mut ended = 0;
    for _ in 0..4 {
        rig.advance(Duration::from_secs(1)).await;
        // Every node sweeps; one wins.
        for node in &nodes {
            ended += node.presence.sweep().await.unwrap().leases;
        }
    }
    assert_eq!(ended, 1);
    let gone = told(&mut inbox).await;
    assert_eq!((gone.status, gone.cause), (Status::Offline, PresenceCause::Expired));
    assert!(gone.last_seen < gone.at, "heard of last at the refresh");
    silent(&nodes[0], &mut inbox).await;
    assert_eq!(status(&nodes[0], "u").await, (Status::Offline, 0));
}

pub async fn a_pause_of_the_sweepers_ends_no_lease(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    node.presence.sweep().await.unwrap();
    for id in ["u", "v"] {
        node.presence.touch(lease(rig, id, 1, None).await).await.unwrap();
    }
    rig.advance(LEASE + Duration::from_secs(1)).await;
    assert_eq!(sweep_through(rig, node, 5).await.leases, 0);
    assert_eq!(
        node.presence.refresh(&[lease(rig, "u", 1, None).await]).await.unwrap().ended,
        Vec::<usize>::new()
    );
    assert_eq!(status(node, "v").await.0, Status::Online);
    for _ in 0..4 {
        sweep_through(rig, node, 3).await;
        node.presence.refresh(&[lease(rig, "u", 1, None).await]).await.unwrap();
    }
    assert_eq!(status(node, "u").await.0, Status::Online);
    assert_eq!(status(node, "v").await.0, Status::Offline);
}

pub async fn limits_count_per_mount_and_spare_the_known(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let limited = |touch: Touch| Touch { max: 2, ..touch };
    for number in [1, 2] {
        let touch = limited(lease(rig, "u", number, None).await);
        assert_eq!(nodes[0].presence.touch(touch).await.unwrap(), Touched::Ok);
    }
    let third = limited(lease(rig, "u", 3, None).await);
    assert_eq!(nodes[1].presence.touch(third.clone()).await.unwrap(), Touched::TooMany);
    let known = limited(lease(rig, "u", 2, None).await);
    assert_eq!(nodes[1].presence.touch(known).await.unwrap(), Touched::Ok);
    let elsewhere = Touch { mount: "other".into(), ..third.clone() };
    assert_eq!(nodes[1].presence.touch(elsewhere).await.unwrap(), Touched::Ok);
    let fourth = Touch { connection: connection(4), ..third };
    assert_eq!(nodes[1].presence.touch(fourth.clone()).await.unwrap(), Touched::TooMany);
    nodes[0].presence.close(&user("u"), &connection(1)).await.unwrap();
    assert_eq!(nodes[1].presence.touch(fourth).await.unwrap(), Touched::Ok);
    assert_eq!(status(&nodes[0], "u").await, (Status::Online, 3));
}

pub async fn what_lingers_counts_for_nothing_and_ends_after_its_user_came_back(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let mut inbox = nodes[0].bus.inbox().unwrap();
    nodes[0].bus.subscribe(&[Topic::Presence(user("u"))]).await.unwrap();
    nodes[0].presence.sweep().await.unwrap();
    let long = async |number| {
        let touch = lease(rig, "u", number, None).await;
        Touch { max: 1, deadline: touch.heard + RETURNED * 4, ..touch }
    };
    let stranger = long(9).await;
    nodes[0].presence.linger(&stranger).await.unwrap();
    assert_eq!(status(&nodes[0], "u").await, (Status::Offline, 0), "nothing is made of nothing");
    let first = long(1).await;
    nodes[0].presence.touch(first.clone()).await.unwrap();
    assert_eq!(told(&mut inbox).await.status, Status::Online);
    assert_eq!(nodes[1].presence.touch(long(2).await).await.unwrap(), Touched::TooMany);
    nodes[0].presence.linger(&first).await.unwrap();
    assert_eq!(status(&nodes[1], "u").await, (Status::Online, 0), "there, with no device");
    assert_eq!(nodes[1].presence.touch(long(2).await).await.unwrap(), Touched::Ok);
    assert_eq!(status(&nodes[0], "u").await, (Status::Online, 1));
    assert_eq!(sweep_through(rig, &nodes[0], RETURNED.as_secs() + 1).await.leases, 1, "it came back");
    silent(&nodes[0], &mut inbox).await;
    nodes[1].presence.linger(&long(2).await).await.unwrap();
    assert_eq!(sweep_through(rig, &nodes[0], RETURNED.as_secs() * 2).await.leases, 0, "it may still come");
    assert_eq!(sweep_through(rig, &nodes[0], RETURNED.as_secs() * 2 + 1).await.leases, 1);
    let gone = told(&mut inbox).await;
    assert_eq!((gone.status, gone.cause), (Status::Offline, PresenceCause::Expired));
}

pub async fn refresh_names_what_had_ended(rig: &dyn Rig) {
    let node = &rig.nodes(1).await[0];
    node.presence.touch(lease(rig, "u", 1, None).await).await.unwrap();
    let touches = [
        lease(rig, "u", 7, None).await,
        lease(rig, "u", 1, Some(Status::Busy)).await,
        lease(rig, "v", 1, None).await,
    ];
    assert_eq!(node.presence.refresh(&touches).await.unwrap().ended, vec![0, 2]);
    assert_eq!(status(node, "u").await, (Status::Online, 1), "a refresh says no status");
    assert_eq!(status(node, "v").await, (Status::Offline, 0), "a refresh makes no lease");
}

pub async fn a_refresh_alone_tells_when_a_user_was_heard_of(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    let seen = async || {
        let found = nodes[1].presence.status(&[user("u")]).await.unwrap();
        found[0].last_seen.unwrap()
    };
    for number in [1, 2] {
        nodes[0].presence.touch(lease(rig, "u", number, None).await).await.unwrap();
    }
    let touched = seen().await;
    sweep_through(rig, &nodes[1], 3).await;
    assert_eq!(seen().await, touched, "nothing was heard");
    nodes[0].presence.refresh(&[lease(rig, "u", 2, None).await]).await.unwrap();
    let refreshed = seen().await;
    assert!(refreshed >= touched + Duration::from_secs(2), "{touched} {refreshed}");
    // The other one ends, and says nothing newer.
    sweep_through(rig, &nodes[1], 3).await;
    assert_eq!((status(&nodes[1], "u").await, seen().await), ((Status::Online, 1), refreshed));
    sweep_through(rig, &nodes[1], 4).await;
    assert_eq!((status(&nodes[1], "u").await, seen().await), ((Status::Offline, 0), refreshed));
}
