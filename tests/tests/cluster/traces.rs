//! Traces of single messages, of nodes built with the feature `otel`: `cargo xtask otel` builds them and names the binary.
//! Without that these tests skip themselves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::collector::{Collector, Span};
use parlance_tests::{API_KEY, Gateway, Options, Raw, Ws, script::SKIPPED, token};
use serde_json::{Value, json};

/// Names the binary.
const BINARY: &str = "PARLANCE_TEST_OTEL_BINARY";
/// What no span may say.
const SECRETS: [&str; 4] = ["alice", "bob", "room-of-theirs", "nobody-else-may-read-this"];

fn binary() -> Result<Option<PathBuf>> {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    if named.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Written past the capture of the test harness.
        writeln!(std::io::stdout(), "{SKIPPED} {test}: `cargo xtask otel` runs it")?;
    }
    Ok(named)
}

fn options(redis: &Server) -> Options {
    Options::default().env("PARLANCE_REDIS_URL", &redis.url())
}

/// Spans are sent when a node stops, or when a test waits for it.
fn traced(redis: &Server, binary: &Path, collector: &str, sampler: &str) -> Options {
    let exported = options(redis).binary(binary).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    exported.env("OTEL_TRACES_SAMPLER", sampler).env("OTEL_BSP_SCHEDULE_DELAY", "60000")
}

/// A context as another program would pass it on.
fn context(trace: u8, flags: u8) -> (String, String) {
    let trace = format!("{trace:032x}");
    (format!("00-{trace}-00f067aa0ba902b7-{flags:02x}"), trace)
}

async fn sechat(gateway: &Gateway, user: &str, headers: &[(&str, &str)]) -> Result<Ws> {
    let url = gateway.url(&format!("/sechat?token={}", token(user)?));
    let opened = Ws::open(&url, headers).await?;
    opened.map_err(|refused| anyhow::anyhow!("{}: {}", refused.status, refused.body))
}

async fn say(from: &mut Ws, id: &str) -> Result<()> {
    let [.., room, body] = SECRETS;
    let message = json!({ "type": "message:send", "messageId": id, "conversationId": room, "body": body });
    from.send(&message).await?;
    from.expect("message:acked").await.map(drop)
}

/// A call of the server API with further headers.
async fn call(gateway: &Gateway, path: &str, headers: &str, body: &Value) -> Result<Value> {
    let (host, body) = (gateway.internal_address(), body.to_string());
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {API_KEY}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    let answer = Raw::connect(host).await?.ask(request).await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.body);
    answer.json()
}

fn named<'a>(spans: &'a [Span], trace: &str, name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.trace == trace && span.name == name).collect()
}

fn node_of(span: &Span) -> &str {
    span.says.get("resource.service.instance.id").map_or("", String::as_str)
}

/// One message, accepted by one node and told by both.
fn is_whole(spans: &[Span], trace: &str, via: &str) -> Result<Span> {
    let (accept, append) = (named(spans, trace, "accept"), named(spans, trace, "append"));
    let deliver = named(spans, trace, "deliver");
    let counts = (accept.len(), append.len(), deliver.len());
    ensure!(counts == (1, 1, 2), "{counts:?} of {trace}: {spans:#?}");
    ensure!(accept[0].parent == "00f067aa0ba902b7" && append[0].parent == accept[0].id, "{spans:#?}");
    ensure!(deliver.iter().all(|span| span.parent == append[0].id), "{spans:#?}");
    ensure!(accept[0].says["parlance.via"] == via, "{accept:#?}");
    ensure!(node_of(accept[0]) == node_of(append[0]), "{spans:#?}");
    ensure!(node_of(deliver[0]) != node_of(deliver[1]), "one of each node: {deliver:#?}");
    let id = &accept[0].says["messaging.message.id"];
    for span in accept.iter().chain(&append).chain(&deliver) {
        ensure!(&span.says["messaging.message.id"] == id && id.starts_with("msg_"), "{span:#?}");
        ensure!(span.times.0 > 0 && span.times.0 <= span.times.1, "{span:#?}");
        ensure!(span.says["resource.service.name"] == "parlance", "{span:#?}");
    }
    for span in accept.iter().chain(&append) {
        ensure!(span.says["parlance.outcome"] == "stored", "{span:#?}");
    }
    ensure!(accept[0].times.0 <= append[0].times.0 && append[0].times.1 <= accept[0].times.1, "{spans:#?}");
    let elsewhere = deliver.into_iter().find(|span| node_of(span) != node_of(accept[0]));
    elsewhere.cloned().context("told by nobody else")
}

/// Nobody's name, no place, no text.
fn are_discreet(spans: &[Span]) -> Result<()> {
    for span in spans {
        let said = span.says.iter().find(|(_, said)| SECRETS.iter().any(|secret| said.contains(secret)));
        ensure!(said.is_none(), "{said:?} of {span:#?}");
    }
    Ok(())
}

/// Three nodes, one of them built without the feature: it reads what the others write.
#[tokio::test]
async fn one_trace_from_the_sender_to_every_node() -> Result<()> {
    let Some(binary) = binary()? else { return Ok(()) };
    let (redis, collector) = (Server::standalone().await?, Collector::start().await?);
    let start = || Gateway::start(traced(&redis, &binary, &collector.url(), "parentbased_always_off"));
    let (mut a, mut b) = (start().await?, start().await?);
    let plain = Gateway::start(options(&redis)).await?;
    let room = SECRETS[2];
    a.conversation(room, &["alice", "bob"]).await?;
    let (asked, trace) = context(1, 1);
    let (not_sampled, not) = context(2, 0);
    let mut alice = sechat(&a, "alice", &[("traceparent", &asked)]).await?;
    let mut phone = sechat(&a, "alice", &[("traceparent", &not_sampled)]).await?;
    let mut silent = sechat(&a, "alice", &[("traceparent", "00-nonsense")]).await?;
    let mut heard =
        [sechat(&b, "bob", &[]).await?, sechat(&b, "bob", &[]).await?, sechat(&plain, "bob", &[]).await?];
    say(&mut silent, "m-0").await?;
    say(&mut phone, "m-1").await?;
    say(&mut alice, "m-2").await?;
    // The caller of the server API decides for its message alone.
    let path = format!("/api/v1/conversations/{room}/messages");
    let (by_api, of_api) = context(3, 1);
    let (not_by_api, not_of_api) = context(4, 0);
    let body = json!({ "senderId": "alice", "body": SECRETS[3] });
    call(&a, &path, &format!("traceparent: {not_by_api}\r\n"), &body).await?;
    call(&a, &path, &format!("traceparent: {by_api}\r\n"), &body).await?;
    for bob in &mut heard {
        for _ in 0..5 {
            ensure!(bob.expect("message:received").await?["body"] == SECRETS[3]);
        }
    }
    // Nothing is sent before its time; a node that stops sends what is left.
    ensure!(collector.spans().is_empty(), "{:#?}", collector.spans());
    for node in [&mut a, &mut b] {
        let status = node.sigterm().await?;
        ensure!(status.success(), "{status}");
    }
    let spans = collector.wait(8).await?;
    let told = is_whole(&spans, &trace, "sechat")?;
    ensure!(told.says["parlance.sockets"] == "2", "once for both sockets: {told:#?}");
    is_whole(&spans, &of_api, "api")?;
    ensure!(spans.len() == 8, "nothing else: {spans:#?}");
    ensure!(!spans.iter().any(|span| span.trace == not || span.trace == not_of_api), "{spans:#?}");
    are_discreet(&spans)
}

/// What an application publishes is traced alike; and where a sampler says so, everything is.
#[tokio::test]
async fn whatever_is_published_too_and_without_being_asked() -> Result<()> {
    let Some(binary) = binary()? else { return Ok(()) };
    let (redis, collector) = (Server::standalone().await?, Collector::start().await?);
    let often = traced(&redis, &binary, &collector.url(), "always_on").env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let often = often.env("OTEL_SERVICE_NAME", "chat-of-theirs");
    let a = Gateway::start(often).await?;
    let mut bob = a.connect("/ws", "bob").await?;
    let event = json!({
        "channel": "notifications", "type": "notification", "user_id": "bob", "payload": { "text": SECRETS[3] },
    });
    call(&a, "/api/v1/publish", "", &event).await?;
    bob.expect("notification").await?;
    let spans = collector.wait(3).await?;
    let trace = spans[0].trace.clone();
    for name in ["accept", "append", "deliver"] {
        let [span] = named(&spans, &trace, name)[..] else { anyhow::bail!("{name}: {spans:#?}") };
        ensure!(span.says["resource.service.name"] == "chat-of-theirs", "{span:#?}");
        ensure!(span.parent.is_empty() == (name == "accept"), "{span:#?}");
    }
    are_discreet(&spans)
}

/// A collector that is away, or that takes a connection and says nothing, holds up nobody.
#[tokio::test]
async fn messages_go_on_without_a_collector() -> Result<()> {
    let Some(binary) = binary()? else { return Ok(()) };
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    for address in [mute.local_addr()?, gone] {
        let redis = Server::standalone().await?;
        let options = traced(&redis, &binary, &format!("http://{address}"), "always_on");
        let small = options.env("OTEL_BSP_SCHEDULE_DELAY", "20").env("OTEL_BSP_MAX_QUEUE_SIZE", "16");
        let small =
            small.env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8").env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let mut node = Gateway::start(small.env("PARLANCE_NO_LIMITS", "true")).await?;
        node.conversation(SECRETS[2], &["alice", "bob"]).await?;
        let (mut alice, mut bob) = (sechat(&node, "alice", &[]).await?, sechat(&node, "bob", &[]).await?);
        for n in 0..200 {
            say(&mut alice, &format!("{address}-{n}")).await?;
            bob.expect("message:received").await?;
        }
        let said = "the collector does not take spans";
        let logged = async {
            while !node.log().contains(said) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(parlance_tests::PATIENCE, logged).await.context("nothing is said of it")?;
        drop((alice, bob));
        let begun = Instant::now();
        ensure!(node.sigterm().await?.success(), "{}", node.log());
        ensure!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        ensure!(node.log().matches(said).count() == 1, "{}", node.log());
    }
    Ok(())
}
