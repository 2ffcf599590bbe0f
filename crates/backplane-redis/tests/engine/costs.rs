//! How many calls to Redis each command costs. A cost that grows is a decision, not an accident.

use std::sync::Arc;

use parlance_backplane::{Backplane, Change, Entering, MemberSet, Range, Rule, Touch};
use parlance_backplane_redis::Redis;
use parlance_model::{
    Author, ConnectionId, ConversationId, ConversationKind, LogKey, Message, NodeId, ReceiptKind, Time,
    UserId,
};

struct Meter {
    server: crate::support::Server,
    node: Backplane,
}

impl Meter {
    async fn calls(&self) -> u64 {
        self.server.calls_of("fcall").await
    }

    async fn cost(&self, what: &str, expected: u64, work: impl AsyncFnOnce(&Backplane)) {
        let before = self.calls().await;
        work(&self.node).await;
        assert_eq!(self.calls().await - before, expected, "calls of {what}");
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn message(client_id: Option<&str>) -> Message {
    let client_id = client_id.map(Arc::from);
    Message {
        author: Author::bare(user("a")),
        client_id,
        body: "x".into(),
        metadata: None,
        extra: None,
        trace: None,
    }
}

fn touch() -> Touch {
    Touch {
        user: user("a"),
        connection: connection(),
        mount: "m".into(),
        status: None,
        deadline: Time(35_000),
        heard: Time(0),
        max: 0,
    }
}

fn connection() -> ConnectionId {
    ConnectionId { node: NodeId::parse("n").unwrap(), number: 1 }
}

/// What lists and places cost, however much they name.
async fn reading_costs(meter: &Meter, id: &ConversationId) {
    meter
        .cost("a user's conversations", 2, async |node| {
            drop(node.conversations.of_user(&user("a")).await.unwrap())
        })
        .await;
    meter
        .cost("a page of a user's conversations", 1, async |node| {
            drop(node.overviews.belonging(&user("a"), None, 50).await.unwrap())
        })
        .await;
    meter
        .cost("what they show", 1, async |node| {
            let ids = [id.clone(), id.clone()];
            assert!(node.overviews.overviews(&user("a"), &ids).await.iter().all(Result::is_ok));
        })
        .await;
    let heads = [LogKey::Conversation(id.clone()), LogKey::Conversation(id.clone())];
    let ask = async |node: &Backplane| assert!(node.fences.heads(&heads).await.iter().all(Result::is_ok));
    meter.cost("heads", 1, ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_costs_one_round_trip() {
    let server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(Arc::new(|| Time(0)))).await.unwrap();
    let meter = Meter { server, node: redis.backplane() };
    let id = ConversationId::parse("c").unwrap();
    let log = LogKey::Conversation(id.clone());
    let change = |add: &[&str]| Change {
        id: id.clone(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Delta { add: add.iter().map(|id| user(id)).collect(), remove: vec![] },
        number: None,
        by: None,
    };
    // The index before and after, the attempt, the counter, the claim, the change.
    meter
        .cost("creating", 6, async |node| drop(node.conversations.change(change(&["a"])).await.unwrap()))
        .await;
    meter
        .cost("adding", 3, async |node| drop(node.conversations.change(change(&["b"])).await.unwrap()))
        .await;
    meter
        .cost("an append", 1, async |node| {
            node.log.append(&id, message(None)).await.unwrap();
        })
        .await;
    // Where its author used the id is noted by the same call.
    meter
        .cost("an append by id", 1, async |node| {
            node.log.append(&id, message(Some("m"))).await.unwrap();
        })
        .await;
    meter
        .cost("a receipt", 1, async |node| {
            node.cursors.advance(&id, &user("b"), ReceiptKind::Read, 2).await.unwrap();
        })
        .await;
    meter
        .cost("a page", 1, async |node| {
            node.log.range(&log, Range::After { seq: 0, limit: 50 }).await.unwrap();
        })
        .await;
    meter
        .cost("a typing", 1, async |node| {
            node.typing.set(&id, &Author::bare(user("a")), true, &[]).await.unwrap();
        })
        .await;
    reading_costs(&meter, &id).await;
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn being_there_costs_little() {
    let server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(Arc::new(|| Time(0)))).await.unwrap();
    let meter = Meter { server, node: redis.backplane() };
    let id = ConversationId::parse("c").unwrap();
    let rule = Rule { name: "r".into(), limit: 3, window: std::time::Duration::from_secs(1) };
    meter
        .cost("a rate", 1, async |node| {
            node.limits.take(&user("a"), &rule).await.unwrap();
        })
        .await;
    meter
        .cost("a touch", 1, async |node| {
            node.presence.touch(touch()).await.unwrap();
        })
        .await;
    // Beside the lease, into the room, and whether the lease still stands.
    let entering = Entering {
        conversations: vec![id.clone()],
        author: Author::bare(user("a")),
        connection: connection(),
        explicit: false,
    };
    meter.cost("an entering", 3, async |node| node.rooms.enter(entering.clone()).await.unwrap()).await;
    // The lease, the room, and that it was carried out.
    meter
        .cost("a close", 3, async |node| node.presence.close(&user("a"), &connection()).await.unwrap())
        .await;
    redis.close().await;
}

/// Redis searches a small hash from the beginning: those that a busy conversation adds to are tables, and all of them go by
/// themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_a_busy_conversation_are_tables_with_a_lifetime() {
    let server = crate::support::Server::start().await;
    let redis = Redis::connect(server.options(Arc::new(|| Time(0)))).await.unwrap();
    let node = redis.backplane();
    for (id, messages, encoding) in [("quiet", 20, "listpack"), ("busy", 130, "hashtable")] {
        let conversation = ConversationId::parse(id).unwrap();
        let author = Author::bare(user(id));
        let change = Change {
            id: conversation.clone(),
            create: true,
            only_create: false,
            kind: ConversationKind::Group,
            title: None,
            members: MemberSet::Delta { add: vec![user(id)], remove: vec![] },
            number: None,
            by: None,
        };
        node.conversations.change(change).await.unwrap().unwrap();
        for number in 0..messages {
            let client_id = Some(format!("m{number}").into());
            let message = Message { author: author.clone(), ..message(None) };
            node.log.append(&conversation, Message { client_id, ..message }).await.unwrap();
        }
        for pattern in [format!("gw:d:*c:{id}/*"), format!("gw:mi:*{id}/*")] {
            let key = server.operator(&format!("KEYS {pattern}")).await;
            assert_eq!(server.operator(&format!("OBJECT ENCODING {key}")).await, encoding, "{key}");
            let life: i64 = server.operator(&format!("PTTL {key}")).await.parse().unwrap();
            assert!(life > 48 * 3_600_000, "{key}: {life}");
        }
    }
}
