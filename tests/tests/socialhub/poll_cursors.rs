//! Cursors of polls: far behind, of the future, and no cursors at all.

use crate::poll_support::{POLL, Poller, get, say, unlimited};
use crate::support::{conversation, notify};
use anyhow::{Result, ensure};
use parlance_tests::http::Request;
use parlance_tests::{Gateway, Options};
use serde_json::json;

#[tokio::test]
async fn pages_of_a_long_backlog_follow_each_other_from_any_cursor() -> Result<()> {
    let node = Gateway::start(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await?;
    // A log keeps its newest 1,000.
    for room in ["c0", "c1"] {
        conversation(&node, room, &["alice", "bob"]).await?;
    }
    let mut alice = Poller::new("alice")?;
    alice.poll(node.address(), 0.0).await?;
    for n in 0..1_010 {
        say(&node, &format!("c{}", n % 2), "bob", &format!("m{n}")).await?;
    }
    let mut pages = Vec::new();
    loop {
        let answer = alice.ask(node.address(), 0.0).await?;
        let told = alice.take(&answer)?.len();
        let more = answer.json()?["has_more"] == true;
        pages.push((told, more));
        if !more {
            break;
        }
        ensure!(told > 0 && pages.len() < 20, "pages without end: {pages:?}");
    }
    ensure!(pages.iter().map(|(told, _)| told).sum::<usize>() == 1_010, "{pages:?}");
    ensure!(pages.len() == 5, "a page holds 250 at most: {pages:?}");
    ensure!(alice.ids() == (1..=1_010).collect::<Vec<_>>(), "{:?}", alice.ids());
    // Any cursor of the past gives what came after it, and the same page each time.
    for cursor in [0, 1, 249, 250, 700, 1_009] {
        let mut once = Poller { cursor, events: Vec::new(), ..alice.clone() };
        let mut twice = once.clone();
        once.poll(node.address(), 0.0).await?;
        twice.poll(node.address(), 0.0).await?;
        let from = usize::try_from(cursor)?;
        ensure!(once.events == twice.events, "{cursor}: not the same twice");
        ensure!(once.events == alice.events[from..(from + 250).min(1_010)], "{cursor}: {:?}", once.ids());
    }
    let path = format!("{POLL}/missed?user_id=alice&last_sequence=0");
    let missed = get(node.address(), &path, Some(&alice.token)).await?.json()?;
    ensure!(missed["messages"].as_array().map(Vec::len) == Some(1_000), "{}", missed["last_sequence"]);
    ensure!(missed["has_more"] == true && missed["last_sequence"] == 1_000, "{}", missed["has_more"]);
    Ok(())
}

#[tokio::test]
async fn a_cursor_of_the_future_is_told_so_at_once_and_from_where_to_go_on() -> Result<()> {
    let node = Gateway::start(unlimited()).await?;
    let mut alice = Poller::new("alice")?;
    for n in 1..=3 {
        notify(&node, "alice", "note", &json!({ "n": n })).await?;
    }
    alice.poll(node.address(), 0.0).await?;
    ensure!(alice.ids() == [1, 2, 3], "{:?}", alice.events);
    let lost = Poller { cursor: 1_000, ..alice.clone() };
    // It says so again to whoever asks again: nothing is told once only.
    for _ in 0..2 {
        let answer = lost.ask(node.address(), 5.0).await?.json()?;
        let event = &answer["events"][0];
        ensure!(answer["last_poll_id"] == 3 && answer["has_more"] == false, "{answer}");
        ensure!(event["type"] == "error" && event["payload"]["details"]["resync"] == true, "{answer}");
        ensure!(event["payload"]["details"]["from"] == 4, "{answer}");
    }
    let path = format!("{POLL}/missed?user_id=alice&last_sequence=1000");
    let missed = get(node.address(), &path, Some(&alice.token)).await?.json()?;
    ensure!(missed["last_sequence"] == 3 && missed["messages"][0]["type"] == "error", "{missed}");
    notify(&node, "alice", "note", &json!({ "n": 4 })).await?;
    let mut back = Poller { cursor: 3, events: Vec::new(), ..alice.clone() };
    back.poll(node.address(), 5.0).await?;
    ensure!(back.ids() == [4], "{:?}", back.events);
    // Who has never been told anything begins at the beginning.
    let nobody = Poller { cursor: 7, ..Poller::new("nobody")? };
    let answer = nobody.ask(node.address(), 5.0).await?.json()?;
    ensure!(answer["last_poll_id"] == 0 && answer["events"][0]["type"] == "error", "{answer}");
    Ok(())
}

#[tokio::test]
async fn garbage_for_a_cursor_is_refused_by_its_name() -> Result<()> {
    let node = Gateway::start(unlimited()).await?;
    let token = parlance_tests::token("alice")?;
    let address = node.address();
    for bad in
        ["x", "-1", "1.5", "0x10", "9007199254740993", "99999999999999999999999", "1%00", "NaN", "%F0%9F"]
    {
        for (path, name) in [("", "last_poll_id"), ("/missed", "last_sequence")] {
            let path = format!("{POLL}{path}?user_id=alice&timeout=0&{name}={bad}");
            let answer = get(address, &path, Some(&token)).await?;
            ensure!(answer.status == 400, "{path}: {answer:?}");
            ensure!(answer.json()?["error"] == format!("{name} must be an integer"), "{path}: {answer:?}");
            ensure!(answer.header("cache-control") == Some("no-store"), "{answer:?}");
        }
    }
    for bad in [json!(-1), json!(1.5), json!("x"), json!([]), json!({}), json!(true), json!(1e300)] {
        let body = json!({ "user_id": "alice", "last_poll_id": bad });
        let (bearer, body) = (Some(token.as_str()), Some(&body));
        let answer = Request { address, method: "POST", path: POLL, bearer, body }.send().await?;
        ensure!(answer.status == 400 && answer.json()?["code"] == "INVALID_MESSAGE", "{bad}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_this_vocabulary_has_no_word_for_takes_no_integer() -> Result<()> {
    let node = Gateway::start(unlimited()).await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut socket = crate::support::Client::on(&node, "alice", "conversation:c").await?;
    for n in 0..3 {
        say(&node, "c", "bob", &format!("m{n}")).await?;
        let change = json!({ "addMembers": [format!("user-{n}")], "title": format!("title {n}") });
        node.call("PATCH", "/api/v1/conversations/c", Some(&change)).await?;
    }
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(socket.hear("message").await?["seq"].as_u64().unwrap_or_default());
    }
    ensure!(seqs == [1, 2, 3], "{seqs:?}");
    let mut alice = Poller::new("alice")?;
    alice.poll(node.address(), 0.0).await?;
    ensure!(alice.ids() == [1, 2, 3], "{:?}", alice.events);
    Ok(())
}
