//! Queries: values that are none, names twice, names nobody knows.

use anyhow::{Context, Result, ensure};

use super::calls::{Side, Who};
use super::stage::{Stage, expect};

/// Query and answer of each address that has one.
const POLL: &[(&str, u16)] = &[
    ("", 400),
    ("user_id=", 400),
    ("user_id=alice&last_poll_id=x&timeout=0", 400),
    ("user_id=alice&last_poll_id=-1&timeout=0", 400),
    ("user_id=alice&last_poll_id=1.5&timeout=0", 400),
    ("user_id=alice&last_poll_id=1e3&timeout=0", 400),
    ("user_id=alice&last_poll_id=%00&timeout=0", 400),
    ("user_id=alice&last_poll_id=9007199254740993&timeout=0", 400),
    ("user_id=alice&last_poll_id=99999999999999999999999&timeout=0", 400),
    ("user_id=alice&timeout=x", 400),
    ("user_id=alice&timeout=-1", 400),
    ("user_id=alice&timeout=NaN", 400),
    ("user_id=alice&timeout=inf", 400),
    ("user_id=bob&timeout=0", 403),
    ("user_id=Alice&timeout=0", 403),
    ("user_id=alice%00&timeout=0", 403),
    ("user_id=alice%20&timeout=0", 403),
    ("user_id=*&timeout=0", 403),
    ("user_id=alice&user_id=bob&timeout=0", 403),
    ("user_id=alice&timeout=0&unknown=1&unknown=2", 200),
    ("user_id=alice&timeout=0&last_poll_id=9007199254740991", 200),
    ("user_id=alice&&&timeout=0&=&==&%", 200),
    ("user%5fid=alice&timeout=0", 200),
];

const HISTORY: &[(&str, u16)] = &[
    ("limit=x", 400),
    ("limit=-1", 400),
    ("limit=1.5", 400),
    ("limit=%00", 400),
    ("limit=99999999999999999999999", 400),
    ("since=yesterday", 400),
    ("since=%ff", 400),
    ("after=x%20y", 400),
    ("after=-1", 400),
    ("before=x%20y", 400),
    ("before=%00", 400),
    ("before=99999999999999999999999999", 400),
    ("limit=5", 200),
    ("limit=&after=&before=&since=", 200),
    ("%&=&==", 200),
];

const ENGINE: &[(&str, u16)] = &[
    ("", 400),
    ("EIO=4", 400),
    ("transport=polling", 400),
    ("EIO=3&transport=polling", 400),
    ("EIO=5&transport=polling", 400),
    ("EIO=4x&transport=polling", 400),
    ("EIO=04&transport=polling", 400),
    ("EIO=4%00&transport=polling", 400),
    ("EIO=&transport=polling", 400),
    ("EIO=4&EIO=4&transport=polling", 400),
    ("EIO=4&transport=polling&transport=polling", 400),
    ("EIO=4&transport=Polling", 400),
    ("EIO=4&transport=webtransport", 400),
    ("EIO=4&transport=constructor", 400),
    ("EIO=4&transport=__proto__", 400),
    ("EIO=4&transport=websocket", 400),
    ("EIO=4&transport=polling&sid=x", 400),
    ("EIO=4&transport=polling&sid=%00", 400),
    ("EIO=4&transport=polling&sid=%ff", 400),
    ("EIO=4&transport=polling&sid=../../x", 400),
    ("EIO=4&transport=polling&sid=constructor", 400),
    ("EIO=4&transport=polling&sid=n1.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 400),
    ("EIO=4&transport=polling&sid=nobody-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 400),
    ("eio=4&transport=polling", 400),
    ("EIO=4;transport=polling", 400),
    ("EIO=4&transport=polling&j=0&b64=1&t=x&%&=", 200),
    ("EIO=%34&transport=%70olling&sid=", 200),
];

async fn tried(stage: &Stage, addresses: &[&str], queries: &[(&str, u16)]) -> Result<()> {
    let known = stage.credentials(Who::Alice);
    for address in addresses {
        let long = format!("x={}", "y".repeat(6_000));
        let many = "a=b&".repeat(1_500);
        let more = [(&*long, 0), (&*many, 0)];
        for (query, status) in queries.iter().copied().chain(more) {
            let asked = format!("GET {address}?{query} HTTP/1.1\r\nHost: x\r\n{known}\r\n");
            let name = || format!("{address}?{}", query.get(..60).unwrap_or(query));
            let answer = stage.ask(Side::Public, asked).await.with_context(name)?;
            if status == 0 {
                ensure!(answer.status < 500, "{}: {answer:?}", name());
            } else if answer.status == 200 && status == 200 {
                continue;
            } else {
                expect(&answer, status).with_context(name)?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn queries_of_polls() -> Result<()> {
    let stage = Stage::plain().await?;
    tried(&stage, &["/api/v1/realtime/poll"], POLL).await?;
    let missed: Vec<(String, u16)> =
        POLL.iter()
            .filter(|(query, _)| query.contains("last_poll_id") || query.contains("user_id=bob"))
            .map(|(query, status)| (query.replace("last_poll_id", "last_sequence"), *status))
            .map(|(query, status)| {
                if query.contains("last_seq") {
                    (query, status)
                } else {
                    (query + "&last_sequence=0", status)
                }
            })
            .collect();
    let missed: Vec<(&str, u16)> = missed.iter().map(|(query, status)| (&**query, *status)).collect();
    tried(&stage, &["/api/v1/realtime/poll/missed"], &missed).await?;
    stage.left_as_before().await
}

#[tokio::test]
async fn queries_of_history() -> Result<()> {
    let stage = Stage::plain().await?;
    tried(&stage, &["/v1/chats/c1/messages", "/api/v1/conversations/c1/messages"], HISTORY).await?;
    let dialects =
        [("dialect=klingon", 400), ("dialect=Famly", 400), ("dialect=famly%00", 400), ("dialect=famly", 200)];
    tried(&stage, &["/api/v1/conversations/c1/messages"], &dialects).await?;
    let known = stage.credentials(Who::Backend);
    for (query, status) in HISTORY.iter().copied().chain([("unknown=1", 400), ("limit=1&limit=2", 400)]) {
        // The server API passes over nothing it does not know, an empty limit among it.
        let status = if query.starts_with("limit=&") || query.starts_with('%') { 400 } else { status };
        let asked =
            format!("GET /api/v1/conversations/c1/messages?{query} HTTP/1.1\r\nHost: x\r\n{known}\r\n");
        let answer = stage.ask(Side::Internal, asked).await?;
        expect(&answer, status).with_context(|| query.to_owned())?;
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn queries_of_engine_io() -> Result<()> {
    let stage = Stage::plain().await?;
    let mounts =
        ["/socket.io/", "/sechat/socket.io/", "/lingochat/socket.io/", "/api/socket.io/", "/socket.io"];
    tried(&stage, &mounts, ENGINE).await
}
