//! What one caller appends one after the other gets increasing sequences, also without awaiting in between.

use crate::support::chat::{clock, conversation_in, create, say};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use parlance_backplane::AckLevel;
use parlance_backplane_redis::{Options, Redis, Replicas};
use parlance_redis_rig::{Cluster, Kind, Server, Setup};

const APPENDS: usize = 500;

/// More than a task may do before it is made to yield.
async fn appends_keep_their_order(options: Options) {
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..5000);
    create(&node, &id).await;
    let ids = |round| (0..APPENDS).map(|n| format!("{round}-{n}")).collect::<Vec<_>>();
    for round in 0..5 {
        let all = ids(round);
        let stored = join_all(all.iter().map(|client_id| say(&node, &id, client_id))).await;
        let seqs: Vec<u64> = stored.into_iter().map(|stored| stored.unwrap().seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
        let all = ids(round + 100);
        let under_way: FuturesUnordered<_> = all
            .iter()
            .enumerate()
            .map(|(n, client_id)| {
                let asked = say(&node, &id, client_id);
                async move { (n, asked.await.unwrap().seq) }
            })
            .collect();
        let mut stored: Vec<(usize, u64)> = under_way.collect().await;
        stored.sort_unstable();
        assert!(stored.is_sorted_by(|a, b| a.1 < b.1), "{stored:?}");
    }
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server() {
    let server = Server::standalone().await.unwrap();
    appends_keep_their_order(Options::new(&server.url(), clock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster() {
    let cluster = Cluster::with(2, 0).await.unwrap();
    appends_keep_their_order(Options::new(&cluster.url(), clock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_replicas_are_waited_for() {
    let primary = Server::standalone().await.unwrap();
    let of = format!("127.0.0.1 {}", primary.port());
    let _replica = Server::start(Setup::new(Kind::Plain).set("replicaof", &of)).await.unwrap();
    let waited = async || primary.info("replication", "slave0").await.unwrap().contains("state=online");
    while !waited().await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let replicas = Replicas { count: 1, within: std::time::Duration::from_secs(2) };
    let options =
        Options { ack_level: AckLevel::RedisWait, replicas, ..Options::new(&primary.url(), clock()) };
    appends_keep_their_order(options).await;
}
