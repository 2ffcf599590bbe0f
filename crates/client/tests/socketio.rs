//! The client against a Socket.IO server that plays a script: lost connections, recovery, refusals.
#![allow(clippy::disallowed_methods, reason = "the scripted server runs beside the client")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parlance_client::{Backoff, Client, Dialect, Framing, MessageState, Options, Update};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const PATIENCE: Duration = Duration::from_secs(10);

struct Server(TcpListener);
struct Peer(WebSocketStream<TcpStream>);

/// An event of the client.
#[derive(Debug)]
struct Event {
    id: Option<u64>,
    args: Vec<Value>,
}

impl Server {
    async fn bind() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        (Self(listener), url)
    }

    /// A transport, with the open packet said.
    async fn open(&self, silence: u64) -> Peer {
        let (tcp, _) = timeout(PATIENCE, self.0.accept()).await.expect("nobody came").unwrap();
        #[expect(clippy::result_large_err, reason = "the library's")]
        let check = |request: &Request, response: Response| {
            assert_eq!(request.uri().query(), Some("EIO=4&transport=websocket"));
            assert!(request.uri().path().ends_with("/socket.io/"), "{}", request.uri());
            Ok(response)
        };
        let mut peer = Peer(tokio_tungstenite::accept_hdr_async(tcp, check).await.unwrap());
        let open = json!({"sid":"abc","upgrades":[],"pingInterval":silence,"pingTimeout":0,"maxPayload":1});
        peer.say(&format!("0{open}")).await;
        peer
    }

    /// A client that was let in, and what it showed.
    async fn accept(&self, pid: Option<&str>) -> (Peer, Value) {
        let mut peer = self.open(60_000).await;
        let auth = peer.auth().await;
        peer.say(&format!("40{}", json!({"sid":"s","pid":pid}))).await;
        (peer, auth)
    }
}

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.send(Frame::text(text)).await.unwrap();
    }

    async fn emit(&mut self, name: &str, args: &[Value]) {
        let all: Vec<Value> = std::iter::once(name.into()).chain(args.iter().cloned()).collect();
        self.say(&format!("42{}", Value::Array(all))).await;
    }

    async fn ack(&mut self, event: &Event, arg: Value) {
        self.say(&format!("43{}{}", event.id.expect("no ack is asked for"), json!([arg]))).await;
    }

    async fn text(&mut self, good: impl Fn(&str) -> bool) -> String {
        let find = async {
            while let Some(Ok(frame)) = self.0.next().await {
                if let Frame::Text(text) = frame
                    && good(&text)
                {
                    return text.to_string();
                }
            }
            panic!("closed")
        };
        timeout(PATIENCE, find).await.expect("no such text")
    }

    async fn auth(&mut self) -> Value {
        serde_json::from_str(&self.text(|text| text.starts_with("40")).await[2..]).unwrap()
    }

    /// The next event of this name; others are passed over.
    async fn next(&mut self, name: &str) -> Event {
        let wanted = |text: &str| text.starts_with("42") && text.contains(&format!("[\"{name}\""));
        let text = self.text(wanted).await;
        let start = text.find('[').unwrap();
        let mut args: Vec<Value> = serde_json::from_str(&text[start..]).unwrap();
        args.remove(0);
        Event { id: text[2..start].parse().ok(), args }
    }

    async fn closed(&mut self) {
        let drain = async { while let Some(Ok(_)) = self.0.next().await {} };
        timeout(PATIENCE, drain).await.expect("it goes on");
    }
}

fn options(url: &str, dialect: Dialect) -> Options {
    let mut options = Options::new(url, dialect, "alice").token("t").conversation("c1");
    options.backoff =
        Backoff { base: Duration::from_millis(10), max: Duration::from_millis(50), jitter: 0.2 };
    options
}

async fn until<T>(updates: &mut mpsc::Receiver<Update>, pick: impl Fn(&Update) -> Option<T>) -> T {
    let find = async {
        loop {
            let update = updates.recv().await.expect("the client ended");
            if let Some(found) = pick(&update) {
                return found;
            }
        }
    };
    timeout(PATIENCE, find).await.expect("no such update")
}

async fn bodies(updates: &mut mpsc::Receiver<Update>, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        bodies.push(
            until(updates, |update| match update {
                Update::Message(message) => Some(message.body.clone()),
                _ => None,
            })
            .await,
        );
    }
    bodies
}

fn reached(id: &str, wanted: MessageState) -> impl Fn(&Update) -> Option<()> {
    move |update| match update {
        Update::State { local_id, state } if local_id == id && *state == wanted => Some(()),
        _ => None,
    }
}

fn error(update: &Update) -> Option<(String, String, Option<String>)> {
    match update {
        Update::Error { code, message, correlation_id, .. } => {
            Some((code.clone(), message.clone(), correlation_id.clone()))
        }
        _ => None,
    }
}

fn refused(update: &Update) -> Option<(u16, String)> {
    match update {
        Update::Refused { status, reason } => Some((*status, reason.clone())),
        _ => None,
    }
}

fn famly(id: &str) -> Value {
    json!({"chatId":"c1","_id":id,"body":id,"senderId":"bob","createdAt":"2025-08-19T20:00:00.000Z"})
}

#[tokio::test]
async fn a_lost_connection_is_recovered_and_what_was_missed_is_told_once() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Famly));
    let (mut peer, auth) = server.accept(Some("secret")).await;
    assert_eq!(auth, json!({"token":"t"}));
    assert_eq!(peer.next("room:join").await.args, [json!({"chatId":"c1"})]);
    peer.emit("message:new", &[famly("m1"), json!("7-1")]).await;
    assert_eq!(bodies(&mut updates, 1).await, ["m1"]);
    drop(peer);
    let mut peer = server.open(60_000).await;
    assert_eq!(peer.auth().await, json!({"token":"t","pid":"secret","offset":"7-1"}));
    peer.emit("message:new", &[famly("m1"), json!("7-1")]).await;
    peer.emit("message:new", &[famly("m2"), json!("7-2")]).await;
    peer.say(r#"40{"sid":"s2","pid":"secret"}"#).await;
    until(&mut updates, |update| (*update == Update::Recovered).then_some(())).await;
    assert_eq!(bodies(&mut updates, 1).await, ["m2"]);
    client.close().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_for_a_new_connection() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Lingochat));
    let mut peer = server.open(80).await;
    peer.auth().await;
    peer.say(r#"40{"sid":"s"}"#).await;
    // A ping is a sign of life, and is answered.
    peer.say("2").await;
    peer.text(|text| text == "3").await;
    let reason = until(&mut updates, |update| match update {
        Update::Disconnected { reason, .. } => Some(reason.clone()),
        _ => None,
    })
    .await;
    assert_eq!(reason, "the server fell silent");
    server.accept(None).await;
    client.close().await;
}

#[tokio::test]
async fn too_fast_is_no_failure_and_the_message_keeps_its_id() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Famly));
    let (mut peer, _) = server.accept(None).await;
    let id = client.send("c1", "hello", &[]).unwrap();
    let refusal = json!({"ok":false,"error":"RATE_LIMITED","message":"Maximum","correlationId":"x1"});
    for _ in 0..5 {
        let sent = peer.next("message:send").await;
        assert_eq!(sent.args, [json!({"chatId":"c1","body":"hello","clientId":id})]);
        peer.ack(&sent, refusal.clone()).await;
        let told = until(&mut updates, error).await;
        assert_eq!(told, ("RATE_LIMITED".into(), "Maximum".into(), Some("x1".into())));
    }
    let sent = peer.next("message:send").await;
    peer.ack(&sent, json!({"ok":true,"data":{"clientId":id,"serverId":"a1"}})).await;
    until(&mut updates, reached(&id, MessageState::ServerAcked)).await;
    // A cursor says that everything before it was read as well.
    peer.emit("receipt:update", &[json!({"chatId":"c1","messageId":"a2","userId":"bob"})]).await;
    until(&mut updates, reached(&id, MessageState::Read)).await;
    client.close().await;
}

#[tokio::test]
async fn what_cannot_be_recovered_is_asked_for_and_told_in_order() {
    let (server, url) = Server::bind().await;
    let mut options = options(&url, Dialect::Lingochat);
    options.conversations = vec!["demo".to_owned()];
    let (client, mut updates) = Client::connect(options);
    let message = |id: u64| json!({"id":id,"conversationId":12,"senderId":5,"text":id.to_string()});
    let (mut peer, _) = server.accept(Some("p")).await;
    assert_eq!(peer.next("conversation:join").await.args, [json!("demo")]);
    peer.emit("message:new", &[message(1), json!("12-1")]).await;
    let first = until(&mut updates, |update| match update {
        Update::Message(message) => Some(message.clone()),
        _ => None,
    })
    .await;
    assert_eq!((first.conversation.as_str(), first.from.as_str()), ("demo", "5"));
    drop(peer);
    let (mut peer, _) = server.accept(Some("another")).await;
    let asked = peer.next("messages:sync").await;
    assert_eq!(asked.args, [json!("demo"), json!(1)]);
    // Comes before the answer, and is told after it.
    peer.emit("message:new", &[message(5), json!("12-5")]).await;
    peer.ack(&asked, json!({"success":true,"messages":[message(2), message(3)],"hasMore":true})).await;
    let asked = peer.next("messages:sync").await;
    assert_eq!(asked.args, [json!("demo"), json!(3)]);
    peer.ack(&asked, json!({"success":true,"messages":[message(4), message(5)],"hasMore":false})).await;
    peer.emit("message:new", &[message(6), json!("12-6")]).await;
    assert_eq!(bodies(&mut updates, 5).await, ["2", "3", "4", "5", "6"]);
    client.close().await;
}

#[tokio::test]
async fn lingochat_is_acknowledged_by_event_or_packet_and_errors_are_told_once() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Lingochat));
    let (mut peer, _) = server.accept(None).await;
    let joined = peer.next("conversation:join").await;
    peer.ack(&joined, json!({"success":true})).await;
    let by_event = client.send("c1", "one", &[]).unwrap();
    let sent = peer.next("message:send").await;
    assert_eq!(sent.args, [json!("c1"), json!({"text":"one","clientMessageId":by_event})]);
    let fields = json!({"clientMessageId":by_event,"conversationId":"c1","duplicate":false});
    peer.emit("message:ack", &[json!(7), fields]).await;
    until(&mut updates, reached(&by_event, MessageState::ServerAcked)).await;
    peer.ack(&sent, json!({"success":true,"messageId":7})).await;
    let by_packet = client.send("c1", "two", &[]).unwrap();
    let sent = peer.next("message:send").await;
    peer.ack(&sent, json!({"success":true,"messageId":8})).await;
    until(&mut updates, reached(&by_packet, MessageState::ServerAcked)).await;
    let refused = client.send("c1", "three", &[]).unwrap();
    let sent = peer.next("message:send").await;
    peer.emit("error", &[json!("no")]).await;
    peer.ack(&sent, json!({"success":false,"error":"no"})).await;
    peer.emit("error", &[json!("something else")]).await;
    until(&mut updates, reached(&refused, MessageState::Failed)).await;
    assert_eq!(until(&mut updates, error).await.1, "no");
    assert_eq!(until(&mut updates, error).await.1, "something else");
    peer.emit("message:read", &[json!({"messageId":7,"readBy":5,"readAt":"x"})]).await;
    until(&mut updates, reached(&by_event, MessageState::Read)).await;
    client.close().await;
}

#[tokio::test]
async fn chatgenius_joins_only_what_it_was_not_put_into() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Chatgenius).conversation("c2"));
    let (mut peer, auth) = server.accept(None).await;
    assert_eq!(auth, json!({"token":"Bearer t","userId":"alice"}));
    peer.emit("connection:success", &[json!({"userId":"alice","channels":["c1"]})]).await;
    assert_eq!(peer.next("channel:join").await.args, [json!({"channelId":"c2"})], "c1 comes first otherwise");
    let id = client.send("c1", "hello", &[]).unwrap();
    let sent = peer.next("message:send").await;
    assert_eq!(sent.args, [json!({"content":"hello","channelId":"c1","tempId":id})]);
    // The same refusal twice; only the acknowledgement says that a retry may pass.
    peer.emit("message:failed", &[json!({"error":"slow down","tempId":id,"status":"FAILED"})]).await;
    peer.ack(&sent, json!({"success":false,"error":"slow down","retryAfterMs":5})).await;
    let sent = peer.next("message:send").await;
    assert_eq!(sent.args[0]["tempId"], *id);
    peer.emit("message:delivered", &[json!({"messageId":"m1","tempId":id,"status":"DELIVERED"})]).await;
    until(&mut updates, reached(&id, MessageState::ServerAcked)).await;
    let created =
        json!({"tempId":id,"message":{"id":"m1","content":"hello","channelId":"c1","userId":"alice"}});
    peer.emit("message:created", &[created]).await;
    let own = until(&mut updates, |update| match update {
        Update::Message(message) => Some(message.local_id.clone()),
        _ => None,
    })
    .await;
    assert_eq!(own, Some(id));
    client.react("m1", "👍", true).unwrap();
    let reaction = peer.next("reaction:add").await;
    assert_eq!(reaction.args, [json!({"messageId":"m1","type":"👍"})]);
    client.close().await;
}

#[tokio::test]
async fn a_refusal_is_final_unless_it_says_otherwise() {
    let (server, url) = Server::bind().await;
    let (client, mut updates) = Client::connect(options(&url, Dialect::Famly));
    let mut peer = server.open(60_000).await;
    peer.auth().await;
    peer.say(r#"44{"message":"busy","data":{"code":"INTERNAL","retryAfterMs":10}}"#).await;
    let mut peer = server.open(60_000).await;
    peer.auth().await;
    peer.say(r#"44{"message":"Authentication failed"}"#).await;
    let refusal = until(&mut updates, refused).await;
    assert_eq!(refusal, (401, "Authentication failed".to_owned()));
    peer.closed().await;
    client.close().await;
}

#[tokio::test]
async fn a_user_told_off_or_sent_away_does_not_come_back() {
    for told in [true, false] {
        let (server, url) = Server::bind().await;
        let (client, mut updates) = Client::connect(options(&url, Dialect::Chatgenius));
        let (mut peer, _) = server.accept(None).await;
        if told {
            let error = json!({"error":"Token expired","reason":"auth_error","reconnectAttempt":1});
            peer.emit("connection:error", &[error]).await;
        }
        peer.say("41").await;
        let refusal = until(&mut updates, refused).await;
        let expected = if told { (401, "Token expired") } else { (403, "sent away by the server") };
        assert_eq!((refusal.0, refusal.1.as_str()), expected);
        client.close().await;
    }
}

#[tokio::test]
async fn sechat_has_the_same_words_over_socket_io_and_leaves_with_one() {
    let (server, url) = Server::bind().await;
    let mut options = options(&url, Dialect::Sechat).over(Framing::Socketio);
    options.raw = true;
    let (client, mut updates) = Client::connect(options);
    let (mut peer, _) = server.accept(None).await;
    let hello = peer.next("register_session").await;
    assert_eq!(
        (&hello.args[0]["type"], &hello.args[0]["sessionId"]),
        (&json!("register_session"), &json!("alice"))
    );
    let id = client.send("c1", "hello", &["bob"]).unwrap();
    assert_eq!(peer.next("message:send").await.args[0]["messageId"], *id);
    peer.emit("message:acked", &[json!({"messageId":id})]).await;
    let raw = until(&mut updates, |update| match update {
        Update::Raw(frame) => Some(frame.clone()),
        _ => None,
    })
    .await;
    assert_eq!(raw, json!(["message:acked", {"messageId":id}]));
    until(&mut updates, reached(&id, MessageState::ServerAcked)).await;
    client.raw(json!(["presence:ping", {"type":"presence:ping"}])).unwrap();
    peer.next("presence:ping").await;
    let (_, ()) = tokio::join!(client.close(), async {
        peer.text(|text| text == "41").await;
        peer.closed().await;
    });
}

#[tokio::test]
async fn lingochat_sends_once_and_three_times_more_before_a_message_has_failed() {
    let (server, url) = Server::bind().await;
    let mut options = options(&url, Dialect::Lingochat);
    options.ack_timeout = Duration::from_millis(30);
    let (client, mut updates) = Client::connect(options);
    let (mut peer, _) = server.accept(None).await;
    let id = client.send("c1", "hello", &[]).unwrap();
    for attempt in 1..=4 {
        let sent = peer.next("message:send").await;
        assert_eq!(sent.args[1]["clientMessageId"], *id, "attempt {attempt}");
    }
    until(&mut updates, |update| match update {
        Update::State { local_id, state: MessageState::Failed } if *local_id == id => Some(()),
        _ => None,
    })
    .await;
    client.close().await;
}
