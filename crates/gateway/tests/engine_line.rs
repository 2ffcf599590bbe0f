//! A polling session's line from its owner's side: what the owner does not take is not confirmed, what it says
//! last is read, and nothing that comes in over HTTP makes it fall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use parking_lot::Mutex;
use parlance_gateway::clock::Clock;
use parlance_gateway::line::{Beats, Endpoint, EngineSettings, Greeting, Heard, Line};
use parlance_model::Time;
use parlance_wire::websocket;
use proptest::prelude::*;
use tokio_util::task::TaskTracker;

const T0: u64 = 1_000_000;

/// An endpoint whose time the test owns, and whose lines it keeps.
struct Fixture {
    endpoint: Endpoint,
    now: Arc<AtomicU64>,
    greetings: Arc<Mutex<Vec<Greeting>>>,
}

impl Fixture {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(T0));
        let time = now.clone();
        let greetings = Arc::new(Mutex::new(Vec::new()));
        let guests = greetings.clone();
        let settings = EngineSettings {
            ping_interval_ms: 300,
            ping_timeout_ms: 200,
            max_payload: 1_000,
            upgrade_timeout_ms: 1_000,
            body_timeout_ms: 1_000,
            max_sessions: 0,
            max_sessions_per_ip: 0,
            node_name: "node-1".to_owned(),
        };
        let clock = Clock::from_fn(move || Time(time.load(Ordering::Relaxed)));
        let accept = Arc::new(move |greeting| guests.lock().push(greeting));
        let endpoint = Endpoint::new(settings, clock, TaskTracker::new(), accept);
        Self { endpoint, now, greetings }
    }

    async fn ask(&self, method: &str, query: &str, body: impl Into<Body>) -> (u16, String) {
        let uri = format!("/engine.io/?{query}");
        let request = Request::builder().method(method).uri(uri).body(body.into()).unwrap();
        read(self.endpoint.handle(request).await).await
    }

    /// Opens a session: its line and the query of its requests.
    async fn open(&self) -> (Line, String) {
        let (status, open) = self.ask("GET", "EIO=4&transport=polling", "").await;
        assert_eq!(status, 200, "{open}");
        let open: serde_json::Value = serde_json::from_str(&open[1..]).unwrap();
        let query = format!("EIO=4&transport=polling&sid={}", open["sid"].as_str().unwrap());
        (self.greetings.lock().pop().unwrap().line, query)
    }

    fn advance(&self, ms: u64) -> Time {
        Time(self.now.fetch_add(ms, Ordering::Relaxed) + ms)
    }
}

async fn read(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn piece(packets: &[&str]) -> bytes::Bytes {
    let mut out = bytes::BytesMut::new();
    for packet in packets {
        websocket::put_text(&mut out, packet.as_bytes());
    }
    out.freeze()
}

fn text(heard: Heard) -> String {
    match heard {
        Heard::Text(text) => text.as_str().to_owned(),
        other => panic!("no text: {other:?}"),
    }
}

/// Whether a future is still waiting after everything else had its turn.
async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::time::timeout(Duration::from_millis(20), future).await.is_err()
}

#[tokio::test]
async fn a_payload_is_confirmed_when_all_of_it_is_taken() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    let mut post = Box::pin(fixture.ask("POST", &query, "4a\u{1e}bAQI=\u{1e}4\u{1e}3"));
    assert!(waits(&mut post).await);
    assert_eq!(text(line.hear().await), "a");
    assert!(matches!(line.hear().await, Heard::Binary(data) if data[..] == [1, 2]));
    assert!(waits(&mut post).await);
    assert_eq!(text(line.hear().await), "");
    assert!(waits(&mut post).await);
    assert!(matches!(line.hear().await, Heard::Control));
    assert_eq!(post.await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn a_poll_takes_everything_that_waits_in_order() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    line.push(piece(&["4a", "4b"]));
    line.push_binary(&[1, 2, 3]);
    line.push(piece(&["4c"]));
    line.flush(Time(T0)).unwrap();
    assert!(!line.is_idle());
    let mut poll = Box::pin(fixture.ask("GET", &query, ""));
    assert!(waits(&mut poll).await);
    line.writable().await;
    line.flush(Time(T0)).unwrap();
    assert!(line.is_idle());
    assert_eq!(poll.await, (200, "4a\u{1e}4b\u{1e}bAQID\u{1e}4c".to_owned()));
    // One that comes first is answered with the next flush.
    let mut poll = Box::pin(fixture.ask("GET", &query, ""));
    assert!(waits(&mut poll).await);
    line.push(piece(&["4d"]));
    line.flush(Time(T0)).unwrap();
    assert_eq!(poll.await, (200, "4d".to_owned()));
}

#[tokio::test]
async fn the_farewell_is_read_after_the_last_words_and_then_the_session_is_unknown() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    line.push(piece(&["4last"]));
    line.close(1000, "bye");
    line.close(1000, "bye");
    let polls = async {
        // A client acts on a close packet before what came with it, so that comes alone.
        assert_eq!(fixture.ask("GET", &query, "").await, (200, "4last".to_owned()));
        assert_eq!(fixture.ask("GET", &query, "").await, (200, "1".to_owned()));
    };
    tokio::join!(polls, line.finish(Duration::from_secs(10)));
    assert_eq!(fixture.ask("GET", &query, "").await.0, 400);
    drop(line);
    assert_eq!(fixture.endpoint.sessions(), 0);
}

#[tokio::test]
async fn a_dropped_line_answers_what_waits_and_is_forgotten() {
    let fixture = Fixture::new();
    let (line, query) = fixture.open().await;
    let mut poll = Box::pin(fixture.ask("GET", &query, ""));
    let mut post = Box::pin(fixture.ask("POST", &query, "4a"));
    assert!(waits(&mut poll).await && waits(&mut post).await);
    drop(line);
    assert_eq!(poll.await, (200, "1".to_owned()));
    assert_eq!(post.await.0, 400);
    assert_eq!(fixture.endpoint.sessions(), 0);
    assert!(fixture.ask("GET", &query, "").await.1.contains("\"code\":1"));
}

#[tokio::test]
async fn pings_are_queued_answered_and_missed_in_time() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    assert_eq!(line.deadline(), Some(Time(T0 + 300)));
    let now = fixture.advance(300);
    assert!(line.due(now).is_none());
    assert_eq!(line.take_beats(), Beats { pinged: true, ponged: false });
    let (poll, ()) = tokio::join!(fixture.ask("GET", &query, ""), async {
        line.writable().await;
        line.flush(now).unwrap();
    });
    assert_eq!(poll, (200, "2".to_owned()));
    fixture.advance(100);
    let (post, heard) = tokio::join!(fixture.ask("POST", &query, "3"), line.hear());
    assert_eq!(post.0, 200);
    assert!(matches!(heard, Heard::Control));
    assert_eq!(line.take_beats(), Beats { pinged: false, ponged: true });
    assert_eq!(line.heart().load(Ordering::Relaxed), T0 + 400);
    // A pong nobody waits for confirms nothing.
    let (_, _) = tokio::join!(fixture.ask("POST", &query, "3"), line.hear());
    assert_eq!(line.take_beats(), Beats::default());
    assert_eq!(line.deadline(), Some(Time(T0 + 700)));
    assert!(line.due(fixture.advance(300)).is_none());
    // The timer's own delay is not the client's.
    assert!(line.due(fixture.advance(199)).is_none());
    assert!(matches!(line.due(fixture.advance(1)), Some(Heard::Gone)));
    assert!(fixture.ask("GET", &query, "").await.1.contains("\"code\":1"));
}

#[tokio::test]
async fn a_pong_that_was_not_read_yet_counts() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    assert!(line.due(fixture.advance(300)).is_none());
    let mut post = Box::pin(fixture.ask("POST", &query, "4a\u{1e}3"));
    assert!(waits(&mut post).await);
    // The owner is busy while the time for the pong passes.
    let late = fixture.advance(1_000);
    assert!(line.due(late).is_none());
    assert_eq!(line.deadline(), Some(late + Duration::from_millis(100)));
    assert_eq!(text(line.hear().await), "a");
    assert!(matches!(line.hear().await, Heard::Control));
    assert_eq!(post.await.0, 200);
    assert!(line.take_beats().ponged);
    assert_eq!(line.deadline(), Some(late + Duration::from_millis(300)));
}

#[tokio::test]
async fn an_owner_that_does_not_listen_still_writes() {
    let fixture = Fixture::new();
    let (mut line, query) = fixture.open().await;
    line.push(piece(&["4a"]));
    let _post = Box::pin(fixture.ask("POST", &query, "4x"));
    let (poll, heard) = tokio::join!(fixture.ask("GET", &query, ""), async {
        let heard = line.next(false).await;
        line.flush(Time(T0)).unwrap();
        heard
    });
    assert!(matches!(heard, Heard::Stirred));
    assert_eq!(poll.1, "4a");
}

#[tokio::test]
async fn the_greeting_tells_token_and_host() {
    let fixture = Fixture::new();
    for (query, header, expected) in [
        ("&token=abc", None, Some("abc")),
        ("", Some("Bearer abc"), Some("abc")),
        ("&token=abc", Some("Bearer xyz"), Some("abc")),
        ("", None, None),
    ] {
        let mut request = Request::builder()
            .uri(format!("/?EIO=4&transport=polling{query}"))
            .header("host", "chat.example:1");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = fixture.endpoint.handle(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        let greeting = fixture.greetings.lock().pop().unwrap();
        assert_eq!(greeting.token.as_deref(), expected);
        assert_eq!(greeting.host.as_deref(), Some("chat.example:1"));
        assert_eq!((greeting.line.transport(), greeting.line.is_raw()), ("polling", false));
    }
}

fn packets() -> impl Strategy<Value = String> {
    let packet = prop_oneof!["[0-9b]", "4[a-z]{0,9}", "b[A-Za-z0-9+/=]{0,9}", "\\PC{0,5}"];
    proptest::collection::vec(packet, 0..6).prop_map(|packets| packets.join("\u{1e}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_payload_leaves_a_request_unanswered(payload in packets()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let (mut line, query) = fixture.open().await;
            let ask = fixture.ask("POST", &query, payload);
            let hear = async {
                loop {
                    if matches!(line.hear().await, Heard::Goodbye | Heard::Violation(..) | Heard::Gone) {
                        break;
                    }
                }
            };
            let ended = tokio::select! {
                biased;
                (status, _) = ask => { assert!(status == 200 || status == 400); true }
                () = hear => false,
            };
            drop(line);
            assert!(ended || fixture.endpoint.sessions() == 0);
            assert_eq!(fixture.ask("GET", &query, "").await.0, 400);
        });
    }

    #[test]
    fn no_query_makes_it_fall(method in "GET|POST|PUT|OPTIONS", query in "(EIO=[34]&?)?(transport=(polling|websocket)&?)?(sid=[A-Za-z0-9_-]{0,40}&?)?[!-~]{0,10}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let uri = format!("/?{query}");
            if let Ok(request) = Request::builder().method(&*method).uri(uri).body(Body::empty()) {
                let status = fixture.endpoint.handle(request).await.status().as_u16();
                assert!(status == 200 || status == 400, "{status}");
            }
        });
    }
}
