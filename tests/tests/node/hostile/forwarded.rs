//! The same by way of another node than the one that owns the session.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::hostile::quiet;
use parlance_tests::{Gateway, Options, PATIENCE, Raw, Response};
use serde_json::Value;

use super::stage::{Setting, UPGRADE};

/// The node that owns the sessions, another one, and what they share.
struct Pair {
    owner: Gateway,
    other: Gateway,
    _redis: Server,
}

impl Pair {
    async fn start() -> Result<Self> {
        let redis = Server::standalone().await?;
        let config = Setting { limits: "message_ms = 500", ..Setting::default() }.text();
        let options = || Options::default().config(&config).env("PARLANCE_REDIS_URL", &redis.url());
        let (owner, other) = tokio::try_join!(Gateway::start(options()), Gateway::start(options()))?;
        let met = async {
            loop {
                let (_, known) = other.api("GET", "/api/v1/nodes", None).await?;
                if known["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2) {
                    return Ok::<_, anyhow::Error>(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, met).await.context("the nodes do not know each other")??;
        Ok(Self { owner, other, _redis: redis })
    }

    /// A session of the owner's; its target.
    async fn session(&self) -> Result<String> {
        let open = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n";
        let answer = Raw::connect(self.owner.address()).await?.ask(open).await?;
        let said: Value = serde_json::from_str(answer.body.get(1..).context("no open packet")?)?;
        let sid = said["sid"].as_str().context("no sid")?;
        Ok(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
    }

    /// Asks the node that does not own it.
    async fn ask(&self, asked: impl AsRef<[u8]>) -> Result<Response> {
        Raw::connect(self.other.address()).await?.ask(asked).await
    }

    /// Ends a session by its owner, and says whether it was there.
    async fn lived(&self, target: &str) -> Result<bool> {
        let close = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
        let answer = Raw::connect(self.owner.address()).await?.ask(close).await?;
        Ok(answer.status == 200)
    }

    /// Nobody is left, nothing broke, and sessions are forwarded as before.
    async fn left_as_before(self) -> Result<()> {
        let target = self.session().await?;
        let said =
            self.ask(format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n6")).await?;
        ensure!(said.status == 200, "{said:?}");
        ensure!(self.lived(&target).await?, "a session does not go on");
        for gateway in [&self.owner, &self.other] {
            quiet(gateway).await?;
            ensure!(!gateway.log().contains("panicked"), "{}", gateway.log());
        }
        Ok(())
    }
}

#[tokio::test]
async fn bad_requests_by_another_node_get_the_answers_of_the_owner() -> Result<()> {
    let pair = Pair::start().await?;
    let post = |about: &str, body: &[u8]| {
        let head = format!("POST @ HTTP/1.1\r\nHost: x\r\n{about}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let upgrade = UPGRADE.replace("Version: 13", "Version: 8");
    for (name, asked, status, lives) in [
        ("too large", post("", &vec![b'4'; 1_500_000]), 413, true),
        ("much too large", post("", &vec![b'4'; 8_000_000]), 413, true),
        ("compressed", post("Content-Encoding: gzip\r\n", b"4x"), 415, true),
        ("two lengths", post("Content-Length: 9\r\n", b"4x"), 400, true),
        ("codings", post("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400, true),
        ("no UTF-8", post("", b"4\xff"), 400, false),
        ("no packet", post("", b"9"), 400, false),
        ("slow", b"POST @ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n4".to_vec(), 408, false),
        ("a method", b"PUT @ HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400, true),
        ("no host", b"GET @ HTTP/1.1\r\n\r\n".to_vec(), 400, true),
        (
            "no handshake",
            format!("GET @ HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n")
                .replace("=polling", "=websocket")
                .into_bytes(),
            400,
            true,
        ),
        (
            "pass",
            b"DELETE @ HTTP/1.1\r\nHost: x\r\nParlance-Pass: x\r\nParlance-Client: 1.2.3.4\r\n\r\n".to_vec(),
            400,
            true,
        ),
    ] {
        let target = pair.session().await?;
        let at = asked.iter().position(|byte| *byte == b'@').context("no place for the target")?;
        let socket = name == "no handshake";
        let there = if socket { target.replace("polling", "websocket") } else { target.clone() };
        let asked = [&asked[..at], there.as_bytes(), &asked[at + 1..]].concat();
        let answer = pair.ask(&asked).await.context(name)?;
        ensure!(answer.status == status, "{name}: {answer:?}");
        ensure!(pair.lived(&target).await? == lives, "{name}: the session");
    }
    pair.left_as_before().await
}

#[tokio::test]
async fn requests_by_another_node_may_end_at_every_byte() -> Result<()> {
    let pair = Pair::start().await?;
    let first = pair.session().await?;
    let socket = UPGRADE.replace("Connection: Upgrade\r\n", "Connection: Upgrade\r\nX-A: b\r\n");
    let kinds = [
        ("GET", String::new(), ""),
        ("POST", "Content-Length: 12\r\n".to_owned(), "40{\"token\":0}"),
        ("GET", socket, ""),
    ];
    for (method, about, body) in kinds {
        let whole = |target: &str| {
            let target = if about.contains("Upgrade") {
                target.replace("polling", "websocket")
            } else {
                target.to_owned()
            };
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{about}\r\n{body}")
        };
        let length = whole(&first).len();
        // Every place behind the target, and some before it.
        for at in (0..60).step_by(20).chain(length - about.len() - body.len() - 30..length + 1) {
            let target = pair.session().await?;
            let asked = whole(&target);
            let mut raw = Raw::connect(pair.other.address()).await?;
            raw.send(asked.as_bytes().get(..at).unwrap_or(asked.as_bytes())).await?;
            if at % 2 == 0 { raw.reset()? } else { drop(raw) }
        }
    }
    pair.left_as_before().await
}
