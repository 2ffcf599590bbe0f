//! The public listener over real sockets: what is refused before the first frame, and how.

mod support;

use std::time::Duration;

use parlance_model::Time;
use support::{API_KEY, Server, answer, exchange, handshake, token, token_at};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_good_handshake_is_accepted_with_the_key_of_the_standard() {
    let server = Server::start(|_| {}).await;
    for (target, more) in [
        (format!("/ws?token={}", token("alice", HOUR)), String::new()),
        ("/ws".to_owned(), format!("Authorization: Bearer {}\r\n", token("bob", HOUR))),
        ("/sechat".to_owned(), String::new()),
        (
            "/sechat".to_owned(),
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n".to_owned(),
        ),
    ] {
        let reply = server.upgrade(&target, &more).await;
        assert_eq!(reply.status, 101, "{reply:?}");
        // RFC 6455, section 1.3.
        assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(reply.header("sec-websocket-protocol"), None);
        assert_eq!(reply.header("sec-websocket-extensions"), None);
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_are_judged_before_the_upgrade() {
    let server = Server::start(|_| {}).await;
    let old = token_at("alice", HOUR, Time::from_millis(1_700_000_000_000));
    for (target, error, code) in [
        ("/ws".to_owned(), "missing token", "MISSING_TOKEN"),
        ("/ws?token=".to_owned(), "missing token", "MISSING_TOKEN"),
        ("/ws?token=garbage".to_owned(), "invalid token", "INVALID_TOKEN"),
        (format!("/ws?token={old}"), "token expired", "TOKEN_EXPIRED"),
        ("/sechat?token=garbage".to_owned(), "invalid token", "INVALID_TOKEN"),
    ] {
        let reply = server.upgrade(&target, "").await;
        assert_eq!(reply.status, 401, "{target}");
        assert_eq!(reply.json(), serde_json::json!({ "error": error, "code": code }), "{target}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_connection_beyond_a_users_limit_is_refused() {
    let server = Server::start(|config| {
        for mount in &mut config.mounts {
            mount.connections_per_user = 2;
        }
    })
    .await;
    let request = handshake(&format!("/ws?token={}", token("alice", HOUR)), "");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 101);
        open.push(stream);
    }
    let reply = server.raw(&request).await;
    assert_eq!(reply.status, 429, "{reply:?}");
    assert_eq!(reply.json()["code"], "MAX_CONNECTIONS");
    let other = server.upgrade(&format!("/ws?token={}", token("bob", HOUR)), "").await;
    assert_eq!(other.status, 101);
    drop(open);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_handshake_gets_its_status() {
    let server = Server::start(|_| {}).await;
    let good = handshake("/ws?token=x", "");
    for (request, status) in [
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (good.replace("Upgrade: websocket\r\n", ""), 426),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), 426),
        (good.replace("keep-alive, Upgrade", "keep-alive"), 400),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "not base64!"), 400),
        (good.replace("Sec-WebSocket-Key", "X-Key"), 400),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        (good.replace("GET", "POST"), 405),
        (good.replace("GET", "DELETE"), 405),
        (good.replace("/ws", "/wss"), 404),
        (good.replace("/ws", "/ws/"), 404),
    ] {
        let reply = server.raw(&request).await;
        assert_eq!(reply.status, status, "{request}\n{reply:?}");
        assert!(reply.json()["code"].is_string());
        if status == 426 {
            assert_eq!(reply.header("sec-websocket-version"), Some("13"));
        }
        if status == 405 {
            assert_eq!(reply.header("allow"), Some("GET"));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn bad_heads_are_answered() {
    let server = Server::start(|config| config.limits.head_ms = 300).await;
    let many: String = (0..80).map(|n| format!("X-{n}: 1\r\n")).collect();
    let big = format!("X-Big: {}\r\n", "x".repeat(20_000));
    for (request, status) in [
        (format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
        (format!("GET /livez HTTP/1.1\r\nHost: x\r\n{big}\r\n"), 431),
        ("garbage\r\n\r\n".to_owned(), 400),
        ("GET /livez HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        ("\u{1}\u{2}\u{3}\u{4}\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        // Never finished.
        ("GET /livez HTTP/1.1\r\nHost: x\r\n".to_owned(), 408),
        (String::new(), 408),
    ] {
        let reply = server.raw(&request).await;
        assert_eq!(reply.status, status, "{:?}\n{reply:?}", request.get(..40));
    }
    assert_eq!(server.raw("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_nodes_limit_are_turned_away_until_one_ends() {
    let server = Server::start(|config| config.limits.connections = 2).await;
    let live = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for stream in [&mut one, &mut two] {
        stream.write_all(live.as_bytes()).await.unwrap();
        assert_eq!(answer(stream).await.status, 200);
    }
    let mut third = server.connect().await;
    let reply = answer(&mut third).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("5"));
    // An upgraded connection counts like any other.
    two.write_all(handshake("/sechat", "").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut two).await.status, 101);
    assert_eq!(answer(&mut server.connect().await).await.status, 503);
    drop(one);
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let mut stream = server.connect().await;
            // A stream that was turned away may be reset under our feet.
            let _ = stream.write_all(live.as_bytes()).await;
            let mut first = [0; 12];
            if stream.read_exact(&mut first).await.is_ok() && first.ends_with(b"200") {
                return;
            }
        }
    })
    .await
    .expect("the slot is free again");
    drop(two);
    server.stop().await;
}

#[tokio::test]
async fn foreign_origins_are_refused_everywhere() {
    let server = Server::start(|config| config.origins = vec!["https://app.example".to_owned()]).await;
    for (origin, status) in [
        ("https://app.example", 101),
        ("https://rt.example", 101),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let reply = server.upgrade("/sechat", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(reply.status, status, "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), (status == 101).then_some(origin));
    }
    let asked = "OPTIONS /livez HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\n\
                 Access-Control-Request-Method: GET\r\n\r\n";
    let reply = server.raw(asked).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization, content-type"));
    assert!(reply.head.to_ascii_lowercase().contains("vary: origin"), "{reply:?}");
    let asked = asked.replace("\r\n\r\n", "\r\nAccess-Control-Request-Headers: content-type, x-app\r\n\r\n");
    let reply = server.raw(&asked).await;
    assert_eq!(reply.header("access-control-allow-headers"), Some("content-type, x-app"));
    let foreign = server.raw(&asked.replace("app.example", "evil.example")).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-headers")), (403, None));
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_origin_is_refused_in_the_words_of_the_address() {
    let server = Server::start(|_| {}).await;
    let ours = r#"{"code":"ORIGIN_NOT_ALLOWED","error":"origin not allowed"}"#;
    let engines = r#"{"code":4,"message":"Forbidden"}"#;
    for (target, body) in [
        ("/socket.io/", engines),
        ("/socket.io?EIO=4&transport=polling", engines),
        ("/sechat?EIO=4&transport=polling", ours),
        ("/livez?EIO=4", ours),
        ("/nothing", ours),
    ] {
        let asked = format!("GET {target} HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n\r\n");
        let reply = server.raw(&asked).await;
        assert_eq!((reply.status, reply.body.as_str()), (403, body), "{target}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_mount_of_a_host_answers_only_there() {
    let server = Server::start(|config| {
        let socialhub = config.mounts.iter_mut().find(|m| m.name == "socialhub").unwrap();
        socialhub.host = Some("rt.example".to_owned());
    })
    .await;
    let here = handshake(&format!("/ws?token={}", token("alice", HOUR)), "");
    assert_eq!(server.raw(&here).await.status, 101);
    assert_eq!(server.raw(&here.replace("rt.example", "RT.example:8082")).await.status, 101);
    assert_eq!(server.raw(&here.replace("rt.example", "other.example")).await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn the_server_api_and_metrics_are_not_on_the_public_listener() {
    let server = Server::start(|_| {}).await;
    for target in ["/metrics", "/readyz", "/api/v1/nodes"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n");
        assert_eq!(server.raw(&request).await.status, 404, "{target}");
        let inside = exchange(server.running.internal_addr(), request.as_bytes()).await;
        assert_eq!(inside.status, 200, "{target}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_node_ends_kept_alive_connections() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 200);
    let node = server.running.node().clone();
    node.leaving.cancel();
    node.shutdown.cancel();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    // The balancer may not know yet: a late comer is told to go elsewhere.
    let late = server.upgrade("/sechat", "").await;
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    let ready = server.call("GET", "/readyz", "", "").await;
    assert_eq!(ready.status, 503);
    server.stop().await;
}
