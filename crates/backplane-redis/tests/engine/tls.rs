//! TLS and logins: an encrypted connection to a server of a private authority, as a user of limited rights.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say};
use crate::support::papers::Papers;
use parlance_backplane_redis::{Options, Redis};
use parlance_redis_rig::{Kind, Server, Setup, port};

/// A server that also speaks TLS, on a port of its own, and knows a user for the gateway.
async fn server(setup: Setup) -> (Server, u16) {
    for _ in 0..10 {
        let port = port::free().unwrap();
        let setup = setup.clone().set("tls-port", &port.to_string());
        // Another process may take the port first.
        if let Ok(server) = Server::start(setup).await {
            let user = ["ACL", "SETUSER", "gateway", "on", ">s3cr@t", "~gw:*", "&gw:*", "+@all", "-@admin"];
            server.command(&[&user[..], &["-keys", "-flushall", "-flushdb"]].concat()).await.unwrap();
            return (server, port);
        }
    }
    panic!("no server with TLS");
}

async fn refusal(url: &str, ca_file: Option<&Path>) -> String {
    let options = Options { ca_file: ca_file.map(Path::to_path_buf), ..Options::new(url, clock()) };
    let refused = Redis::connect(options).await.err().unwrap().to_string();
    assert!(!refused.contains('\n'), "{refused}");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_limited_rights_over_tls() {
    let papers = Papers::new();
    let (server, port) = server(papers.setup(Kind::Plain)).await;
    let url = format!("rediss://gateway:s3cr%40t@localhost:{port}");
    let redis =
        Redis::connect(Options { ca_file: papers.ca(), ..Options::new(&url, clock()) }).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..16384);
    create(&node, &id).await;
    assert_eq!(say(&node, &id, "m").await.unwrap().seq, 2);
    redis.ping().await.unwrap();
    let clients = server.command(&["CLIENT", "LIST"]).await.unwrap();
    assert!(clients.lines().filter(|line| line.contains("user=gateway")).count() >= 2, "{clients}");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_in_one_line() {
    let papers = Papers::new();
    let (server, port) = server(papers.setup(Kind::Plain)).await;
    let ca = papers.ca().unwrap();
    let wrong = refusal(&format!("rediss://gateway:wrong@localhost:{port}"), Some(&ca)).await;
    assert!(wrong.contains("WRONGPASS") && !wrong.contains("wrong@"), "{wrong}");
    let stranger = refusal(&format!("rediss://gateway:s3cr%40t@localhost:{port}"), None).await;
    assert!(stranger.contains("certificate"), "{stranger}");
    let others = Papers::new().ca().unwrap();
    assert!(!others.exists(), "its folder went with it");
    let missing = refusal(&format!("rediss://localhost:{port}"), Some(&others)).await;
    assert!(missing.contains("ca.pem"), "{missing}");
    let no_certificate =
        refusal(&format!("rediss://localhost:{port}"), Some(&papers.path("server.key"))).await;
    assert!(no_certificate.contains("no certificate"), "{no_certificate}");
    let plain = refusal(&format!("rediss://localhost:{}", server.port()), Some(&ca)).await;
    assert!(plain.contains("localhost"), "{plain}");
}

/// A node names its TLS port to whoever asks over TLS, and its address only where it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_tls() {
    let papers = Papers::new();
    let (server, port) = server(papers.setup(Kind::Cluster).set("tls-cluster", "yes")).await;
    server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    let url = format!("rediss-cluster://localhost:{port}");
    let begun = Instant::now();
    while !server.command(&["CLUSTER", "INFO"]).await.unwrap().contains("cluster_state:ok") {
        assert!(begun.elapsed() < Duration::from_secs(20), "a cluster of one comes up by itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let options = Options { ca_file: papers.ca(), ..Options::new(&url, clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    for slots in [0..8000, 9000..16384] {
        let id = conversation_in(slots);
        create(&node, &id).await;
        assert_eq!(say(&node, &id, "m").await.unwrap().seq, 2);
    }
    redis.close().await;
}
