//! What being there costs, how the nodes share the sweeping, and that nobody is left behind in a room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parlance_backplane::{Backplane, Change, Entering, MemberSet, NodeState, Pass, Touch, TypingOutcome};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{Author, ConnectionId, ConversationId, ConversationKind, NodeId, Time, UserId};
use parlance_redis_rig::Server;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn connection(number: u64) -> ConnectionId {
    ConnectionId { node: NodeId::parse("n").unwrap(), number }
}

fn lease(number: u64, deadline: u64) -> Touch {
    Touch {
        user: user(&format!("u-{number}")),
        connection: connection(number),
        mount: "m".into(),
        status: None,
        deadline: Time(deadline),
        heard: Time(0),
        max: 0,
    }
}

async fn node(server: &Server, id: &str) -> Redis {
    let me = NodeId::parse(id).unwrap();
    let options = Options { sweeper: Some(me.clone()), ..Options::new(&server.url(), Arc::new(|| Time(0))) };
    let redis = Redis::connect(options).await.unwrap();
    let state = NodeState {
        id: me,
        address: "127.0.0.1:1".to_owned(),
        pass: Pass::default(),
        version: "0".to_owned(),
        started_at: Time(0),
        connections: 0,
        lag_ms: 0,
        draining: false,
        generation: 0,
        room: true,
    };
    redis.backplane().nodes.beat(state, Duration::from_secs(60)).await.unwrap();
    redis
}

async fn create(node: &Backplane, id: &str, members: &[&str]) -> ConversationId {
    let id = ConversationId::parse(id).unwrap();
    let change = Change {
        id: id.clone(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(members.iter().map(|id| user(id)).collect()),
        number: None,
        by: None,
    };
    node.conversations.change(change).await.unwrap().unwrap();
    id
}

/// Sweeps as a running node does.
async fn sweep_for(nodes: &[Backplane], time: Duration) {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    let until = Instant::now() + time;
    while Instant::now() < until {
        every.tick().await;
        for node in nodes {
            node.presence.sweep().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cluster_is_swept_with_few_calls() {
    let server = Server::standalone().await.unwrap();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let nodes = [a.backplane(), b.backplane()];
    sweep_for(&nodes, Duration::from_secs(1)).await;
    let before = server.calls_of("fcall").await.unwrap();
    sweep_for(&nodes, Duration::from_secs(6)).await;
    let rate = (server.calls_of("fcall").await.unwrap() - before) / 6;
    println!("{rate} calls per second of two idle nodes");
    // Each partition by its sweeper and by its deputy, every 2 s, many in one call.
    assert!((4..=40).contains(&rate), "{rate}");
    let (sweep, last) = (Instant::now(), server.calls_of("fcall").await.unwrap());
    nodes[0].presence.sweep().await.unwrap();
    let calls = server.calls_of("fcall").await.unwrap() - last;
    println!("{calls} calls in {:?}", sweep.elapsed());
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_ends_in_time_also_when_a_sweeper_is_gone() {
    let server = Server::standalone().await.unwrap();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let nodes = [a.backplane(), b.backplane()];
    sweep_for(&nodes, Duration::from_secs(1)).await;
    let id = create(&nodes[0], "c", &["u-1"]).await;
    for number in 0..100 {
        nodes[0].presence.touch(lease(number, 5_000)).await.unwrap();
    }
    let typing = nodes[0].typing.set(&id, &Author::bare(user("u-1")), true, &[]).await.unwrap();
    assert_eq!(typing, TypingOutcome::Published);
    // Only b sweeps on: it is the deputy of everything that was a's, and nothing is taken for a silence.
    sweep_for(&nodes[1..], Duration::from_millis(7_500)).await;
    let users: Vec<UserId> = (0..100).map(|number| user(&format!("u-{number}"))).collect();
    let left: Vec<_> = nodes[1].presence.status(&users).await.unwrap();
    assert_eq!(left.iter().filter(|presence| presence.status.is_online()).count(), 0);
    let stopped = nodes[1].typing.set(&id, &Author::bare(user("u-1")), true, &[]).await.unwrap();
    assert_eq!(stopped, TypingOutcome::Published, "the silence was ended");
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_leases_are_refreshed_in_some_dozen_calls() {
    let server = Server::standalone().await.unwrap();
    let redis = node(&server, "a").await;
    let node = redis.backplane();
    let all: Vec<Touch> = (0..10_000).map(|number| lease(number, 35_000)).collect();
    for some in all[..9_000].chunks(500) {
        let touched = some.iter().map(|touch| node.presence.touch(touch.clone()));
        futures_util::future::try_join_all(touched).await.unwrap();
    }
    let later: Vec<Touch> = (0..10_000).map(|number| lease(number, 47_000)).collect();
    let (before, began) = (server.calls_of("fcall").await.unwrap(), Instant::now());
    let missing = node.presence.refresh(&later).await.unwrap().ended;
    let (calls, took) = (server.calls_of("fcall").await.unwrap() - before, began.elapsed());
    println!("10,000 leases: {calls} calls, {took:?}");
    assert_eq!(missing, (9_000..10_000).collect::<Vec<_>>());
    assert!(calls <= 80, "{calls}");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entering_that_comes_too_late_leaves_no_guest() {
    let server = Server::standalone().await.unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = now.clone();
    let options = Options {
        tell_time: true,
        ..Options::new(&server.url(), Arc::new(move || Time(clock.load(Ordering::Relaxed))))
    };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = create(&node, "c", &["u-1"]).await;
    node.presence.touch(lease(1, 1_035_000)).await.unwrap();
    let entering = Entering {
        conversations: vec![id.clone()],
        author: Author::bare(user("u-1")),
        connection: connection(1),
        explicit: false,
    };
    node.rooms.enter(entering).await.unwrap();
    let room = server.command(&["KEYS", "gw:o:*c:c"]).await.unwrap();
    let entered = server.command(&["HGETALL", &room]).await.unwrap();
    node.presence.close(&user("u-1"), &connection(1)).await.unwrap();
    assert!(node.rooms.present(&id).await.unwrap().is_empty());
    // What a node that is gone had sent before, arriving now: nobody is left to check it.
    let mut late = vec!["HSET", &room];
    late.extend(entered.split('\n'));
    server.command(&late).await.unwrap();
    assert_eq!(node.rooms.present(&id).await.unwrap(), [user("u-1")]);
    for _ in 0..12 {
        now.fetch_add(1_000, Ordering::Relaxed);
        node.presence.sweep().await.unwrap();
    }
    assert!(node.rooms.present(&id).await.unwrap().is_empty());
    assert_eq!(server.command(&["KEYS", "gw:po:*"]).await.unwrap(), "", "all endings were struck off");
    redis.close().await;
}
