//! TLS and logins: an encrypted connection to a server of a private authority, as a user of limited rights.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say};
use crate::support::papers::Papers;
use parlance_backplane::Backplane;
use parlance_backplane_redis::{Access, Login, Options, Redis, Tls};
use parlance_redis_rig::{Kind, Server, Setup, port};

/// A server that also speaks TLS, on a port of its own, and knows a user for the gateway.
async fn server(setup: Setup) -> (Server, u16) {
    for _ in 0..10 {
        let port = port::free().unwrap();
        let chosen = setup.clone().set("tls-port", &port.to_string());
        // Another process may take the port first.
        if let Ok(server) = Server::start(chosen).await {
            let user = ["ACL", "SETUSER", "gateway", "on", ">s3cr@t", "~gw:*", "&gw:*", "+@all", "-@admin"];
            let further: &[&str] = match setup.kind {
                Kind::Sentinel => &["+sentinel|master"],
                Kind::Plain | Kind::Cluster => &["+role", "-keys", "-flushall", "-flushdb"],
            };
            server.command(&[&user[..], further].concat()).await.unwrap();
            return (server, port);
        }
    }
    panic!("no server with TLS");
}

fn trusting(ca_file: Option<&Path>) -> Access {
    Access { tls: Tls { ca_file: ca_file.map(Path::to_path_buf), ..Tls::default() }, ..Access::default() }
}

fn options(url: &str, access: Access) -> Options {
    Options { access, ..Options::new(url, clock()) }
}

async fn refusal(url: &str, ca_file: Option<&Path>) -> String {
    refused(url, trusting(ca_file)).await
}

async fn refused(url: &str, access: Access) -> String {
    let refused = Redis::connect(options(url, access)).await.err().unwrap().to_string();
    assert!(!refused.contains('\n'), "{refused}");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_limited_rights_over_tls() {
    let papers = Papers::new();
    let (server, port) = server(papers.setup(Kind::Plain)).await;
    let url = format!("rediss://gateway:s3cr%40t@localhost:{port}");
    let redis = Redis::connect(options(&url, trusting(papers.ca().as_deref()))).await.unwrap();
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
    let redis = Redis::connect(options(&url, trusting(papers.ca().as_deref()))).await.unwrap();
    let node = redis.backplane();
    for slots in [0..8000, 9000..16384] {
        let id = conversation_in(slots);
        create(&node, &id).await;
        assert_eq!(say(&node, &id, "m").await.unwrap().seq, 2);
    }
    redis.close().await;
}

/// What a client shows that these servers let in.
fn shown(papers: &Papers) -> Access {
    let tls = Tls {
        ca_file: papers.ca(),
        cert_file: Some(papers.path("client.pem")),
        key_file: Some(papers.path("client.key")),
        server_name: None,
    };
    Access { tls, ..Access::default() }
}

async fn is_kept(node: &Backplane, slots: std::ops::Range<u16>) {
    let id = conversation_in(slots);
    create(node, &id).await;
    assert_eq!(say(node, &id, "m").await.unwrap().seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_no_certificate_is_refused_and_who_does_is_let_in() {
    let papers = Papers::new();
    let (_server, port) = server(papers.setup(Kind::Plain).set("tls-auth-clients", "yes")).await;
    let url = format!("rediss://localhost:{port}");
    let without = refused(&url, trusting(papers.ca().as_deref())).await;
    assert!(without.contains("asks for a client certificate"), "{without}");
    let mut strange = shown(&Papers::new());
    strange.tls.ca_file = papers.ca();
    let gone = refused(&url, strange).await;
    assert!(gone.contains("client.pem"), "{gone}");
    let mut unfit = shown(&papers);
    unfit.tls.key_file = Some(papers.path("server.key"));
    let unfit = refused(&url, unfit).await;
    assert!(unfit.contains("server.key") && !unfit.contains("BEGIN"), "{unfit}");

    let redis = Redis::connect(options(&url, shown(&papers))).await.unwrap();
    is_kept(&redis.backplane(), 0..16384).await;
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_may_be_for_another_name_than_the_host() {
    let papers = Papers::new();
    let (_server, port) = server(papers.setup(Kind::Plain)).await;
    let url = format!("rediss://localhost:{port}");
    let mut access = trusting(papers.ca().as_deref());
    access.tls.server_name = Some("elsewhere.example".to_owned());
    let wrong = refused(&url, access.clone()).await;
    assert!(wrong.contains("certificate"), "{wrong}");
    // A name that only this setting knows.
    let url = format!("rediss://127.0.0.1:{port}");
    access.tls.server_name = Some("redis.internal".to_owned());
    let redis = Redis::connect(options(&url, access)).await.unwrap();
    is_kept(&redis.backplane(), 0..16384).await;
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_asks_for_certificates() {
    let papers = Papers::new();
    let setup = papers.setup(Kind::Cluster).set("tls-cluster", "yes").set("tls-auth-clients", "yes");
    let (server, port) = server(setup).await;
    server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    let begun = Instant::now();
    while !server.command(&["CLUSTER", "INFO"]).await.unwrap().contains("cluster_state:ok") {
        assert!(begun.elapsed() < Duration::from_secs(20), "a cluster of one comes up by itself");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = format!("rediss-cluster://localhost:{port}");
    let mut hasty = options(&url, trusting(papers.ca().as_deref()));
    hasty.start_patience = Duration::from_secs(2);
    let without = Redis::connect(hasty).await.err().unwrap().to_string();
    assert!(without.contains("asks for a client certificate"), "{without}");
    let redis = Redis::connect(options(&url, shown(&papers))).await.unwrap();
    for slots in [0..8000, 9000..16384] {
        is_kept(&redis.backplane(), slots).await;
    }
    redis.close().await;
}

/// The old password is gone, connections too: those that replace them have the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_rotated_while_the_engine_runs() {
    let papers = Papers::new();
    let (server, port) = server(papers.setup(Kind::Plain)).await;
    let url = format!("rediss://localhost:{port}");
    let as_user = |password: &str| Access {
        login: Some(Login { user: "gateway".to_owned(), password: password.to_owned() }),
        ..trusting(papers.ca().as_deref())
    };
    let redis = Redis::connect(options(&url, as_user("s3cr@t"))).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..16384);
    create(&node, &id).await;
    server.command(&["ACL", "SETUSER", "gateway", ">n3w", "<s3cr@t"]).await.unwrap();
    assert!(redis.renew(&url, &trusting(Some(&papers.path("nothing.pem")))).is_err());
    say(&node, &id, "connections that there are stay").await.unwrap();
    redis.renew(&url, &as_user("n3w")).unwrap();
    server.command(&["CLIENT", "KILL", "USER", "gateway"]).await.unwrap();
    let begun = Instant::now();
    while say(&node, &id, "again").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody logs in with the new password");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    redis.close().await;
}

#[test]
fn a_password_is_not_shown() {
    let login = Login { user: "u".to_owned(), password: "hush".to_owned() };
    let access = Access { login: Some(login), ..Access::default() };
    assert!(!format!("{access:?}").contains("hush"), "{access:?}");
}

/// Sentinels ask for certificates as well, and name the port that speaks TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_a_sentinel_that_ask_for_certificates() {
    let papers = Papers::new();
    let strict = |kind| papers.setup(kind).set("tls-auth-clients", "yes").set("tls-replication", "yes");
    let (_primary, primary_port) = server(strict(Kind::Plain)).await;
    let watched = format!("monitor main 127.0.0.1 {primary_port} 1");
    let (_sentinel, port) = server(strict(Kind::Sentinel).set("sentinel", &watched)).await;
    let url = format!("rediss-sentinel://localhost:{port}/main");
    let mut hasty = options(&url, trusting(papers.ca().as_deref()));
    hasty.start_patience = Duration::from_secs(2);
    let without = Redis::connect(hasty).await.err().unwrap().to_string();
    assert!(without.contains("asks for a client certificate"), "{without}");
    let login = |password: &str| Some(Login { user: "gateway".to_owned(), password: password.to_owned() });
    let access = Access { login: login("s3cr@t"), ..shown(&papers) };
    let mut wrong = options(&url, Access { sentinel_login: login("wrong"), ..access.clone() });
    wrong.start_patience = Duration::from_secs(2);
    let wrong = Redis::connect(wrong).await.err().unwrap().to_string();
    assert!(wrong.contains("WRONGPASS"), "{wrong}");
    let access = Access { sentinel_login: login("s3cr@t"), ..access };
    let redis = Redis::connect(options(&url, access)).await.unwrap();
    is_kept(&redis.backplane(), 0..16384).await;
    redis.close().await;
}
