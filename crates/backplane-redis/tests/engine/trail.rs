//! A trail that nobody consumes does not grow without end, and what goes of it is counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::Happening;
use parlance_backplane::trail::{Backlog, Consumer, Kinds, Outcome, Plan, Rules, Step, Turn, consume};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{ConversationId, Record};
use parlance_redis_rig::Server;
use tokio::sync::mpsc;

use crate::support::chat::{clock, create, say};

/// As the functions have it.
const MOST: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_because_too_many_wait_is_counted() {
    let server = Server::standalone().await.unwrap();
    let options = Options { trail: Kinds::ALL, ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = ConversationId::parse("c").unwrap();
    create(&node, &id).await;
    say(&node, &id, "first").await.unwrap();
    let part = node.trail.waiting().await.unwrap()[0];
    let turn = Turn { group: "archive", part, hold: Duration::from_secs(10) };
    node.trail.take(&turn, 1).await.unwrap();
    let keys = server.command(&["KEYS", "*tr:*"]).await.unwrap();
    let stream = keys.lines().next().unwrap();
    let fill = "for _ = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'k', 'x', 'w', 'x') end";
    server.command(&["EVAL", fill, "1", stream, &MOST.to_string()]).await.unwrap();
    let length = async || server.command(&["XLEN", stream]).await.unwrap().trim().parse::<u64>().unwrap();
    let before = length().await;
    assert_eq!(node.trail.backlog("archive").await.unwrap().dropped, 0);
    // Whole blocks of the stream go at once: not with each message.
    for n in 0..200 {
        say(&node, &id, &n.to_string()).await.unwrap();
    }
    let (after, backlog) = (length().await, node.trail.backlog("archive").await.unwrap());
    assert!(after < MOST + 200 && backlog.dropped > 0, "{after} {backlog:?}");
    assert_eq!(after + backlog.dropped, before + 200);
    redis.close().await;
}

/// Tells the client ids of messages that it takes, and what it gives up.
struct Teller(mpsc::Sender<String>);

#[async_trait]
impl Consumer for Teller {
    async fn hand_over(&self, _part: usize, steps: &[Step]) -> Outcome {
        for step in steps {
            if let Some(Happening::Entry { entry, .. }) = &step.what
                && let Record::Message(message) = &entry.record
            {
                let id = message.client_id.as_deref().unwrap_or_default();
                self.0.send(id.to_owned()).await.unwrap();
            }
        }
        Outcome::Taken
    }

    fn given_up(&self, step: &Step) {
        assert!(step.is_unreadable);
        self.0.try_send("unreadable".to_owned()).unwrap();
    }

    fn waits(&self, _backlog: &Backlog) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_release_wrote_is_put_aside_and_what_comes_after_it_goes_on() {
    let server = Server::standalone().await.unwrap();
    let options = Options { trail: Kinds::ALL, ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = ConversationId::parse("c").unwrap();
    create(&node, &id).await;
    say(&node, &id, "before").await.unwrap();
    let keys = server.command(&["KEYS", "*tr:*"]).await.unwrap();
    let stream = keys.lines().next().unwrap();
    server.command(&["XADD", stream, "*", "k", "c:c", "w", "?later"]).await.unwrap();
    say(&node, &id, "after").await.unwrap();
    let wait = Duration::from_millis(50);
    let rules = Rules { batch: 10, first_wait: wait, longest_wait: wait, attempts: 3, give_up: None };
    let patience = Duration::from_secs(1);
    let plan = Plan { group: "archive", patience, at_once: 1, rules, clock: clock() };
    let (teller, mut told) = mpsc::channel(8);
    let consuming = consume(node.trail.clone(), Arc::new(Teller(teller)), plan);
    let heard = async {
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.push(told.recv().await.unwrap());
        }
        heard
    };
    tokio::select! {
        () = consuming => panic!("it ends"),
        heard = heard => assert_eq!(heard, ["before", "unreadable", "after"]),
    }
    assert_eq!(node.trail.backlog("archive").await.unwrap().dead, 1);
    redis.close().await;
}
