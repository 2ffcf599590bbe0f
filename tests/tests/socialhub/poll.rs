//! SocialHub's polling at one node: what is told, what is refused, and that nothing is lost or doubled.
#![allow(clippy::disallowed_methods, reason = "a poll waits beside what it waits for, and is awaited")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::poll_support::{POLL, Poller, begin, get, say, until_listening};
use crate::support::{Client, conversation, gateway, notify, publish};
use anyhow::{Context, Result, ensure};
use parlance_tests::http::Request;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, SECRET, token};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A node without limits on polls.
async fn unlimited() -> Result<Gateway> {
    Gateway::start(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await
}

/// Waits for another millisecond: what happens in different logs within one has no order.
async fn later() {
    let millisecond = || SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis());
    let now = millisecond();
    while millisecond() == now {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_that_happened_is_told_in_order_and_again_when_asked_again() -> Result<()> {
    let node = gateway().await?;
    conversation(&node, "c1", &["alice", "bob"]).await?;
    conversation(&node, "c2", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    say(&node, "c1", "bob", "one").await?;
    later().await;
    notify(&node, "alice", "notification", &json!({ "message": "hi" })).await?;
    later().await;
    say(&node, "c2", "bob", "two").await?;
    let events = alice.poll(node.address(), 0.0).await?;
    let kinds: Vec<_> = events.iter().filter_map(|e| e["type"].as_str()).collect();
    ensure!(kinds == ["message", "notification", "message"], "{events:?}");
    ensure!(alice.ids() == [1, 2, 3] && alice.texts() == ["one", "two"], "{events:?}");
    ensure!(
        events[0]["channel"] == "conversation:c1" && events[1]["channel"] == "notifications",
        "{events:?}"
    );
    ensure!(events[1]["payload"] == json!({ "message": "hi" }), "{events:?}");
    ensure!(events[0]["timestamp"].is_string(), "{events:?}");
    // The same cursor, the same answer: nothing is taken away by reading.
    let mut again = Poller::new("alice")?;
    ensure!(again.poll(node.address(), 8.0).await? == events, "{:?}", again.events);
    let empty = alice.ask(node.address(), 0.0).await?.json()?;
    ensure!(empty == json!({ "events": [], "last_poll_id": 3, "has_more": false }), "{empty}");
    // Somebody else has other integers, and only what is theirs.
    let mut bob = Poller::new("bob")?;
    bob.poll(node.address(), 0.0).await?;
    ensure!(bob.ids() == [1, 2] && bob.texts() == ["one", "two"], "{:?}", bob.events);
    Ok(())
}

#[tokio::test]
async fn a_post_asks_the_same_and_missed_tells_envelopes() -> Result<()> {
    let node = gateway().await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    say(&node, "c", "bob", "one").await?;
    say(&node, "c", "bob", "two").await?;
    let mut alice = Poller::new("alice")?;
    let body = json!({ "user_id": "alice", "last_poll_id": 1 });
    let (address, bearer) = (node.address(), Some(alice.token.as_str()));
    let asked = Request { address, method: "POST", path: POLL, bearer, body: Some(&body) }.send().await?;
    let told = asked.json()?;
    ensure!(
        told["events"][0]["type"] == "error" && told["last_poll_id"] == 0,
        "nothing had an integer before: {told}"
    );
    alice.poll(address, 0.0).await?;
    let asked =
        Request { address, method: "POST", path: POLL, bearer: Some(&alice.token), body: Some(&body) };
    let asked = asked.send().await?.json()?;
    ensure!(asked["events"] == json!([alice.events[1]]) && asked["last_poll_id"] == 2, "{asked}");
    let path = format!("{POLL}/missed?user_id=alice&last_sequence=1");
    let missed = get(address, &path, Some(&alice.token)).await?.json()?;
    let messages = missed["messages"].as_array().context("no messages")?;
    ensure!(messages.len() == 1, "{missed}");
    let (told, polled) = (&messages[0], &alice.events[1]);
    ensure!(told["seq"] == 2 && told["id"] == polled["payload"]["id"], "{missed}");
    ensure!(told["payload"] == polled["payload"] && told["channel"] == polled["channel"], "{missed}");
    Ok(())
}

#[tokio::test]
async fn a_waiting_poll_wakes_for_messages_typing_and_what_a_socket_subscribed() -> Result<()> {
    let node = unlimited().await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    let mut bob = Client::on(&node, "bob", "conversation:c").await?;
    let started = Instant::now();
    ensure!(alice.poll(node.address(), 0.4).await?.is_empty(), "{:?}", alice.events);
    ensure!(started.elapsed() >= Duration::from_millis(400), "it waited {:?}", started.elapsed());
    let address = node.address().to_owned();
    let wait = |poller: &Poller| {
        let (poller, address) = (poller.clone(), address.clone());
        tokio::spawn(async move { poller.ask(&address, 8.0).await })
    };
    let waiting = wait(&alice);
    until_listening(&node).await?;
    bob.say("c", "hello").await?;
    let said = Instant::now();
    alice.take(&waiting.await??)?;
    ensure!(alice.texts() == ["hello"], "{:?}", alice.events);
    ensure!(said.elapsed() < Duration::from_secs(5), "it took {:?}", said.elapsed());
    let waiting = wait(&alice);
    until_listening(&node).await?;
    bob.tell("typing_start", json!({ "conversation_id": "c" })).await?;
    let events = alice.take(&waiting.await??)?;
    ensure!(events.len() == 1 && events[0]["type"] == "typing_start", "{events:?}");
    ensure!(events[0]["payload"]["user_id"] == "bob", "{events:?}");
    // A socket of the same token subscribed to a presence.
    let mut socket = Client::with_token(&node, "alice", alice.token.clone()).await?;
    socket.subscribe("presence:carol").await?;
    let waiting = wait(&alice);
    until_listening(&node).await?;
    let _carol = Client::connect(&node, "carol").await?;
    let events = alice.take(&waiting.await??)?;
    ensure!(
        events.iter().any(|e| e["type"] == "presence" && e["payload"]["user_id"] == "carol"),
        "{events:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_poller_and_a_socket_of_one_user_see_the_same_integers() -> Result<()> {
    let node = unlimited().await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    let mut socket = Client::with_token(&node, "alice", alice.token.clone()).await?;
    socket.subscribe("conversation:c").await?;
    let mut told = Vec::new();
    // The habit of the stock client: it polls beside its socket, and aborts a poll for the next one.
    for n in 0..20 {
        drop(begin(node.address(), &alice).await?);
        say(&node, "c", "bob", &format!("m{n}")).await?;
        let frame = socket.hear("message").await?;
        told.push((frame["seq"].as_u64().context("no seq")?, frame["payload"]["content"].clone()));
        drop(begin(node.address(), &alice).await?);
        if n % 3 == 0 {
            alice.poll(node.address(), 5.0).await?;
        }
    }
    alice.until(node.address(), 20).await?;
    let polled: Vec<_> = alice
        .events
        .iter()
        .map(|e| (e["id"].as_u64().unwrap_or_default(), e["payload"]["content"].clone()))
        .collect();
    ensure!(polled == told, "{polled:?} is not {told:?}");
    ensure!(alice.ids() == (1..=20).collect::<Vec<_>>(), "{:?}", alice.ids());
    Ok(())
}

#[tokio::test]
async fn a_thousand_events_are_kept_and_told_page_by_page() -> Result<()> {
    let node = unlimited().await?;
    conversation(&node, "c0", &["alice", "bob"]).await?;
    conversation(&node, "c1", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    alice.poll(node.address(), 0.0).await?;
    for n in 0..1_050 {
        say(&node, &format!("c{}", n % 2), "bob", &format!("m{n}")).await?;
    }
    let mut more = true;
    while more {
        let answer = alice.ask(node.address(), 0.0).await?;
        more = answer.json()?["has_more"] == true;
        alice.take(&answer)?;
    }
    for room in [0, 1] {
        let expected: Vec<String> = (0..1_050).filter(|n| n % 2 == room).map(|n| format!("m{n}")).collect();
        let channel = format!("conversation:c{room}");
        let of_room = alice.events.iter().filter(|event| event["channel"] == channel);
        let heard: Vec<_> = of_room.filter_map(|event| event["payload"]["content"].as_str()).collect();
        ensure!(heard == expected, "{} came", heard.len());
    }
    ensure!(alice.ids() == (1..=1_050).collect::<Vec<_>>(), "{:?}", alice.ids());
    let path = format!("{POLL}/missed?user_id=alice&last_sequence=50");
    let missed = get(node.address(), &path, Some(&alice.token)).await?.json()?;
    ensure!(missed["messages"].as_array().map(Vec::len) == Some(1_000), "{}", missed["has_more"]);
    Ok(())
}

#[tokio::test]
async fn what_is_kept_no_more_is_not_passed_over_in_silence() -> Result<()> {
    let node =
        Gateway::start(Options::brief().config("retention.entries = 100").env("PARLANCE_NO_LIMITS", "true"));
    let node = node.await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    say(&node, "c", "bob", "told").await?;
    alice.poll(node.address(), 0.0).await?;
    for n in 0..150 {
        say(&node, "c", "bob", &format!("m{n}")).await?;
    }
    let events = alice.poll(node.address(), 0.0).await?;
    ensure!(events[0]["type"] == "error", "{:?}", events.first());
    ensure!(events[0]["payload"]["details"]["resync"] == true, "{:?}", events.first());
    let expected: Vec<String> = (50..150).map(|n| format!("m{n}")).collect();
    ensure!(alice.texts()[1..] == expected, "{:?}", alice.texts());
    Ok(())
}

#[tokio::test]
async fn who_may_poll_and_what_is_refused() -> Result<()> {
    let node = unlimited().await?;
    let address = node.address();
    let alice = token("alice")?;
    let old = sign(&json!({ "user_id": "alice", "exp": expiry(Duration::ZERO) - 60 }), SECRET)?;
    let ask = |query: &str, bearer: Option<&str>| {
        let (path, bearer) = (format!("{POLL}{query}"), bearer.map(str::to_owned));
        async move {
            let answer = get(address, &path, bearer.as_deref()).await?;
            let body = answer.json()?;
            anyhow::Ok((answer.status, body["error"].as_str().unwrap_or_default().to_owned()))
        }
    };
    for (query, bearer, status, error) in [
        ("?user_id=alice&timeout=0", None, 401, "missing token"),
        ("?user_id=alice&timeout=0", Some("a.b.c"), 401, "invalid token"),
        ("?user_id=alice&timeout=0", Some(old.as_str()), 401, "token expired"),
        ("?user_id=bob&timeout=0", Some(alice.as_str()), 403, "user_id is not the user of this token"),
        ("?timeout=0", Some(alice.as_str()), 400, "user_id is required"),
        ("?user_id=alice&timeout=x", Some(alice.as_str()), 400, "timeout must be a number of seconds"),
        ("?user_id=alice&last_poll_id=x", Some(alice.as_str()), 400, "last_poll_id must be an integer"),
        ("/missed?user_id=alice", Some(alice.as_str()), 400, "last_sequence is required"),
        ("/missed?last_sequence=1", Some(alice.as_str()), 400, "user_id is required"),
    ] {
        let told = ask(query, bearer).await?;
        ensure!(told == (status, error.to_owned()), "{query}: {told:?}");
    }
    ensure!(ask(&format!("?user_id=alice&timeout=0&token={alice}"), None).await?.0 == 200);
    for (body, status) in
        [(json!([]), 400), (json!({ "last_poll_id": 1 }), 400), (json!("x".repeat(2_000_000)), 413)]
    {
        let bearer = Some(alice.as_str());
        let answer =
            Request { address, method: "POST", path: POLL, bearer, body: Some(&body) }.send().await?;
        ensure!(answer.status == status, "{answer:?}");
    }
    let wrong =
        Request { address, method: "DELETE", path: POLL, bearer: Some(&alice), body: None }.send().await?;
    ensure!(wrong.status == 405 && wrong.header("allow").is_some(), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn polls_are_limited_and_every_answer_says_so() -> Result<()> {
    let node = gateway().await?;
    let (alice, bob) = (Poller::new("alice")?, Poller::new("bob")?);
    for left in (0..30).rev() {
        let answer = alice.ask(node.address(), 0.0).await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.header("x-ratelimit-limit") == Some("30"), "{answer:?}");
        ensure!(answer.header("x-ratelimit-remaining") == Some(&left.to_string()), "{answer:?}");
        ensure!(answer.header("x-ratelimit-reset").is_some_and(|at| at.parse::<u64>().is_ok()), "{answer:?}");
    }
    let refused = alice.ask(node.address(), 0.0).await?;
    ensure!(refused.status == 429 && refused.json()?["code"] == "RATE_LIMITED", "{refused:?}");
    ensure!(refused.header("x-ratelimit-remaining") == Some("0"), "{refused:?}");
    let wait: u64 = refused.header("retry-after").context("no Retry-After")?.parse()?;
    ensure!((1..=60).contains(&wait), "{refused:?}");
    let path = format!("{POLL}/missed?user_id=alice&last_sequence=0");
    ensure!(get(node.address(), &path, Some(&alice.token)).await?.status == 429);
    ensure!(bob.ask(node.address(), 0.0).await?.status == 200);
    let stranger = get(node.address(), POLL, None).await?;
    ensure!(stranger.status == 401 && stranger.header("x-ratelimit-limit") == Some("30"), "{stranger:?}");
    Ok(())
}

#[tokio::test]
async fn who_leaves_a_conversation_hears_no_more_of_it_and_who_comes_hears_from_then_on() -> Result<()> {
    let node = unlimited().await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    say(&node, "c", "bob", "with alice").await?;
    let change = json!({ "removeMembers": ["alice"], "addMembers": ["carol"] });
    node.call("PATCH", "/api/v1/conversations/c", Some(&change)).await?;
    say(&node, "c", "bob", "with carol").await?;
    let (mut alice, mut carol) = (Poller::new("alice")?, Poller::new("carol")?);
    ensure!(alice.poll(node.address(), 0.0).await?.is_empty(), "{:?}", alice.events);
    carol.poll(node.address(), 0.0).await?;
    ensure!(carol.texts() == ["with carol"], "{:?}", carol.events);
    // Invited while it waits.
    let (poller, address) = (alice.clone(), node.address().to_owned());
    let waiting = tokio::spawn(async move { poller.ask(&address, 8.0).await });
    until_listening(&node).await?;
    node.call("PATCH", "/api/v1/conversations/c", Some(&json!({ "addMembers": ["alice"] }))).await?;
    say(&node, "c", "bob", "welcome back").await?;
    alice.take(&waiting.await??)?;
    ensure!(alice.texts() == ["welcome back"], "{:?}", alice.events);
    Ok(())
}

#[tokio::test]
async fn feed_updates_are_told_from_the_first_poll_on() -> Result<()> {
    let node = gateway().await?;
    let update = |n: u64| json!({ "channel": "feed:updates", "type": "feed_update", "payload": { "n": n } });
    publish(&node, &update(1)).await?;
    let mut alice = Poller::new("alice")?;
    ensure!(alice.poll(node.address(), 0.0).await?.is_empty(), "{:?}", alice.events);
    publish(&node, &update(2)).await?;
    let events = alice.poll(node.address(), 8.0).await?;
    ensure!(events.len() == 1 && events[0]["type"] == "feed_update", "{events:?}");
    ensure!(events[0]["payload"]["n"] == 2 && events[0]["channel"] == "feed:updates", "{events:?}");
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_ends_a_waiting_poll_and_a_browser_may_ask_first() -> Result<()> {
    let node = unlimited().await?;
    let alice = Poller::new("alice")?;
    let (poller, address) = (alice.clone(), node.address().to_owned());
    let waiting = tokio::spawn(async move { poller.ask(&address, 8.0).await });
    until_listening(&node).await?;
    let revoked = Instant::now();
    node.call("POST", "/api/v1/tokens/revoke", Some(&json!({ "user": "alice" }))).await?;
    let answer = waiting.await??;
    ensure!(answer.status == 401, "{answer:?}");
    ensure!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    let mut stream = TcpStream::connect(node.address()).await?;
    let head = format!(
        "OPTIONS {POLL} HTTP/1.1\r\nhost: {0}\r\norigin: http://{0}\r\naccess-control-request-method: GET\r\n\
         access-control-request-headers: authorization\r\n\r\n",
        node.address()
    );
    stream.write_all(head.as_bytes()).await?;
    let (preflight, _) = parlance_tests::http::read_head(&mut stream).await?;
    ensure!(preflight.status == 204, "{preflight:?}");
    ensure!(preflight.header("access-control-allow-headers") == Some("authorization"), "{preflight:?}");
    ensure!(
        preflight.header("access-control-allow-methods").is_some_and(|m| m.contains("POST")),
        "{preflight:?}"
    );
    Ok(())
}
