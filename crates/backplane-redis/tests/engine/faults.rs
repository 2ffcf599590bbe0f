//! What the engine makes of a Redis that is interrupted, emptied, restarted, paused or of another opinion about time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parlance_backplane::{
    Appended, Backplane, Change, Clock, Delivery, Inbox, MemberSet, Publication, Range, Rule, Stored, Touch,
    Touched,
};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{
    Author, ConnectionId, Conversation, ConversationId, ConversationKind, LogKey, Message, NodeId, Time,
    Topic, UserId,
};

const THEN: Time = Time(1_755_633_600_000);

fn at(time: Time) -> Clock {
    Arc::new(move || time)
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn conv(id: &str) -> ConversationId {
    ConversationId::parse(id).unwrap()
}

fn topic() -> Topic {
    Topic::Conversation(conv("c"))
}

async fn create(node: &Backplane) -> Conversation {
    let change = Change {
        id: conv("c"),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(vec![user("a")]),
        number: None,
        by: None,
    };
    node.conversations.change(change).await.unwrap().unwrap().conversation
}

fn message(client_id: &str) -> Message {
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

async fn say(node: &Backplane, client_id: &str) -> Stored {
    match node.log.append(&conv("c"), message(client_id)).await.unwrap() {
        Appended::New(stored) => stored,
        other => panic!("{other:?}"),
    }
}

/// Says it until Redis is back, as a client does.
async fn resend(node: &Backplane, client_id: &str) -> Stored {
    let started = Instant::now();
    loop {
        match node.log.append(&conv("c"), message(client_id)).await {
            Ok(Appended::New(stored) | Appended::Duplicate(stored)) => return stored,
            other => assert!(started.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn next(inbox: &mut Inbox) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), inbox.recv()).await.expect("a delivery in time").unwrap()
}

/// Hears entries until the one at `seq`; whether `Lost` was said before it.
async fn hear(inbox: &mut Inbox, seq: u64) -> bool {
    let mut lost = false;
    loop {
        match next(inbox).await {
            Delivery::Lost => lost = true,
            Delivery::Published(_, Publication::Entry(entry)) if entry.seq == seq => return lost,
            Delivery::Published(..) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_subscriptions_come_back_and_what_was_missed_is_said_to_be() {
    let server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(at(THEN))).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    let many: Vec<Topic> = (0..300).map(|n| Topic::User(user(&format!("u{n}")))).collect();
    node.bus.subscribe(&many).await.unwrap();
    node.bus.subscribe(&[topic()]).await.unwrap();
    let mut inbox = node.bus.inbox().unwrap();
    let heard = say(&node, "before").await;
    assert!(!hear(&mut inbox, heard.seq).await);
    assert_eq!(server.operator("CLIENT KILL TYPE pubsub").await, "1");
    let missed = say(&node, "while it is away").await;
    // One when it goes, one when everything is subscribed again.
    assert_eq!((next(&mut inbox).await, next(&mut inbox).await), (Delivery::Lost, Delivery::Lost));
    let page =
        node.log.range(&LogKey::Conversation(conv("c")), Range::After { seq: heard.seq, limit: 10 }).await;
    assert_eq!(page.unwrap().entries.first().map(|entry| entry.seq), Some(missed.seq));
    let after = say(&node, "after").await;
    assert!(!hear(&mut inbox, after.seq).await);
    let last = many.last().unwrap();
    node.bus.signal(last, parlance_backplane::Signal::Maintenance).await.unwrap();
    assert!(matches!(next(&mut inbox).await, Delivery::Published(topic, _) if topic == *last));
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_functions_are_loaded_again() {
    let server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(at(THEN))).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    assert_eq!(server.operator("FUNCTION FLUSH").await, "OK");
    assert_eq!(say(&node, "m").await.seq, 2);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_begins_new_epochs_and_new_numbers() {
    let server = crate::support::Server::start().await;
    let options = |at: Clock| Options { tell_time: true, ..server.options(at) };
    let redis = Redis::connect(options(at(THEN))).await.unwrap();
    let before = create(&redis.backplane()).await;
    redis.close().await;
    assert_eq!(server.operator("FLUSHALL").await, "OK");
    let redis = Redis::connect(options(at(THEN + Duration::from_secs(5)))).await.unwrap();
    let node = redis.backplane();
    let unknown =
        node.log.range(&LogKey::Conversation(conv("c")), Range::After { seq: 0, limit: 1 }).await.unwrap();
    let after = create(&node).await;
    assert!(after.head.epoch > before.head.epoch && after.number() > before.number());
    assert_eq!(unknown.epoch, after.head.epoch, "the epoch is told before there is a log");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_keeps_what_was_acknowledged_and_the_node_finds_it_again() {
    let mut server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(at(THEN))).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    node.bus.subscribe(&[topic()]).await.unwrap();
    let mut inbox = node.bus.inbox().unwrap();
    let mut said = Vec::new();
    for n in 0..50 {
        said.push(say(&node, &format!("m{n}")).await.seq);
    }
    server.restart().await;
    let after = resend(&node, "after").await;
    assert_eq!(after.seq, 52, "nothing acknowledged is gone");
    for (n, seq) in said.iter().enumerate() {
        let again = node.log.append(&conv("c"), message(&format!("m{n}"))).await.unwrap();
        assert!(matches!(again, Appended::Duplicate(stored) if stored.seq == *seq), "{again:?}");
    }
    // Subscribed again: the second `Lost` is said when everything is.
    let mut lost = 0;
    while lost < 2 {
        lost += usize::from(next(&mut inbox).await == Delivery::Lost);
    }
    let last = say(&node, "last").await;
    hear(&mut inbox, last.seq).await;
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_redis_is_unavailable_in_time_and_comes_back() {
    let server = crate::support::Server::start().await;
    let patience = Duration::from_millis(300);
    let redis = Redis::connect(Options { patience, ..server.options(at(THEN)) }).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    server.operator("CLIENT PAUSE 1500 ALL").await;
    let started = Instant::now();
    let paused = node.log.append(&conv("c"), message("m")).await;
    assert!(
        paused.is_err() && started.elapsed() < Duration::from_secs(1),
        "{paused:?} {:?}",
        started.elapsed()
    );
    assert_eq!(resend(&node, "m").await.seq, 2, "what timed out was executed once, or not at all");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_an_error_in_time() {
    let short = Duration::from_millis(300);
    let options =
        Options { patience: short, start_patience: short, ..Options::new("redis://127.0.0.1:1", at(THEN)) };
    let started = Instant::now();
    assert!(Redis::connect(options).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_is_that_of_redis_whatever_the_nodes_clock_says() {
    let server = crate::support::Server::start().await;
    // A node that lives in another year.
    let redis = Redis::connect(server.options(at(THEN))).await.unwrap();
    let node = redis.backplane();
    let made = create(&node).await;
    assert!(made.created_at > THEN + Duration::from_secs(24 * 3600), "{:?}", made.created_at);
    let touch = Touch {
        user: user("a"),
        connection: ConnectionId { node: NodeId::parse("n").unwrap(), number: 1 },
        mount: "m".into(),
        status: None,
        deadline: THEN + Duration::from_secs(1),
        heard: THEN,
        max: 0,
    };
    assert_eq!(node.presence.touch(touch).await.unwrap(), Touched::Ok);
    let devices = async || node.presence.status(&[user("a")]).await.unwrap()[0].devices;
    assert_eq!(devices().await, 1);
    let rule = Rule { name: "r".into(), limit: 1, window: Duration::from_millis(400) };
    assert!(node.limits.take(&user("a"), &rule).await.unwrap().allowed);
    assert!(!node.limits.take(&user("a"), &rule).await.unwrap().allowed);
    let started = Instant::now();
    while !node.limits.take(&user("a"), &rule).await.unwrap().allowed {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while devices().await == 1 {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    redis.close().await;
}
