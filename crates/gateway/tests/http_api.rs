//! The server API over real sockets.

mod support;

use parlance_gateway::node::MAINTENANCE_KEY;
use serde_json::json;
use support::Server;

async fn with_conversation() -> Server {
    let server = Server::start(|_| {}).await;
    let body =
        r#"{"id":"c1","type":"group","title":"Team","members":["alice","bob","bob"],"createdBy":"alice"}"#;
    let reply = server.api("POST", "/api/v1/conversations", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    server
}

#[tokio::test]
async fn only_key_holders_are_let_in() {
    let server = Server::start(|_| {}).await;
    for key in ["", "wrong", "test-api-key-of-a-decent-length-123456789"] {
        let reply = server.call("GET", "/api/v1/nodes", key, "").await;
        assert_eq!(reply.status, 401, "{key}");
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "UNAUTHORIZED");
        assert!(error["message"].is_string() && error["correlationId"].is_string());
    }
    let rotated = "another-key-during-rotation-123456789012";
    let reply = server.call("GET", "/api/v1/nodes", rotated, "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["nodes"][0]["id"], "n1");
    server.stop().await;

    let closed = Server::start(|config| config.api_keys.clear()).await;
    assert_eq!(closed.api("GET", "/api/v1/nodes", "").await.status, 401);
    closed.stop().await;
}

#[tokio::test]
async fn a_conversation_is_created_changed_and_removed() {
    let server = with_conversation().await;
    let got = server.api("GET", "/api/v1/conversations/c1", "").await.json();
    assert_eq!(got["members"], json!(["alice", "bob"]));
    assert_eq!((&got["title"], &got["type"]), (&json!("Team"), &json!("group")));
    assert!(got["number"].as_u64().unwrap() >= 1 << 30);

    let change = r#"{"title":null,"addMembers":["carol"],"removeMembers":["bob"]}"#;
    let reply = server.api("PATCH", "/api/v1/conversations/c1", change).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["members"], json!(["alice", "carol"]));
    assert_eq!(reply.json()["title"], json!(null));

    let again = r#"{"id":"c1","type":"group","members":["alice"]}"#;
    let reply = server.api("POST", "/api/v1/conversations", again).await;
    assert_eq!((reply.status, &reply.json()["members"]), (200, &json!(["alice"])));

    assert_eq!(server.api("DELETE", "/api/v1/conversations/c1", "").await.status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(server.api(method, "/api/v1/conversations/c1", "").await.status, 404);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_number_belongs_to_one_conversation() {
    let server = Server::start(|_| {}).await;
    let create = |id: &str| format!(r#"{{"id":"{id}","type":"dm","members":["a"],"number":77}}"#);
    assert_eq!(server.api("POST", "/api/v1/conversations", &create("x")).await.status, 201);
    let taken = server.api("POST", "/api/v1/conversations", &create("y")).await;
    assert_eq!((taken.status, &taken.json()["error"]["code"]), (409, &json!("NUMBER_TAKEN")));
    server.stop().await;
}

#[tokio::test]
async fn messages_are_sent_on_a_members_behalf_and_read_back() {
    let server = with_conversation().await;
    let target = "/api/v1/conversations/c1/messages";
    let mut ids = Vec::new();
    for n in 1..=5 {
        let body =
            format!(r#"{{"senderId":"alice","body":"m{n}","clientId":"k{n}","metadata":{{"n":{n}}}}}"#);
        let reply = server.api("POST", target, &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        ids.push(reply.json()["id"].as_str().unwrap().to_owned());
    }
    let again = server.api("POST", target, r#"{"senderId":"alice","body":"m1","clientId":"k1"}"#).await;
    assert_eq!((again.status, again.json()["duplicate"].clone()), (200, json!(true)));
    assert_eq!(again.json()["id"], json!(ids[0]));

    let bodies = async |query: &str| {
        let reply = server.api("GET", &format!("{target}{query}"), "").await;
        assert_eq!(reply.status, 200, "{query} {reply:?}");
        let page = reply.json();
        let all: Vec<String> =
            page["messages"].as_array().unwrap().iter().map(|m| m["body"].as_str().unwrap().into()).collect();
        (all.join(" "), page["has_more"].as_bool().unwrap())
    };
    assert_eq!(bodies("").await, ("m1 m2 m3 m4 m5".to_owned(), false));
    assert_eq!(bodies("?limit=2").await, ("m4 m5".to_owned(), true));
    assert_eq!(bodies(&format!("?after={}", ids[2])).await, ("m4 m5".to_owned(), false));
    assert_eq!(bodies(&format!("?after={}&limit=1", ids[2])).await, ("m4".to_owned(), true));
    assert_eq!(bodies(&format!("?before={}&limit=2", ids[3])).await, ("m2 m3".to_owned(), true));
    assert_eq!(bodies(&format!("?since={}", ids[3])).await, ("m5".to_owned(), false));
    assert_eq!(bodies("?since=2020-01-01T00:00:00Z").await.0, "m1 m2 m3 m4 m5");
    assert_eq!(bodies("?since=2999-01-01T00:00:00Z").await, (String::new(), false));

    let first = server.api("GET", &format!("{target}?limit=5"), "").await.json()["messages"][0].clone();
    assert_eq!(first["senderId"], "alice");
    assert_eq!(first["conversationId"], "c1");
    assert_eq!((&first["clientId"], &first["metadata"]), (&json!("k1"), &json!({ "n": 1 })));
    assert_eq!(first["reactions"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn wrong_calls_get_their_status_and_store_nothing() {
    let server = with_conversation().await;
    let messages = "/api/v1/conversations/c1/messages";
    let deep =
        format!(r#"{{"senderId":"alice","body":"x","metadata":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    let big = format!(r#"{{"senderId":"alice","body":"{}"}}"#, "x".repeat(70_000));
    let huge = "x".repeat(1_000_001);
    for (method, target, body, status) in [
        ("POST", messages, r#"{"senderId":"mallory","body":"x"}"#, 403),
        ("POST", "/api/v1/conversations/none/messages", r#"{"senderId":"alice","body":"x"}"#, 404),
        ("POST", messages, r#"{"senderId":"alice","body":"x","colour":1}"#, 400),
        ("POST", messages, r#"{"senderId":"alice","body":""}"#, 400),
        ("POST", messages, r#"{"senderId":"a lice","body":"x"}"#, 400),
        ("POST", messages, r#"{"senderId":"alice"}"#, 400),
        ("POST", messages, "{", 400),
        ("POST", messages, "", 400),
        ("POST", messages, &deep, 400),
        ("POST", messages, &big, 413),
        ("POST", messages, &huge, 413),
        ("GET", "/api/v1/conversations/c1/messages?after=x", "", 400),
        ("GET", "/api/v1/conversations/c1/messages?after=1&since=2", "", 400),
        ("GET", "/api/v1/conversations/c1/messages?colour=1", "", 400),
        ("GET", "/api/v1/conversations/c1/messages?limit=-1", "", 400),
        ("GET", "/api/v1/conversations/a%20b", "", 400),
        ("PATCH", "/api/v1/conversations/none", r#"{"title":"x"}"#, 404),
        ("PATCH", "/api/v1/conversations/c1", r#"{"addMembers":["x"],"removeMembers":["x"]}"#, 400),
        ("POST", "/api/v1/conversations", r#"{"type":"crowd","members":[]}"#, 400),
        ("PUT", "/api/v1/conversations/c1", "{}", 405),
        ("GET", "/api/v1/publish", "", 405),
        ("GET", "/api/v1/nothing", "", 404),
    ] {
        let reply = server.api(method, target, body).await;
        assert_eq!(reply.status, status, "{method} {target} {}\n{reply:?}", body.get(..60).unwrap_or(body));
    }
    let all = server.api("GET", messages, "").await.json();
    assert_eq!(all["messages"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn application_events_go_to_a_user_or_a_feed_only() {
    let server = Server::start(|_| {}).await;
    for (body, status) in [
        (r#"{"channel":"notifications","type":"notification","payload":{"a":1},"user_id":"alice"}"#, 201),
        (r#"{"channel":"feed:updates","type":"feed_update","payload":[]}"#, 201),
        (r#"{"channel":"notifications","type":"notification","payload":{}}"#, 400),
        (r#"{"channel":"feed:updates","type":"x","payload":1,"user_id":"alice"}"#, 400),
        (r#"{"channel":"conversation:c1","type":"message","payload":{}}"#, 400),
        (r#"{"channel":"presence","type":"presence","payload":{}}"#, 400),
        (r#"{"channel":"presence:alice","type":"presence","payload":{}}"#, 400),
        (r#"{"channel":"feed:updates","type":"","payload":{}}"#, 400),
        (r#"{"channel":"feed:updates","type":"x"}"#, 400),
    ] {
        let reply = server.api("POST", "/api/v1/publish", body).await;
        assert_eq!(reply.status, status, "{body}\n{reply:?}");
        if status == 201 {
            assert_eq!(reply.json()["seq"], 1);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_publishes_once() {
    let server = Server::start(|_| {}).await;
    let publish = async |key: &str, payload: &str| {
        let body = format!(r#"{{"channel":"feed:updates","type":"feed_update","payload":{payload}}}"#);
        let request = format!(
            "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            support::API_KEY,
            body.len()
        );
        support::exchange(server.running.internal_addr(), request.as_bytes()).await
    };
    let first = publish("k1", "1").await;
    assert_eq!((first.status, &first.json()["duplicate"]), (201, &json!(false)), "{first:?}");
    let again = publish("k1", "1").await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &json!(true)), "{again:?}");
    for field in ["id", "seq", "createdAt"] {
        assert_eq!(again.json()[field], first.json()[field], "{field}");
    }
    let other = publish("k1", "2").await;
    assert_eq!((other.status, &other.json()["error"]["code"]), (409, &json!("KEY_REUSED")), "{other:?}");
    assert_eq!(publish("not a key", "1").await.status, 400);
    let next = publish("k2", "1").await;
    assert_eq!((next.status, &next.json()["seq"]), (201, &json!(2)), "nothing else was published: {next:?}");
    // Repetitions do not wait for the first call, which may be lost: whoever comes gets its answer.
    let at_once = futures_util::future::join_all((0..8).map(|_| publish("k3", "3"))).await;
    let mut statuses: Vec<u16> = at_once.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201], "{at_once:?}");
    assert!(at_once.iter().all(|reply| reply.json()["seq"] == 3), "{at_once:?}");
    assert_eq!(publish("k4\r\nIdempotency-Key: k5", "1").await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_revocation_takes_no_null_for_everybody() {
    let server = Server::start(|_| {}).await;
    for (body, status) in [
        (r#"{"user":null,"before":1}"#, 400),
        (r#"{"user":"alice","jti":null}"#, 400),
        ("{}", 400),
        ("", 400),
        (r#"{"before":"0145-12-26T20:20:57Z"}"#, 200),
        (r#"{"user":"alice"}"#, 200),
    ] {
        let reply = server.api("POST", "/api/v1/tokens/revoke", body).await;
        assert_eq!(reply.status, status, "{body}\n{reply:?}");
    }
    assert_eq!(server.api("POST", "/api/v1/users/alice/disconnect", "").await.status, 202);
    let wrong = server.api("TRACE", "/api/v1/nodes", "").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET,HEAD")));
    server.stop().await;
}

#[tokio::test]
async fn presence_of_unknown_users_is_offline() {
    let server = Server::start(|_| {}).await;
    let one = server.api("GET", "/api/v1/users/alice/presence", "").await.json();
    assert_eq!(one, json!({ "userId": "alice", "status": "offline", "devices": 0, "lastSeen": null }));
    let many = server.api("POST", "/api/v1/presence", r#"{"users":["alice","bob","alice"]}"#).await.json();
    assert_eq!(many["users"].as_array().unwrap().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_maintenance_switch_is_kept_for_every_node() {
    let server = Server::start(|_| {}).await;
    let on = r#"{"enabled":true,"message":"back soon","retryAfter":30}"#;
    assert_eq!(server.api("PUT", "/api/v1/maintenance", on).await.status, 200);
    let stored = server.running.node().backplane.shared.load(MAINTENANCE_KEY).await.unwrap().unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored, serde_json::from_str::<serde_json::Value>(on).unwrap());
    assert_eq!(server.api("PUT", "/api/v1/maintenance", r#"{"on":true}"#).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn readiness_and_metrics_tell_what_an_operator_needs() {
    let server = Server::start(|_| {}).await;
    let ready = server.call("GET", "/readyz", "", "").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    assert_eq!((&ready.json()["ack_level"], &ready.json()["engine"]), (&json!("memory"), &json!("embedded")));
    let metrics = server.call("GET", "/metrics", "", "").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for name in ["parlance_sockets{listener=\"internal\"} 1", "parlance_build_info", "process_open_fds"] {
        assert!(metrics.body.contains(name), "{name} in {}", metrics.body);
    }
    server.stop().await;
}
