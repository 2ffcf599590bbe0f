//! A hundred thousand members in one call, on two nodes and one Redis that has other things to do.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::upload::lines;
use parlance_tests::{Gateway, Options, Upload, Ws};
use serde_json::json;
use tokio::time::{Instant, timeout};

const ALL: usize = 100_000;
/// Users who are connected while they are imported, over two nodes.
const CONNECTED: usize = 40;
/// A call into Redis that holds up all others by more than this on an idle machine does too much at once.
const LONGEST_MS: u64 = 10;
/// And this is what a machine adds that is busy with other tests.
const BUSY: u64 = 2;

async fn node(redis: &Server) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
    Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await
}

fn user(n: usize) -> String {
    format!("user-{n:06}")
}

async fn heard(ws: &mut Ws, text: &str) -> Result<()> {
    let told = timeout(Duration::from_secs(5), ws.expect("message:received")).await??;
    ensure!(told["body"] == text, "{told}");
    Ok(())
}

async fn say(gateway: &Gateway, from: &str, text: &str) -> Result<Duration> {
    let body = json!({ "senderId": from, "body": text });
    let begun = Instant::now();
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&body)).await?;
    Ok(begun.elapsed())
}

async fn import(gateway: &Gateway, body: &str) -> Result<serde_json::Value> {
    let mut upload = Upload::import(gateway, "room").await?;
    for piece in body.as_bytes().chunks(64 * 1024) {
        upload.send(std::str::from_utf8(piece)?).await?;
    }
    let answer = upload.finish().await?;
    ensure!(answer.status == 200, "{answer:?}");
    answer.json()
}

fn rss_mb(gateway: &Gateway) -> Result<u64> {
    let pid = gateway.pid().context("it does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

/// What calls took that Redis noted as slow, by function: of those with many the middle one, in milliseconds. The longest
/// says more of whoever else uses the machine.
async fn slowest(redis: &Server) -> Result<BTreeMap<String, u64>> {
    let said = redis.command(&["SLOWLOG", "GET", "4000"]).await?;
    let calls = said.lines().collect::<Vec<_>>();
    let is_call = |at: usize| calls.get(at + 1).is_some_and(|it| it.eq_ignore_ascii_case("fcall"));
    let call =
        |at: usize| Some((calls.get(at)?.parse::<u64>().ok()? / 1000, (*calls.get(at + 2)?).to_owned()));
    let mut slow: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (ms, function) in (0..calls.len()).filter(|at| is_call(*at)).filter_map(call) {
        slow.entry(function).or_default().push(ms);
    }
    slow.retain(|_, all| all.len() >= 20);
    let middle = |mut all: Vec<u64>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    Ok(slow.into_iter().map(|(function, all)| (function, middle(all))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_members_come_in_one_call_and_all_of_it_still_works() -> Result<()> {
    let redis = Server::standalone().await?;
    redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]).await?;
    redis.command(&["CONFIG", "SET", "slowlog-max-len", "4000"]).await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice"]).await?;
    // One in every 2,500, in turns here and there.
    let mut connected = Vec::new();
    for n in 0..CONNECTED {
        let at = if n % 2 == 0 { &a } else { &b };
        connected.push(at.connect("/sechat", &user(n * ALL / CONNECTED)).await?);
    }
    let before = (rss_mb(&a)?, rss_mb(&b)?);
    let body = lines((0..ALL).map(user));
    let begun = Instant::now();
    let told = import(&a, &body).await?;
    let took = begun.elapsed();
    ensure!(told["added"] == ALL && told["rejected"] == 0 && told["alreadyMembers"] == 0, "{told}");
    let mut hears = Instant::now();
    let first = say(&a, "alice", "first").await?;
    for ws in &mut connected {
        heard(ws, "first").await?;
    }
    let newcomers = hears.elapsed();
    ensure!(newcomers < Duration::from_secs(2), "newcomers heard after {newcomers:?}");
    let mut slowest_append = first;
    for n in 0..50 {
        slowest_append = slowest_append.max(say(&b, &user(n), &format!("m-{n}")).await?);
    }
    let grown = (rss_mb(&a)?.saturating_sub(before.0), rss_mb(&b)?.saturating_sub(before.1));
    hears = Instant::now();
    let again = import(&b, &body).await?;
    ensure!(again["added"] == 0 && again["alreadyMembers"] == ALL, "{again}");
    let repeated = hears.elapsed();
    hears = Instant::now();
    let room = b.call("GET", "/api/v1/conversations/room", None).await?;
    ensure!(room["members"].as_array().is_some_and(|all| all.len() == ALL + 1), "all are told of");
    let longest = slowest(&redis).await?;
    eprintln!(
        "imported in {took:?}, again in {repeated:?}, read in {:?}; newcomers heard within {newcomers:?}; slowest append {slowest_append:?}; \
         slow calls {longest:?} ms; nodes grew by {grown:?} MB",
        hears.elapsed()
    );
    ensure!(longest.values().all(|ms| *ms <= LONGEST_MS * BUSY), "Redis was kept busy: {longest:?}");
    ensure!(grown.0 < 100 && grown.1 < 100, "nodes grew by {grown:?} MB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_in_two_halves_on_two_nodes_at_once_counts_everybody_once() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice"]).await?;
    let mut last = b.connect("/sechat", &user(11_999)).await?;
    // The middle third is in both.
    let (one, two) = (lines((0..8_000).map(user)), lines((4_000..12_000).map(user)));
    let (one, two) = tokio::try_join!(import(&a, &one), import(&b, &two))?;
    let of = |name: &str| one[name].as_u64().unwrap_or(0) + two[name].as_u64().unwrap_or(0);
    ensure!((of("added"), of("alreadyMembers")) == (12_000, 4_000), "{one} {two}");
    // A change of one member of very many is told by name, and does what it says.
    a.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "removeMembers": [user(5)] }))).await?;
    say(&a, "alice", "hello").await?;
    heard(&mut last, "hello").await?;
    let body = json!({ "senderId": user(5), "body": "out" });
    ensure!(b.api("POST", "/api/v1/conversations/room/messages", Some(&body)).await?.0 == 403);
    let room = a.call("GET", "/api/v1/conversations/room", None).await?;
    ensure!(room["members"].as_array().is_some_and(|all| all.len() == 12_000), "one went");
    Ok(())
}
