//! The functions on a server that forbids them, that lost them, and that has those of other releases beside.

use std::sync::Arc;

use crate::conversation::{append, create, later, messages};
use crate::rig::RedisRig;
use parlance_backplane::Appended;
use parlance_backplane_redis::{Options, Redis};
use parlance_redis_rig::{Kind, Server, Setup};

/// A server with a user who may do everything but load and call functions.
async fn without_functions() -> (Server, String) {
    let server = Server::standalone().await.unwrap();
    let rules = ["ACL", "SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all", "-function", "-fcall"];
    server.command(&rules).await.unwrap();
    let url = format!("redis://gateway:secret@127.0.0.1:{}", server.port());
    (server, url)
}

/// The contract where functions are forbidden.
mod as_scripts {
    use std::sync::Arc;

    use super::{RedisRig, without_functions};

    parlance_backplane::contract_tests!(async {
        let (server, url) = without_functions().await;
        RedisRig::on(url, Arc::new(server))
    });
}

async fn libraries(server: &Server) -> Vec<String> {
    let told = server.command(&["FUNCTION", "LIST"]).await.unwrap();
    let mut lines = told.lines();
    let mut names = Vec::new();
    while lines.any(|line| line == "library_name") {
        names.extend(lines.next().map(str::to_owned));
    }
    names.sort();
    names
}

fn of_release(server: &Server, generation: u32) -> Options {
    Options { generation, ..Options::new(&server.url(), later()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_functions_gets_none_and_its_scripts_back_when_it_loses_them() {
    let (server, url) = without_functions().await;
    let redis = Redis::connect(Options::new(&url, later())).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    assert!(libraries(&server).await.is_empty());
    server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert!(matches!(append(&node, "m").await, Ok(Appended::New(_))));
    // The message and the index beside it may both meet the loss.
    let texts = server.calls_of("eval").await.unwrap();
    assert!((1..=2).contains(&texts), "{texts}");
    assert!(matches!(append(&node, "n").await, Ok(Appended::New(_))));
    assert_eq!(server.calls_of("eval").await.unwrap(), texts, "only what met the loss carries the text");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_releases_share_a_server_and_its_conversations() {
    let server = Server::standalone().await.unwrap();
    let (old, new) = (
        Redis::connect(of_release(&server, 1)).await.unwrap(),
        Redis::connect(of_release(&server, 2)).await.unwrap(),
    );
    assert_eq!(libraries(&server).await, ["gw1", "gw2"]);
    create(&old.backplane()).await;
    for turn in 0..10 {
        for redis in [&old, &new] {
            let id = format!("m{turn}");
            let appended = append(&redis.backplane(), &id).await.unwrap();
            assert_eq!(matches!(appended, Appended::New(_)), std::ptr::eq(redis, &old), "{appended:?}");
        }
    }
    assert_eq!(messages(&new.backplane()).await.len(), 10);
    // A node of the old release that starts again takes nothing away from the new one.
    old.close().await;
    let old = Redis::connect(of_release(&server, 1)).await.unwrap();
    assert_eq!(libraries(&server).await, ["gw1", "gw2"]);
    server.command(&["FUNCTION", "FLUSH"]).await.unwrap();
    assert!(
        append(&new.backplane(), "after").await.is_ok() && append(&old.backplane(), "after").await.is_ok()
    );
    assert_eq!(libraries(&server).await, ["gw1", "gw2"]);
    old.close().await;
    new.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_after_the_next_drops_the_first_and_nobody_elses() {
    let server = Server::standalone().await.unwrap();
    let foreign = "#!lua name=gwen\nredis.register_function('gwen', function() return 1 end)";
    server.command(&["FUNCTION", "LOAD", foreign]).await.unwrap();
    for generation in 1..=3 {
        Redis::connect(of_release(&server, generation)).await.unwrap().close().await;
    }
    assert_eq!(libraries(&server).await, ["gw2", "gw3", "gwen"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installations_with_prefixes_of_their_own_see_nothing_of_each_other() {
    let server = Arc::new(Server::standalone().await.unwrap());
    let options = |prefix: &str, channels: Option<&str>| Options {
        prefix: prefix.to_owned(),
        channel_prefix: channels.map(str::to_owned),
        ..Options::new(&server.url(), later())
    };
    let one = Redis::connect(options("one:", None)).await.unwrap();
    let two = Redis::connect(options("two:", Some("two/"))).await.unwrap();
    crate::conversation::apart(&one.backplane(), &two.backplane()).await;
    let keys = server.command(&["KEYS", "*"]).await.unwrap();
    let of = |prefix: &str| keys.lines().filter(|key| key.starts_with(prefix)).count();
    assert!(of("one:") > 0 && of("one:") + of("two:") == keys.lines().count(), "{keys}");
    let channels = server.command(&["PUBSUB", "SHARDCHANNELS"]).await.unwrap();
    assert!(channels.lines().all(|channel| channel.starts_with("one:") || channel.starts_with("two/")));
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_partitions_are_refused() {
    let server = Server::standalone().await.unwrap();
    let options = Options::new(&server.url(), later());
    Redis::connect(options.clone()).await.unwrap().close().await;
    let key = server.command(&["KEYS", "gw:cfg:*"]).await.unwrap();
    server.command(&["HSET", &key, "partitions", "64"]).await.unwrap();
    let refused = Redis::connect(options).await.err().map(|fault| fault.to_string()).unwrap_or_default();
    assert!(refused.contains("64 partitions") && !refused.contains('\n'), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_see_settings_is_let_in_all_the_same() {
    let server = Server::start(Setup::new(Kind::Plain)).await.unwrap();
    let rules = ["ACL", "SETUSER", "gateway", "on", ">secret", "~gw:*", "&gw:*", "+@all", "-config"];
    server.command(&rules).await.unwrap();
    let url = format!("redis://gateway:secret@127.0.0.1:{}", server.port());
    let redis = Redis::connect(Options::new(&url, later())).await.unwrap();
    create(&redis.backplane()).await;
    assert!(append(&redis.backplane(), "m").await.is_ok());
    redis.close().await;
}
