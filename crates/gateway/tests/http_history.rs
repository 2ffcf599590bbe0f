//! History on the public listener over real sockets.

mod support;

use std::time::Duration;

use parlance_gateway::config::{Config, Mount, default_mounts};
use parlance_model::Time;
use serde_json::{Value, json};
use support::{Reply, SECRET, Server, token, token_at};

const HOUR: Duration = Duration::from_secs(3600);
const CHAT: &str = "/v1/chats/c1/messages";
const CURSORS: &str = "/v1/chats/c1/cursors";
const CONVERSATION: &str = "/api/v1/conversations/c1/messages";

async fn with_messages(change: impl FnOnce(&mut Config)) -> Server {
    let server = Server::start(change).await;
    let body = r#"{"id":"c1","type":"group","members":["alice","bob"],"number":77}"#;
    assert_eq!(server.api("POST", "/api/v1/conversations", body).await.status, 201);
    for n in 1..=5 {
        let body = format!(r#"{{"senderId":"alice","body":"m{n}","clientId":"k{n}"}}"#);
        assert_eq!(server.api("POST", CONVERSATION, &body).await.status, 201);
    }
    server
}

async fn get(server: &Server, target: &str, user: &str) -> Reply {
    ask(server, "GET", target, &format!("Authorization: Bearer {}\r\n", token(user, HOUR))).await
}

async fn ask(server: &Server, method: &str, target: &str, more: &str) -> Reply {
    server
        .raw(&format!("{method} {target} HTTP/1.1\r\nHost: rt.example\r\nConnection: close\r\n{more}\r\n"))
        .await
}

fn bodies(page: &Value) -> String {
    let all = page["messages"].as_array().unwrap().iter().map(|m| m["body"].as_str().unwrap());
    all.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_member_pages_through_it_in_either_shape() {
    let server = with_messages(|_| {}).await;
    for (target, more) in [(CHAT, "hasMore"), (CONVERSATION, "has_more")] {
        let page = async |query: &str| {
            let reply = get(&server, &format!("{target}{query}"), "bob").await;
            assert_eq!(reply.status, 200, "{query} {reply:?}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            reply.json()
        };
        let all = page("?after=&before=&limit=").await;
        assert_eq!((bodies(&all).as_str(), &all[more]), ("m1 m2 m3 m4 m5", &json!(false)), "empty is absent");
        let ids: Vec<String> = all["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m.get("_id").unwrap_or(&m["id"]).as_str().unwrap().to_owned())
            .collect();
        for (query, expected, left) in [
            ("?limit=2".to_owned(), "m4 m5", true),
            (format!("?after={}&limit=1", ids[2]), "m4", true),
            (format!("?after={}", ids[2]), "m4 m5", false),
            (format!("?before={}&limit=2", ids[3]), "m2 m3", true),
            (format!("?before={}", ids[2]), "m1 m2", false),
            (format!("?since={}&_=1", ids[3]), "m5", false),
            ("?since=2020-01-01T00:00:00.123456%2B02:00".to_owned(), "m1 m2 m3 m4 m5", false),
            ("?since=2020-01-01T00:00:00+02:00".to_owned(), "m1 m2 m3 m4 m5", false),
            ("?since=2999-01-01T00:00:00Z".to_owned(), "", false),
        ] {
            let found = page(&query).await;
            assert_eq!((bodies(&found).as_str(), &found[more]), (expected, &json!(left)), "{target}{query}");
        }
    }
    let with_token = format!("{CHAT}?limit=1&token={}", token("bob", HOUR));
    let chat = ask(&server, "GET", &with_token, "").await.json();
    let message = &chat["messages"][0];
    let id = message["_id"].as_str().unwrap();
    assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let shown = json!({
        "_id": id, "chatId": "c1", "senderId": "alice", "body": "m5", "clientId": "k5",
        "createdAt": message["createdAt"], "editedAt": null, "deleted": false,
    });
    assert_eq!((message, chat.as_object().unwrap().len()), (&shown, 2));
    assert_eq!(get(&server, CURSORS, "bob").await.json(), json!({ "cursors": [] }));
    server.stop().await;
}

#[tokio::test]
async fn nobody_else_reads_it() {
    let server = with_messages(|_| {}).await;
    for target in [CHAT, CURSORS, CONVERSATION] {
        let famly = target.starts_with("/v1/");
        for other in [target.to_owned(), target.replace("c1", "none")] {
            let reply = get(&server, &other, "mallory").await;
            let shown = reply.json();
            assert_eq!(reply.status, 403, "{other} {reply:?}");
            if famly {
                assert_eq!((&shown["ok"], &shown["error"]), (&json!(false), &json!("FORBIDDEN")));
                assert!(shown["message"].is_string() && shown["correlationId"].is_string());
            } else {
                assert_eq!(shown["code"], "FORBIDDEN");
                assert!(shown["error"].is_string());
            }
        }
        let expired = token_at("alice", HOUR, Time(1_000_000_000_000));
        for (credentials, code) in [
            (String::new(), "MISSING_TOKEN"),
            ("Authorization: Bearer nonsense\r\n".to_owned(), "INVALID_TOKEN"),
            (format!("Authorization: Bearer {expired}\r\n"), "TOKEN_EXPIRED"),
        ] {
            let reply = ask(&server, "GET", target, &credentials).await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{reply:?}");
            let shown = reply.json();
            if famly {
                assert_eq!(shown["error"], "UNAUTHORIZED");
            } else {
                assert_eq!(shown["code"], code);
            }
        }
    }
    let change = r#"{"removeMembers":["bob"]}"#;
    assert_eq!(server.api("PATCH", "/api/v1/conversations/c1", change).await.status, 200);
    for target in [CHAT, CURSORS, CONVERSATION] {
        assert_eq!(get(&server, target, "bob").await.status, 403, "a removed member");
        assert_eq!(get(&server, target, "alice").await.status, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_calls_get_their_status() {
    let server = with_messages(|_| {}).await;
    let other = r#"{"id":"c2","type":"group","members":["bob"]}"#;
    assert_eq!(server.api("POST", "/api/v1/conversations", other).await.status, 201);
    let foreign = server.api("POST", "/api/v1/conversations/c2/messages", r#"{"senderId":"bob","body":"x"}"#);
    let foreign = foreign.await.json()["id"].as_str().unwrap().to_owned();
    for target in [CHAT, CONVERSATION] {
        for query in [
            "?limit=0",
            "?limit=201",
            "?limit=-1",
            "?limit=many",
            "?after=nonsense",
            "?since=yesterday",
            "?after=1&before=2",
            &format!("?after={foreign}"),
        ] {
            let reply = get(&server, &format!("{target}{query}"), "bob").await;
            assert_eq!(reply.status, 400, "{target}{query} {reply:?}");
        }
    }
    for target in
        ["/v1/chats/a%20b/messages", "/v1/chats/%FF/cursors", "/api/v1/conversations/a%20b/messages"]
    {
        assert_eq!(get(&server, target, "bob").await.status, 400, "{target}");
    }
    for target in [CHAT, CURSORS, CONVERSATION] {
        for method in ["POST", "DELETE", "PUT"] {
            let reply = ask(&server, method, target, "Content-Length: 0\r\n").await;
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {target}");
        }
        let foreign =
            format!("Origin: https://evil.example\r\nAuthorization: Bearer {}\r\n", token("bob", HOUR));
        assert_eq!(ask(&server, "GET", target, &foreign).await.status, 403, "a page of a foreign origin");
        let preflight = ask(&server, "OPTIONS", target, "Origin: http://rt.example\r\n").await;
        assert_eq!(preflight.header("access-control-allow-origin"), Some("http://rt.example"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_number_stands_for_its_conversation_and_the_mount_says_who_asks() {
    let server = with_messages(|config| {
        let numbers = default_mounts().into_iter().find(|mount| mount.dialect == "lingochat").unwrap();
        let subjects = ["userId", "sub"].map(str::to_owned).to_vec();
        config.mounts.retain(|mount| mount.dialect == "sechat");
        config.mounts.push(Mount { subjects, ..numbers });
    })
    .await;
    let claims = json!({ "sub": "mallory", "userId": "alice", "exp": 4_000_000_000_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    for (target, status) in [
        ("/api/v1/conversations/77/messages", 200),
        ("/api/v1/conversations/c1/messages", 200),
        ("/api/v1/conversations/78/messages", 403),
        ("/api/v1/conversations/99999999999999999999/messages", 403),
        // famly has no mount here: the shipped order begins with `sub`.
        ("/v1/chats/c1/messages", 403),
    ] {
        let reply = ask(&server, "GET", target, &format!("Authorization: Bearer {token}\r\n")).await;
        assert_eq!(reply.status, status, "{target} {reply:?}");
    }
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let page = ask(&server, "GET", "/api/v1/conversations/77/messages", &bearer).await.json();
    assert_eq!(page["messages"][0]["conversationId"], "c1");
    let spoken = "/api/v1/conversations/c1/messages?dialect=lingochat&limit=1";
    let page = ask(&server, "GET", spoken, &bearer).await.json();
    assert_eq!((&page["messages"][0]["conversationId"], &page["has_more"]), (&json!(77), &json!(true)));
    let unknown = "/api/v1/conversations/c1/messages?dialect=klingon";
    assert_eq!(ask(&server, "GET", unknown, &bearer).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn markup_is_removed_where_the_mount_removes_it() {
    let server = with_messages(|_| {}).await;
    let body = r#"{"senderId":"alice","body":"a <b>bold</b> word<script>x()</script> < 3"}"#;
    assert_eq!(server.api("POST", CONVERSATION, body).await.status, 201);
    for (target, field, expected) in [
        ("/api/v1/conversations/77/messages?limit=1", "body", "a bold word < 3"),
        ("/api/v1/conversations/c1/messages?limit=1&dialect=lingochat", "originalText", "a bold word < 3"),
        ("/api/v1/conversations/c1/messages?limit=1", "body", "a <b>bold</b> word<script>x()</script> < 3"),
        ("/v1/chats/c1/messages?limit=1", "body", "a <b>bold</b> word<script>x()</script> < 3"),
    ] {
        let page = get(&server, target, "bob").await.json();
        assert_eq!(page["messages"][0][field], expected, "{target}");
    }
    server.stop().await;
}
