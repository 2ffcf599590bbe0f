//! A client that joins with a long backlog while one call of the engine fails: whichever it is, the client is told everything
//! once and in order, by the same connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::{Backplane, Change, MemberSet};
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use parlance_gateway::session::Bare;
use parlance_model::{Author, ConversationId, ConversationKind, Message, NodeId, Time, UserId};
use parlance_wire::websocket;
use tokio::time::{Instant, sleep, timeout};

use super::engine;
use super::fate::Fate;
use super::person::identity;
use super::random::Random;

/// More than two pages of the log.
const BACKLOG: usize = 230;
/// Joining takes no longer, with another attempt or two.
const LONG: Duration = Duration::from_secs(20);

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A conversation of two, of whom one has said much.
async fn fill(admin: &Backplane) {
    let id = ConversationId::parse("one").unwrap();
    let change = Change {
        id: id.clone(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(vec![user("ann"), user("bob")]),
        number: None,
        by: None,
    };
    admin.conversations.change(change).await.unwrap().unwrap();
    for number in 0..BACKLOG {
        let author = Author { id: user("bob"), name: None, username: None, picture: None };
        let (client_id, body) = (Some(format!("m-{number}").into()), number.to_string().into());
        let message = Message { author, client_id, body, metadata: None, extra: None, trace: None };
        admin.log.append(&id, message).await.unwrap();
    }
}

/// The messages that wait in a connection's outbox.
fn take(bare: &Bare, heard: &mut Vec<usize>) {
    let (mut pieces, mut marks) = (VecDeque::new(), Vec::new());
    bare.link().listener.outbox.take(&mut pieces, &mut marks, usize::MAX);
    for piece in pieces {
        for text in websocket::texts(&piece) {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            if json["type"] == "message:received" {
                heard.push(json["body"].as_str().unwrap().parse().unwrap());
            }
        }
    }
}

/// What a client is told by one connection when the call after so many others fails, and whether one did.
async fn told(calls: u64) -> (Vec<usize>, bool) {
    let began = Instant::now();
    let clock = Clock::from_fn(move || Time(1_755_633_600_000 + began.elapsed().as_millis() as u64));
    let options = Options { inline: true, ..Options::default() };
    let engine = Embedded::open(options, clock.for_engine()).unwrap();
    fill(&engine.attach(NodeId::parse("admin").unwrap())).await;
    let fate = Fate::new(Random::of(1));
    let name = NodeId::parse("n1").unwrap();
    let far = engine::through(engine.attach(name.clone()), fate.clone());
    let mut config = Config { ack_level: "memory".to_owned(), ..Config::default() };
    config.auth.secrets = vec!["a-secret-of-these-tests-of-32-bytes-or-more".to_owned()];
    let mount = Arc::new(config.mounts[0].clone());
    let node = parlance_gateway::begin(config, far, name, clock).await.unwrap();
    let bare = Bare::open(&node, &mount, Arc::new(identity(&user("ann")))).await.unwrap();
    fate.fail_in(calls);
    let mut heard = Vec::new();
    let attached = timeout(LONG, async {
        let attaching = bare.attach();
        tokio::pin!(attaching);
        loop {
            tokio::select! {
                attached = &mut attaching => return attached,
                () = bare.link().listener.outbox.ready() => take(&bare, &mut heard),
            }
        }
    });
    attached.await.unwrap().unwrap();
    let failed = !fate.is_to_fail();
    sleep(Duration::from_secs(1)).await;
    take(&bare, &mut heard);
    bare.close().await;
    node.halt.cancel();
    (heard, failed)
}

#[test]
fn joining_goes_on_where_it_broke_off() {
    let everything: Vec<usize> = (0..BACKLOG).collect();
    let mut broke_off = 0;
    for calls in 0.. {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (heard, failed) = runtime.block_on(told(calls));
        if !failed {
            break;
        }
        broke_off += 1;
        assert_eq!(heard, everything, "with call {calls} failed");
    }
    assert!(broke_off > 5, "{broke_off}");
}
