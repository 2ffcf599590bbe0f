//! Heads: framing that can be read in two ways, floods, other protocols. The same answer at every address.

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};

use super::calls::{CALLS, Call, Side};
use super::stage::{Stage, expect};

/// What becomes of a head.
enum Change {
    /// Further lines.
    Add(&'static str),
    /// A part is another one.
    Swap(&'static str, &'static str),
    /// Whatever the address: these bytes.
    Whole(fn() -> Vec<u8>),
    /// Further lines, made.
    Made(fn() -> String),
    /// Another target.
    Target(fn() -> String),
}

use Change::{Add, Made, Swap, Target, Whole};

/// Name, change, and the answer; `0` is the answer the call has anyway.
const CLASSES: &[(&str, Change, u16)] = &[
    ("no host", Swap("Host: x\r\n", ""), 400),
    ("two hosts", Add("Host: x"), 400),
    ("a list of hosts", Swap("Host: x", "Host: x, y"), 400),
    ("a host with a path", Swap("Host: x", "Host: x/y"), 400),
    ("a host with a user", Swap("Host: x", "Host: y@x"), 400),
    ("a host of bytes", Swap("Host: x", "Host: x y"), 400),
    ("two lengths", Add("Content-Length: 3\r\nContent-Length: 4"), 400),
    ("a list of lengths", Add("Content-Length: 3, 3"), 400),
    ("a positive length", Add("Content-Length: +3"), 400),
    ("a negative length", Add("Content-Length: -3"), 400),
    ("a length in hex", Add("Content-Length: 0x3"), 400),
    ("a length with exponent", Add("Content-Length: 1e3"), 400),
    ("a fraction of a length", Add("Content-Length: 3.0"), 400),
    ("no length", Add("Content-Length: "), 400),
    ("a length beyond 64 bits", Add("Content-Length: 99999999999999999999999"), 400),
    ("an endless length", Add("Content-Length: 18446744073709551615"), 431),
    ("a coding before a space", Add("Transfer-Encoding : chunked"), 400),
    ("a coding behind a tab", Add("Transfer-Encoding:\u{b}chunked"), 400),
    ("an unknown coding", Add("Transfer-Encoding: xchunked"), 400),
    ("a coding with a parameter", Add("Transfer-Encoding: chunked;a=b"), 400),
    ("a coding in quotes", Add("Transfer-Encoding: \"chunked\""), 400),
    ("no coding", Add("Transfer-Encoding:"), 400),
    ("identity", Add("Transfer-Encoding: identity"), 400),
    ("chunks in gzip", Add("Transfer-Encoding: chunked, gzip"), 400),
    ("gzip in chunks", Add("Transfer-Encoding: gzip, chunked"), 400),
    ("chunks in chunks", Add("Transfer-Encoding: chunked, chunked"), 400),
    ("two codings", Add("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
    ("a coding on the next line", Add("Transfer-Encoding:\r\n chunked"), 400),
    ("a folded line", Add("X-A: b\r\n c"), 400),
    ("a folded first line", Swap("Host: x", " Host: x"), 400),
    ("a line without a colon", Add("garbage"), 400),
    ("a line without a name", Add(": garbage"), 400),
    ("a name with a NUL", Add("X\0A: b"), 400),
    ("a name of bytes", Add("X\u{ff}A: b"), 400),
    ("a value with a NUL", Add("X-A: b\0c"), 400),
    ("a bare CR in a value", Add("X-A: b\rc"), 400),
    ("a space behind the version", Swap("HTTP/1.1\r\n", "HTTP/1.1 \r\n"), 400),
    ("a version to come", Swap("HTTP/1.1", "HTTP/1.2"), 400),
    ("another version", Swap("HTTP/1.1", "HTTP/2.0"), 400),
    ("a version in small letters", Swap("HTTP/1.1", "http/1.1"), 400),
    ("no version", Swap(" HTTP/1.1", ""), 400),
    ("compressed", Add("Content-Encoding: gzip"), 415),
    ("compressed twice", Add("Content-Encoding: identity\r\nContent-Encoding: deflate, br"), 415),
    ("many lines", Made(|| (0..80).map(|n| format!("X-{n}: 1\r\n")).collect()), 431),
    ("a long line", Made(|| format!("X: {}\r\n", "x".repeat(9_000))), 431),
    ("a very long line", Made(|| format!("X: {}\r\n", "x".repeat(1_000_000))), 431),
    ("a long name", Made(|| format!("{}: x\r\n", "x".repeat(9_000))), 431),
    ("a long target", Target(|| format!("/{}", "a".repeat(9_000))), 431),
    ("a very long target", Target(|| format!("/{}", "a".repeat(100_000))), 431),
    ("a target of bytes", Target(|| "/\u{ff}\u{fe}".to_owned()), 400),
    ("a target with a space", Target(|| "/a b".to_owned()), 400),
    ("no target", Target(String::new), 400),
    ("a target without a slash", Target(|| "livez/..".to_owned()), 400),
    ("HTTP/2", Whole(|| b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()), 400),
    ("TLS", Whole(hello), 400),
    ("bytes", Whole(|| (0..=255).cycle().skip(128).take(4_000).collect()), 400),
    ("a WebSocket frame", Whole(|| b"\x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e\r\n\r\n".to_vec()), 400),
    ("an endless word", Whole(|| vec![b'A'; 100_000]), 431),
    ("a length twice", Add("Content-Length: 0\r\nContent-Length: 0"), 0),
    ("an expectation", Add("Expect: the-unexpected"), 0),
    ("a proxy's word", Add("X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1;host=y"), 0),
    ("another node's words", Add("Parlance-Pass: x\r\nParlance-Client: 10.0.0.1"), 0),
    ("a method for proxies", Add("X-HTTP-Method-Override: DELETE"), 0),
];

/// A ClientHello, as far as it goes.
fn hello() -> Vec<u8> {
    let mut bytes = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    bytes.extend((0..=255).cycle().take(505));
    bytes
}

fn changed(head: &str, change: &Change) -> Vec<u8> {
    let add = |lines: &str| head.replacen("Host: x\r\n", &format!("Host: x\r\n{lines}"), 1);
    let text = match change {
        Add(line) => add(&format!("{line}\r\n")),
        Made(lines) => add(&lines()),
        Swap(from, to) => head.replacen(from, to, 1),
        Target(target) => {
            let mut words = head.splitn(3, ' ');
            let (method, _, rest) = (words.next(), words.next(), words.next());
            format!("{} {} {}", method.unwrap_or_default(), target(), rest.unwrap_or_default())
        }
        Whole(bytes) => return bytes(),
    };
    // One byte a character: some of these are to be no UTF-8.
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

async fn one(stage: &Stage, call: &Call, (name, change, status): &(&str, Change, u16)) -> Result<()> {
    let bytes = changed(&stage.head(call, ""), change);
    let mut raw = stage.raw(call.side).await?;
    let answer = raw.ask(&bytes).await;
    let answer = answer.with_context(|| format!("{name} at {} {}", call.method, call.target))?;
    if *status == 0 {
        let own = stage.ask(call.side, stage.head(call, "")).await?;
        ensure!(own.status == answer.status, "{name} at {}: {answer:?} and not {own:?}", call.target);
        return Ok(());
    }
    let said = if call.method == "HEAD" { Ok(()) } else { expect(&answer, *status).map(drop) };
    said.with_context(|| format!("{name} at {} {}", call.method, call.target))?;
    ensure!(answer.status == *status, "{name} at {}: {answer:?}", call.target);
    let rest =
        raw.ended().await.with_context(|| format!("{name}: where the next request begins is not sure"))?;
    ensure!(rest.is_empty(), "{name} at {}: more is answered: {rest:?}", call.target);
    Ok(())
}

#[tokio::test]
async fn every_address_refuses_what_can_be_read_in_two_ways() -> Result<()> {
    let stage = Stage::plain().await?;
    let all = CALLS.iter().flat_map(|call| CLASSES.iter().map(move |class| (call, class)));
    let tried = futures_util::stream::iter(all.map(|(call, class)| one(&stage, call, class)));
    tried.buffer_unordered(16).try_collect::<Vec<_>>().await?;
    stage.left_as_before().await
}

/// Chunks go before a length (RFC 9112, 6.3), and the connection ends with the answer: what a proxy that goes by the length
/// would take for a request of somebody else's is never read.
#[tokio::test]
async fn nothing_is_read_behind_a_body_of_two_lengths() -> Result<()> {
    let stage = Stage::plain().await?;
    let hidden = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", 5 + hidden.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + hidden.len()),
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned(),
    ] {
        let request = format!("POST /livez HTTP/1.1\r\nHost: x\r\n{lengths}\r\n0\r\n\r\n{hidden}");
        let mut raw = stage.raw(Side::Public).await?;
        let answer = raw.ask(&request).await?;
        ensure!(matches!(answer.status, 400 | 405), "{lengths}: {answer:?}");
        let rest = raw.ended().await?;
        ensure!(rest.is_empty(), "{lengths}: {:?}", String::from_utf8_lossy(&rest));
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn requests_in_one_go_are_answered_in_order_and_garbage_ends_them() -> Result<()> {
    let stage = Stage::plain().await?;
    let live = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let none = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    for (garbage, status) in [
        ("garbage\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    ] {
        let mut raw = stage.raw(Side::Public).await?;
        let first = raw.ask(format!("{live}{none}{live}{garbage}{live}")).await?;
        let mut all = vec![first.status];
        for _ in 0..3 {
            all.push(raw.answer().await?.status);
        }
        ensure!(all == [200, 404, 200, status], "{garbage:?}: {all:?}");
        ensure!(raw.ended().await?.is_empty(), "{garbage:?}: something behind it was answered");
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn older_clients_are_served_without_a_host_and_are_let_go() -> Result<()> {
    let stage = Stage::plain().await?;
    let mut raw = stage.raw(Side::Public).await?;
    let answer = raw.ask("GET /livez HTTP/1.0\r\n\r\n").await?;
    expect(&answer, 200)?;
    raw.ended().await?;
    // Chunks are of HTTP/1.1.
    let chunked = "POST /api/v1/realtime/poll HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    expect(&stage.ask(Side::Public, chunked).await?, 400)?;
    // Lines may end with a line feed alone (RFC 9112, 2.2); nothing else does.
    expect(&stage.ask(Side::Public, "GET /livez HTTP/1.1\nHost: x\n\n").await?, 200)?;
    expect(&stage.ask(Side::Public, "GET /livez HTTP/1.1\rHost: x\r\r").await?, 400)?;
    stage.left_as_before().await
}
