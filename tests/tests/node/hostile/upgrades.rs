//! Handshakes of WebSockets that are none, and what comes behind one.

use anyhow::{Context, Result, ensure};

use super::calls::{CALLS, Call, Side, Who};
use super::stage::{Stage, UPGRADE, expect};

/// What is another one in the handshake; the answer of a raw mount. Engine.IO says 400 to each.
const CHANGES: &[(&str, &str, u16)] = &[
    ("Sec-WebSocket-Version: 13\r\n", "", 426),
    ("Version: 13", "Version: 8", 426),
    ("Version: 13", "Version: 14", 426),
    ("Version: 13", "Version: 13, 8", 426),
    ("Version: 13", "Version: 013", 426),
    ("Version: 13", "Version: ", 426),
    ("Version: 13\r\n", "Version: 13\r\nSec-WebSocket-Version: 13\r\n", 426),
    ("Upgrade: websocket\r\n", "", 426),
    ("Upgrade: websocket", "Upgrade: h2c", 426),
    ("Upgrade: websocket", "Upgrade: websocket2", 426),
    ("Upgrade: websocket", "Upgrade: web socket", 426),
    ("Connection: Upgrade\r\n", "", 400),
    ("Connection: Upgrade", "Connection: keep-alive", 400),
    ("Connection: Upgrade", "Connection: Upgraded", 400),
    ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "************************", 400),
    (
        "dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        400,
    ),
    ("Connection: Upgrade\r\n", "Connection: Upgrade\r\nContent-Length: 5\r\n", 400),
    ("Connection: Upgrade\r\n", "Connection: Upgrade\r\nTransfer-Encoding: chunked\r\n", 400),
    ("HTTP/1.1", "HTTP/1.0", 400),
];

/// Offers nobody has to take: the socket opens, and none of them is agreed to.
const OFFERS: &[&str] = &[
    "Sec-WebSocket-Protocol: chat, superchat",
    "Sec-WebSocket-Protocol: ,,,",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99, x; y=\"z",
    "Sec-WebSocket-Extensions: x-webkit-deflate-frame",
    "Sec-WebSocket-Accept: x",
    "Connection: close",
];

fn sockets() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(|call| call.socket)
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_as_plain_http() -> Result<()> {
    let stage = Stage::plain().await?;
    for call in sockets() {
        let good = stage.head(call, "");
        for (from, to, status) in CHANGES {
            ensure!(good.contains(from), "{from:?} is nowhere");
            let status = if call.target.contains("EIO") { 400 } else { *status };
            let asked = good.replacen(from, to, 1) + "hello";
            let name = || format!("{from:?} -> {to:?} at {}", call.target);
            let answer = stage.ask(Side::Public, asked).await.with_context(name)?;
            expect(&answer, status).with_context(name)?;
            if status == 426 {
                let told = (answer.header("upgrade"), answer.header("sec-websocket-version"));
                ensure!(told == (Some("websocket"), Some("13")), "{}: {answer:?}", name());
            }
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn offers_are_not_taken() -> Result<()> {
    let stage = Stage::plain().await?;
    for call in sockets() {
        for offer in OFFERS {
            let answer = stage.ask(Side::Public, stage.head(call, &format!("{offer}\r\n"))).await?;
            ensure!(answer.status == 101, "{offer} at {}: {answer:?}", call.target);
            for header in ["sec-websocket-protocol", "sec-websocket-extensions"] {
                ensure!(answer.header(header).is_none(), "{offer} at {}: {answer:?}", call.target);
            }
        }
    }
    stage.left_as_before().await
}

/// Behind a handshake come frames; anything else ends the socket with the close code for it.
#[tokio::test]
async fn what_comes_behind_a_handshake_is_taken_for_frames() -> Result<()> {
    let stage = Stage::plain().await?;
    let long_ping = [b"\x89\xfe\x00\x7e".as_slice(), &[0; 130]].concat();
    // A frame's first bytes, and the close code.
    for (bytes, code) in [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), 1002),
        (b"\x81\x05hello", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (&long_ping, 1002),
        (b"\x88\x81\0\0\0\0\x01", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x81\xff\x00\x00\x00\x00\x10\x00\x00\x00\0\0\0\0", 1009),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
    ] {
        for call in sockets() {
            let name = || format!("{bytes:02x?} at {}", call.target);
            let mut raw = stage.raw(Side::Public).await?;
            // In one go with the handshake, as an attacker would to confuse a proxy.
            let answer =
                raw.ask([stage.head(call, "").as_bytes(), bytes].concat()).await.with_context(name)?;
            ensure!(answer.status == 101, "{}: {answer:?}", name());
            let rest = raw.ended().await.with_context(name)?;
            let wanted = [(code >> 8) as u8, (code & 0xff) as u8];
            let told = rest.windows(4).any(|four| four[0] == 0x88 && four[2..] == wanted);
            ensure!(told, "{}: {rest:02x?}", name());
        }
    }
    stage.left_as_before().await
}

/// Whole, it is judged before HTTP is spoken at all; what is answered, and what follows, is the same either way.
#[tokio::test]
async fn a_refused_handshake_counts_once_and_the_connection_goes_on() -> Result<()> {
    let stage = Stage::plain().await?;
    let live = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let refusals = "parlance_token_failures_total";
    for call in sockets().filter(|call| call.who == Who::Alice && !call.target.contains("EIO")) {
        let good = stage.head(call, "");
        let bad = good.replacen("Authorization: Bearer ", "Authorization: Bearer x", 1);
        for cut in [bad.len(), bad.len() / 2] {
            let name = || format!("{} cut at {cut}", call.target);
            let before = stage.metric(refusals).await?;
            let mut raw = stage.raw(Side::Public).await?;
            raw.send(&bad[..cut]).await?;
            if cut < bad.len() {
                // Long enough to be read by itself.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            let answer = raw.ask(format!("{}{live}", &bad[cut..])).await.with_context(name)?;
            expect(&answer, 401).with_context(name)?;
            ensure!(answer.header("www-authenticate") == Some("Bearer"), "{}: {answer:?}", name());
            ensure!(raw.answer().await.with_context(name)?.status == 200, "{}", name());
            let counted = stage.metric(refusals).await? - before;
            ensure!((counted - 1.0).abs() < 0.1, "{}: refused {counted} times", name());
            let opened = raw.ask(&good).await.with_context(name)?;
            ensure!(opened.status == 101, "{}: {opened:?}", name());
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn addresses_that_are_no_sockets_do_not_become_any() -> Result<()> {
    let stage = Stage::plain().await?;
    for call in CALLS.iter().filter(|call| !call.socket && call.method == "GET") {
        let answer = stage.ask(call.side, stage.head(call, UPGRADE)).await?;
        ensure!(answer.status == call.status, "{}: {answer:?}", call.target);
    }
    stage.left_as_before().await
}
