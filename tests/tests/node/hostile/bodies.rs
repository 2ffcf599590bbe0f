//! Bodies: JSON that is none, too large, cut short, badly chunked, compressed, announced and not sent.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::calls::{CALLS, Call, Side};
use super::stage::{Setting, Stage, expect};

/// Bodies that are no object, whatever the call.
const NONE: &[&[u8]] = &[
    b"x",
    b"{",
    b"}",
    b"[]",
    b"null",
    b"1",
    b"\"{}\"",
    b"{}{}",
    b"{} x",
    b"{\"a\":1,}",
    b"{a:1}",
    b"{'a':1}",
    b"{\"a\":NaN}",
    b"{\"a\":Infinity}",
    b"{\"a\":01}",
    b"{\"a\":1e99999}",
    b"{\"a\":\"\\ud800\"}",
    b"{\"a\":\"\\x\"}",
    b"{\"a\":\"\x01\"}",
    b"{\"a\":\"\xff\"}",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    b"a=b&c=d",
    b"<a/>",
    b"{\"a\":1 /* no */}",
    b"\0",
];

/// Members that no call has, or not so. A poll passes over members it does not know, as its clients may have more.
const UNFIT: &[&str] = &[
    r#"{"id":5,"user_id":5,"channel":5,"users":5,"jti":5,"enabled":5,"reason":5,"title":5,"senderId":5}"#,
    r#"{"id":[],"user_id":[],"channel":{},"users":{},"jti":{},"enabled":{},"reason":{},"title":{},"senderId":{}}"#,
    r#"{"id":"","user_id":"","channel":"","users":[""],"jti":"","enabled":"","senderId":"","nobody":1}"#,
    r#"{"title":"t","title":"u","user_id":"alice","user_id":"bob","enabled":true,"enabled":false,"x":1}"#,
    r#"{"__proto__":{"a":1},"constructor":1}"#,
];

fn posted() -> impl Iterator<Item = (&'static Call, &'static str)> {
    CALLS.iter().filter_map(|call| Some((call, call.body?)))
}

fn bytes(stage: &Stage, call: &Call, body: &[u8]) -> Vec<u8> {
    let head = stage.head(call, &format!("Content-Length: {}\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// An object with one member more, which is deep.
fn deep(body: &str, levels: usize) -> String {
    let inside = body.trim_end_matches('}');
    format!("{inside},\"deep\":{}{}}}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn what_is_no_json_or_not_that_of_the_call_is_refused() -> Result<()> {
    let stage = Stage::plain().await?;
    for (call, good) in posted() {
        let deep = [deep(good, 40), deep(good, 5_000), deep(good, 400_000)];
        let unfit = UNFIT.iter().copied().map(str::as_bytes).chain(deep.iter().map(String::as_bytes));
        for body in NONE.iter().copied().chain(unfit) {
            // No body counts as `null`, and this call needs none.
            if body == b"null" && call.target.ends_with("/disconnect") {
                continue;
            }
            let name = || {
                let start: String = String::from_utf8_lossy(body).chars().take(60).collect();
                format!("{} {} with {start:?}", call.method, call.target)
            };
            let answer = stage.ask(call.side, bytes(&stage, call, body)).await.with_context(name)?;
            // A poll takes a number for a name, which is another user's then.
            let status = match answer.status {
                403 if call.side == Side::Public => 403,
                // A call that needs little takes little.
                413 if body.len() > 4096 => 413,
                _ => 400,
            };
            expect(&answer, status).with_context(name)?;
        }
    }
    stage.left_as_before().await
}

/// Content types are not looked at: a body is JSON or it is refused, whatever is said of it.
#[tokio::test]
async fn what_a_body_is_called_does_not_matter() -> Result<()> {
    let stage = Stage::plain().await?;
    for (call, good) in posted() {
        for kind in
            ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
        {
            let about = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", good.len());
            let answer = stage.ask(call.side, stage.head(call, &about) + good).await?;
            ensure!(answer.status == call.status, "{} as {kind:?}: {answer:?}", call.target);
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn what_is_too_large_is_refused_while_it_is_sent() -> Result<()> {
    let stage = Stage::start(&Setting { limits: "http_body_bytes = 100000", ..Setting::default() }).await?;
    for (call, good) in posted() {
        let name = || format!("{} {}", call.method, call.target);
        // White space before the end: good JSON, but for its size.
        let body = format!("{}{}}}", good.trim_end_matches('}'), " ".repeat(3_000_000));
        let answer = stage.ask(call.side, bytes(&stage, call, body.as_bytes())).await.with_context(name)?;
        expect(&answer, 413).with_context(name)?;
        // In chunks nobody knows how much will come.
        let mut chunks = String::new();
        for _ in 0..40 {
            write!(chunks, "2710\r\n{}\r\n", " ".repeat(10_000))?;
        }
        let head = stage.head(call, "Transfer-Encoding: chunked\r\n");
        let answer = stage.ask(call.side, format!("{head}{chunks}")).await.with_context(name)?;
        expect(&answer, 413).with_context(name)?;
    }
    for call in CALLS.iter().filter(|call| call.body.is_none() && call.method != "HEAD" && !call.socket) {
        // Nobody reads it: the answer is the call's own, and arrives.
        let name = || format!("{} {} with a body", call.method, call.target);
        let body = vec![b' '; 3_000_000];
        let answer = stage.ask(call.side, bytes(&stage, call, &body)).await.with_context(name)?;
        let right = answer.status == call.status || answer.status == 413;
        ensure!(right, "{}: {answer:?}", name());
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn chunks_that_are_none_are_refused() -> Result<()> {
    let stage = Stage::start(&Setting { limits: "message_ms = 500", ..Setting::default() }).await?;
    let extension = format!("1;{}\r\n{{\r\n0\r\n\r\n", "x".repeat(100_000));
    let extensions = format!("{}0\r\n\r\n", "1;a=b;c=\"d\"\r\n \r\n".repeat(5_000));
    let trailers = format!("0\r\n{}\r\n", "X-A: b\r\n".repeat(5_000));
    let trailer = format!("0\r\nX-A: {}\r\n\r\n", "b".repeat(100_000));
    let sizes = [
        "fffffffffffffffffffff\r\n{\r\n0\r\n\r\n",
        "-1\r\n{\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
        "2 2\r\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "x\r\n{}\r\n0\r\n\r\n",
        "2;\n{}\r\n0\r\n\r\n",
    ];
    for (call, _) in posted() {
        // As large as a number can be: it never comes.
        let head = stage.head(call, "Transfer-Encoding: chunked\r\n");
        let answer = stage.ask(call.side, head + "ffffffffffffffff\r\n{").await.context(call.target)?;
        ensure!(matches!(answer.status, 400 | 408 | 413), "{}: {answer:?}", call.target);
        for chunks in sizes.into_iter().chain([&*extension, &*extensions, &*trailers, &*trailer]) {
            let name =
                || format!("{} {}: {:?}", call.method, call.target, chunks.get(..30).unwrap_or(chunks));
            let head = stage.head(call, "Transfer-Encoding: chunked\r\n");
            let mut raw = stage.raw(call.side).await?;
            let answer = raw.ask(head + chunks).await.with_context(name)?;
            expect(&answer, 400).with_context(name)?;
            let rest = raw.ended().await.with_context(name)?;
            ensure!(rest.is_empty(), "{}: {:?}", name(), String::from_utf8_lossy(&rest));
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn good_chunks_are_put_together_and_a_body_is_asked_for() -> Result<()> {
    let stage = Stage::plain().await?;
    for (call, good) in posted() {
        let mut chunks = String::new();
        for character in good.chars() {
            write!(chunks, "1;ext=\"a\"\r\n{character}\r\n")?;
        }
        let head = stage.head(call, "Transfer-Encoding: Chunked\r\nTrailer: X-A\r\n");
        let answer = stage.ask(call.side, format!("{head}{chunks}0\r\nX-A: b\r\n\r\n")).await?;
        ensure!(answer.status == call.status, "{}: {answer:?}", call.target);
        let about = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", good.len());
        let mut raw = stage.raw(call.side).await?;
        raw.send(stage.head(call, &about)).await?;
        ensure!(raw.read(25).await? == 25, "the body is asked for");
        let answer = raw.ask(good).await?;
        ensure!(answer.status == call.status, "{}: {answer:?}", call.target);
    }
    stage.left_as_before().await
}

/// Whoever is not let in is not asked for a body, and is answered without one.
#[tokio::test]
async fn strangers_are_refused_before_their_body() -> Result<()> {
    let stage = Stage::plain().await?;
    for (call, good) in posted() {
        let stranger = Call { who: super::calls::Who::Anybody, ..*call };
        let about = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", good.len());
        let mut raw = stage.raw(call.side).await?;
        raw.send(stage.head(&stranger, &about)).await?;
        ensure!(raw.read(12).await? == 12, "{}", call.target);
        let rest = raw.ended().await?;
        ensure!(rest.starts_with(b" Unauthorized"), "{}: {:?}", call.target, String::from_utf8_lossy(&rest));
    }
    stage.left_as_before().await
}

/// A payload of a session is refused without harm to the session, when the session is not to blame.
#[tokio::test]
async fn payloads_of_a_session() -> Result<()> {
    let stage = Stage::plain().await?;
    let open = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n";
    for (about, body, status, lives) in [
        ("", vec![b'4'; 1_000_001], 413, true),
        ("Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), 415, true),
        ("Content-Type: application/octet-stream\r\n", b"\x04x".to_vec(), 400, false),
        ("", b"4\xff".to_vec(), 400, false),
        ("", b"9".to_vec(), 400, false),
        ("", b"".to_vec(), 400, false),
        ("", b"2".to_vec(), 400, false),
    ] {
        let answer = stage.ask(Side::Public, open).await?;
        let said = answer.body.get(1..).context("no open packet")?;
        let said: serde_json::Value = serde_json::from_str(said)?;
        let sid = said["sid"].as_str().context("no sid")?;
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: x\r\n{about}Content-Length: {}\r\n\r\n", body.len());
        let answer = stage.ask(Side::Public, [head.as_bytes(), &body].concat()).await?;
        let start = String::from_utf8_lossy(&body).chars().take(20).collect::<String>();
        ensure!(answer.status == status, "{about}{start:?}: {answer:?}");
        let close = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
        let after = stage.ask(Side::Public, close).await?;
        ensure!((after.status == 200) == lives, "{about}{start:?}: {after:?} afterwards");
    }
    stage.left_as_before().await
}
