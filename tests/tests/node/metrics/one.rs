//! What one node on the embedded engine counts.

use std::time::Duration;

use super::{Row, Seen, Watch};
use anyhow::{Context, Result, ensure};
use parlance_tests::io::IoClient;
use parlance_tests::metrics::{total, until};
use parlance_tests::prometheus::check_metrics;
use parlance_tests::{Gateway, Options, Ws, token};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::sleep;

const SECHAT: &[(&str, &str)] = &[("dialect", "sechat")];
const FAMLY: &[(&str, &str)] = &[("dialect", "famly")];
const MOUNT: &[(&str, &str)] = &[("mount", "sechat"), ("dialect", "sechat")];

pub const ROWS: &[Row] = &[
    ("a client comes", "parlance_sockets", &[("listener", "public")], Seen::Is(1.0)),
    ("a client comes", "parlance_sockets_accepted_total", &[("listener", "public")], Seen::By(1.0)),
    ("a client comes", "parlance_connections", MOUNT, Seen::Is(1.0)),
    ("a client comes", "parlance_accepts_total", MOUNT, Seen::By(1.0)),
    ("a client comes", "parlance_feed_topics", &[], Seen::More),
    ("a client comes", "parlance_feed_idle_seconds", &[], Seen::There),
    ("a client comes", "parlance_feed_inbox", &[], Seen::Is(0.0)),
    ("a client comes", "parlance_ready", &[], Seen::Is(1.0)),
    ("a client comes", "parlance_build_info", &[], Seen::Is(1.0)),
    ("a client comes", "parlance_runtime_workers", &[], Seen::Positive),
    ("a client comes", "parlance_runtime_tasks", &[], Seen::Positive),
    ("a client comes", "parlance_runtime_queue", &[], Seen::There),
    ("a client comes", "parlance_runtime_busy_seconds_total", &[], Seen::More),
    ("a client comes", "process_cpu_seconds_total", &[], Seen::Positive),
    ("a client comes", "process_open_fds", &[], Seen::Positive),
    ("a client comes", "process_max_fds", &[], Seen::Positive),
    ("a client comes", "process_virtual_memory_bytes", &[], Seen::Positive),
    ("a client comes", "process_resident_memory_bytes", &[], Seen::Positive),
    ("a client comes", "process_start_time_seconds", &[], Seen::Positive),
    ("a client comes", "process_threads", &[], Seen::Positive),
    ("another one comes", "parlance_presence_transitions_total", &[("status", "online")], Seen::By(1.0)),
    ("another one comes", "parlance_connections", MOUNT, Seen::Is(2.0)),
    ("it goes live", "parlance_delivery_seconds", SECHAT, Seen::More),
    ("a message is heard", "parlance_frames_in_total", SECHAT, Seen::By(1.0)),
    ("a message is heard", "parlance_messages_accepted_total", SECHAT, Seen::By(1.0)),
    ("a message is heard", "parlance_append_seconds", SECHAT, Seen::By(1.0)),
    ("a message is heard", "parlance_publications_total", &[], Seen::More),
    ("a message is heard", "parlance_feed_lag_seconds", &[], Seen::More),
    ("a message is heard", "parlance_deliveries_total", SECHAT, Seen::More),
    ("a message is heard", "parlance_delivery_seconds", SECHAT, Seen::More),
    ("a message is heard", "parlance_frames_out_total", SECHAT, Seen::More),
    ("it is sent again", "parlance_messages_duplicate_total", SECHAT, Seen::By(1.0)),
    ("something unknown is asked", "parlance_rejects_total", SECHAT, Seen::By(1.0)),
    ("something old is said", "parlance_deprecated_frames_total", SECHAT, Seen::By(1.0)),
    ("a token is no good", "parlance_token_failures_total", &[("reason", "malformed")], Seen::By(1.0)),
    ("a token is no good", "parlance_refusals_total", MOUNT, Seen::By(1.0)),
    ("a typist falls silent", "parlance_sweep_expired_total", &[("kind", "typing")], Seen::By(1.0)),
    ("a typist falls silent", "parlance_sweep_lag_seconds", &[], Seen::By(1.0)),
    ("somebody polls", "parlance_polls_waiting", &[("protocol", "socialhub")], Seen::Is(1.0)),
    ("a transport polls", "parlance_polls_waiting", &[("protocol", "engineio")], Seen::Is(1.0)),
    (
        "polls are too many",
        "parlance_rate_limited_total",
        &[("dialect", "socialhub"), ("limit", "polls")],
        Seen::More,
    ),
    (
        "messages are too many",
        "parlance_rate_limited_total",
        &[("dialect", "famly"), ("limit", "messages")],
        Seen::By(1.0),
    ),
    (
        "a session is taken up",
        "parlance_recoveries_total",
        &[("dialect", "famly"), ("outcome", "recovered")],
        Seen::By(1.0),
    ),
    (
        "a session is made up",
        "parlance_recoveries_total",
        &[("dialect", "famly"), ("outcome", "unknown")],
        Seen::By(1.0),
    ),
];

const DEEPEST: &str = "parlance_outbox_deepest_pieces";

pub const SLOW: &[Row] = &[
    ("a client does not read", "parlance_outbox_pieces", &[], Seen::Positive),
    ("a client does not read", "parlance_outbox_bytes", &[], Seen::Positive),
    ("its outbox is full", DEEPEST, &[], Seen::Is(8.0)),
    ("somebody types", "parlance_dropped_passing_total", FAMLY, Seen::More),
    (
        "another message is too much",
        "parlance_slow_consumers_total",
        &[("dialect", "famly"), ("reason", "overflow")],
        Seen::By(1.0),
    ),
];

pub const FULL: &[Row] = &[("descriptors run out", "parlance_accept_errors_total", &[], Seen::More)];

fn message(id: &str) -> Value {
    json!({
        "type": "message:send", "messageId": id, "conversationId": "quagga", "toUserIds": ["ibex"], "body": "hello",
    })
}

async fn room(gateway: &Gateway) -> Result<()> {
    gateway.conversation("quagga", &["zebra", "ibex", "okapi"]).await.map(drop)
}

/// A Socket.IO client of famly's, inside the conversation.
async fn inside(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let mut client =
        IoClient::connect(&gateway.url("/socket.io/"), &json!({ "token": token(user)? })).await?;
    let ack = client.ask("room:join", &[json!({ "chatId": "quagga" })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_is_counted() -> Result<()> {
    let options = Options::brief().env("PARLANCE_TIMINGS_TYPING_TTL_MS", "500");
    let gateway = Gateway::start(options).await?;
    room(&gateway).await?;
    let mut watch = Watch::begin(&gateway, ROWS).await?;
    let mut zebra = gateway.connect("/sechat", "zebra").await?;
    watch.sees("a client comes").await?;
    let mut ibex = gateway.connect("/sechat", "ibex").await?;
    watch.sees("another one comes").await?;
    // Until then it reads from the log what is said.
    for n in 0.. {
        zebra.send(&message(&format!("early-{n}"))).await?;
        ibex.expect("message:received").await?;
        if total(&gateway, "parlance_delivery_seconds_count").await? > 0.0 {
            break;
        }
    }
    watch.sees("it goes live").await?;
    zebra.send(&message("m-1")).await?;
    ibex.expect("message:received").await?;
    watch.sees("a message is heard").await?;
    zebra.send(&message("m-1")).await?;
    watch.sees("it is sent again").await?;
    zebra.send(&json!({ "type": "no such thing" })).await?;
    watch.sees("something unknown is asked").await?;
    zebra.send(&json!({ "type": "online_status_update", "isOnline": true, "sessionId": "zebra" })).await?;
    watch.sees("something old is said").await?;
    Ws::refused(&gateway.url("/sechat?token=eyJno.token")).await?;
    watch.sees("a token is no good").await?;
    ibex.send(&json!({ "type": "typing", "conversationId": "quagga", "isTyping": true })).await?;
    watch.sees("a typist falls silent").await?;
    polls(&gateway, &mut watch).await?;
    sessions(&gateway, &mut watch).await?;
    check_metrics(watch.page())?;
    watch.done()
}

async fn polls(gateway: &Gateway, watch: &mut Watch<'_>) -> Result<()> {
    // In no conversation: there is nothing to tell.
    let numbat = token("numbat")?;
    let path = |seconds| format!("/api/v1/realtime/poll?user_id=numbat&last_poll_id=0&timeout={seconds}");
    let waits = path(25);
    tokio::select! {
        answer = gateway.public("GET", &waits, Some(&numbat)) => anyhow::bail!("answered: {answer:?}"),
        seen = watch.sees("somebody polls") => seen?,
    }
    for _ in 0..31 {
        gateway.public("GET", &path(0), Some(&numbat)).await?;
    }
    watch.sees("polls are too many").await?;
    let base = "/socket.io/?EIO=4&transport=polling";
    let open = gateway.public("GET", base, None).await?.body;
    let session = format!("{base}&sid={}", open.split('"').nth(3).context("no sid")?);
    tokio::select! {
        answer = gateway.public("GET", &session, None) => anyhow::bail!("answered: {answer:?}"),
        seen = watch.sees("a transport polls") => seen,
    }
}

async fn sessions(gateway: &Gateway, watch: &mut Watch<'_>) -> Result<()> {
    let mut okapi = inside(gateway, "okapi").await?;
    // One more than the mount's ten in ten seconds.
    let mut offset = None;
    for n in 0..11 {
        let say = json!({ "chatId": "quagga", "body": "hello", "clientId": format!("c-{n}") });
        let ack = okapi.ask("message:send", &[say]).await?;
        ensure!((ack[0]["ok"] == true) == (n < 10), "{n}: {ack:?}");
        if n < 10 {
            let told = okapi.expect("message:new").await?;
            offset = told.args.last().and_then(Value::as_str).map(str::to_owned);
        }
    }
    watch.sees("messages are too many").await?;
    let pid = okapi.joined["pid"].as_str().context("no pid")?.to_owned();
    drop(okapi);
    let url = gateway.url("/socket.io/");
    let auth = json!({ "token": token("okapi")?, "pid": pid, "offset": offset });
    let back = IoClient::connect(&url, &auth).await?;
    ensure!(back.joined["pid"] == pid.as_str(), "{}", back.joined);
    watch.sees("a session is taken up").await?;
    let auth = json!({ "token": token("okapi")?, "pid": "A".repeat(22), "offset": offset });
    let _fresh = IoClient::connect(&url, &auth).await?;
    watch.sees("a session is made up").await
}

async fn post(gateway: &Gateway, path: &str, body: &str) -> Result<()> {
    use tokio::io::AsyncWriteExt;

    let mut stream = TcpStream::connect(gateway.address()).await?;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).await?;
    let (answer, _) = parlance_tests::http::read_head(&mut stream).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A polling client that is inside the conversation, and polls no more.
async fn polled_once(gateway: &Gateway, user: &str) -> Result<()> {
    let base = "/socket.io/?EIO=4&transport=polling";
    let open = gateway.public("GET", base, None).await?.body;
    let path = format!("{base}&sid={}", open.split('"').nth(3).context("no sid")?);
    post(gateway, &path, &format!("40{{\"token\":\"{}\"}}", token(user)?)).await?;
    let joined = gateway.public("GET", &path, None).await?.body;
    ensure!(joined.starts_with("40{"), "{joined}");
    post(gateway, &path, r#"420["room:join",{"chatId":"quagga"}]"#).await?;
    let mut entered = String::new();
    while !entered.contains(r#"430[{"ok":true}]"#) {
        entered = gateway.public("GET", &path, None).await?.body;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_client_leaves_is_counted() -> Result<()> {
    let options = Options::brief().env("PARLANCE_NO_LIMITS", "true");
    let gateway = Gateway::start(options.env("PARLANCE_LIMITS_OUTBOX_FRAMES", "8")).await?;
    room(&gateway).await?;
    let mut zebra = inside(&gateway, "zebra").await?;
    polled_once(&gateway, "okapi").await?;
    let mut watch = Watch::begin(&gateway, SLOW).await?;
    let mut said = 0;
    let mut say = async |zebra: &mut IoClient| {
        said += 1;
        let message = json!({ "chatId": "quagga", "body": "hello", "clientId": format!("c-{said}") });
        zebra.ask("message:send", &[message]).await.map(drop)
    };
    // The first goes to the transport, where nobody fetches it; the others wait.
    for _ in 0..2 {
        say(&mut zebra).await?;
    }
    watch.sees("a client does not read").await?;
    // One after the other has come there: one too many would end the session.
    let mut deepest = total(&gateway, DEEPEST).await?;
    while deepest < 8.0 {
        say(&mut zebra).await?;
        deepest = until(&gateway, |page| page.sum(DEEPEST, &[]) > deepest).await?.sum(DEEPEST, &[]);
    }
    watch.sees("its outbox is full").await?;
    zebra.emit("typing:start", &[json!({ "chatId": "quagga" })]).await?;
    watch.sees("somebody types").await?;
    say(&mut zebra).await?;
    watch.sees("another message is too much").await?;
    watch.done()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_cannot_be_accepted_are_counted() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    let mut watch = Watch::begin(&gateway, FULL).await?;
    let pid = gateway.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no process")?;
    let none = Rlimit { current: Some(1), maximum: Some(4096) };
    prlimit(Some(pid), Resource::Nofile, none)?;
    let _refused = TcpStream::connect(gateway.address()).await?;
    while !gateway.log().contains("accept") {
        sleep(Duration::from_millis(10)).await;
    }
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(4096), maximum: Some(4096) })?;
    watch.sees("descriptors run out").await?;
    watch.done()
}
