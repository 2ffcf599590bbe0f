//! What the Redis engine takes for a message, from one task and from many at once, the processor time of Redis included;
//! and what hearing a publication takes.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run says so")]

#[path = "../../backplane/benches/appending/mod.rs"]
mod appending;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use appending::{Subject, conversation, cpu, create, measure, message, runtime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parlance_backplane::{AckLevel, Delivery, Inbox, record};
use parlance_backplane_redis::{Options, Redis, bench};
use parlance_model::{Entry, MessageId, Record, Time, Topic};
use parlance_redis_rig::{Kind, Server, Setup};

const NOW: Time = Time(1_755_633_600_000);
/// Publications told in one go: what a busy node finds waiting.
const AT_ONCE: u64 = 1000;

async fn connect(server: &Server, ack_level: AckLevel) -> Redis {
    let options = Options { ack_level, ..Options::new(&server.url(), Arc::new(|| NOW)) };
    Redis::connect(options).await.expect("an engine")
}

async fn process(server: &Server) -> u32 {
    let id = server.info("server", "process_id").await.expect("an answer");
    id.parse().expect("a number")
}

fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let (primary, replica) = runtime.block_on(async {
        let primary = Server::standalone().await.expect("a server");
        let of = format!("127.0.0.1 {}", primary.port());
        let replica = Setup::new(Kind::Plain).set("replicaof", &of);
        (primary, Server::start(replica).await.expect("a replica"))
    });
    let waits = runtime.block_on(connect(&primary, AckLevel::RedisWait));
    let servers = runtime.block_on(async { vec![process(&primary).await, process(&replica).await] });
    measure(criterion, &runtime, &Subject { name: "redis-wait", engine: waits.backplane(), servers });
    drop((waits, replica, primary));
    let server = runtime.block_on(Server::standalone()).expect("a server");
    let redis = runtime.block_on(connect(&server, AckLevel::Redis));
    let servers = vec![runtime.block_on(process(&server))];
    measure(criterion, &runtime, &Subject { name: "redis", engine: redis.backplane(), servers });
}

/// A message as it comes on its conversation's channel.
fn published() -> Vec<u8> {
    let entry = Entry {
        seq: 7,
        epoch: 1,
        at: NOW,
        prev_at: NOW,
        id: MessageId::new(1 << 30, 7).expect("in range"),
        record: Record::Message(message(7)),
    };
    [b"e".to_vec(), record::encode(&entry)].concat()
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bus/decode");
    let topic = Topic::Conversation(conversation(0));
    let typing = br#"t{"a":{"i":"alice"},"o":true,"w":[],"u":1755633604000,"t":1755633600000}"#.to_vec();
    let cursor = br#"c{"u":"alice","t":1755633600000,"v":7,"d":[6,7],"r":[6,7]}"#.to_vec();
    for (name, bytes) in [("message", published()), ("typing", typing), ("cursor", cursor)] {
        let read = || bench::publication(&topic, black_box(&bytes)).expect("readable");
        assert!(read().is_some(), "{name} is skipped");
        group.bench_function(name, |bencher| bencher.iter(read));
    }
    group.finish();
}

/// Has Redis tell so many by itself, and takes them from the inbox as the feed does.
async fn hear(server: &Server, inbox: &mut Inbox, channel: &str, count: u64) {
    let told = "for i = 1, tonumber(ARGV[2]) do redis.call('SPUBLISH', KEYS[1], ARGV[1]) end";
    let payload = String::from_utf8(published()).expect("text");
    let mut operator = server.operator().await.expect("a connection");
    let (mut left, mut batch) = (count, Vec::with_capacity(256));
    while left > 0 {
        let now = left.min(AT_ONCE);
        let words = ["EVAL", told, "1", channel, &payload, &now.to_string()];
        operator.command(&words).await.expect("Redis tells them");
        let mut heard = 0;
        while heard < now {
            inbox.recv_many(&mut batch, 256).await;
            heard += batch.len() as u64;
            assert!(!batch.drain(..).any(|delivery| delivery == Delivery::Lost), "some were lost");
        }
        left -= now;
    }
}

/// From the socket to the inbox: the processor time of this process.
fn read(criterion: &mut Criterion) {
    let runtime = runtime();
    let (server, redis, mut inbox, channel) = runtime.block_on(async {
        let server = Server::standalone().await.expect("a server");
        let redis = connect(&server, AckLevel::Redis).await;
        let engine = redis.backplane();
        create(&engine, 0).await;
        let inbox = engine.bus.inbox().expect("the first");
        engine.bus.subscribe(&[Topic::Conversation(conversation(0))]).await.expect("subscribed");
        let channel = server.command(&["PUBSUB", "SHARDCHANNELS"]).await.expect("an answer");
        (server, redis, inbox, channel)
    });
    let mut group = criterion.benchmark_group("bus/read");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("message-cpu", |bencher| {
        bencher.iter_custom(|times| {
            let before = cpu(&[std::process::id()]);
            runtime.block_on(hear(&server, &mut inbox, &channel, times));
            cpu(&[std::process::id()]).since(&before)
        });
    });
    group.finish();
    drop(redis);
}

criterion_group!(benches, decode, read, append);
criterion_main!(benches);
