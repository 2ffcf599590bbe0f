//! Whose connection it is behind a balancer: what a trusted proxy says counts, and nobody else's word.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::raw::Raw;
use parlance_tests::{Gateway, Options, Ws, token};

const A: &str = "203.0.113.7";
const B: &str = "2001:db8::7";

/// One connection of each address, and this machine is a proxy or not.
async fn gateway(trusted: &str, header: &str) -> Result<Gateway> {
    let options = Options::brief()
        .env("PARLANCE_LIMITS_CONNECTIONS_PER_IP", "1")
        .env("PARLANCE_TRUSTED_PROXIES", trusted)
        .env("PARLANCE_PROXY_HEADER", header);
    Gateway::start(options).await
}

/// Let in, or the status of the refusal.
async fn open(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Result<Result<Ws, u16>> {
    let url = gateway.url(&format!("{path}token={}", token("alice")?));
    Ok(Ws::open(&url, headers).await?.map_err(|answer| answer.status))
}

const RAW: &str = "/sechat?";
const ENGINE: &str = "/socket.io/?EIO=4&transport=websocket&";

#[tokio::test]
async fn each_client_behind_a_trusted_proxy_counts_by_itself() -> Result<()> {
    for path in [RAW, ENGINE] {
        let gateway = gateway("127.0.0.0/8, fd00::/8", "x-forwarded-for").await?;
        let of_a = open(&gateway, path, &[("x-forwarded-for", A)]).await?.ok().context("A")?;
        for told in [
            A.to_owned(),
            format!("198.51.100.1, {A}"),
            format!("198.51.100.1, {A}, fd00::9, 127.0.0.5"),
            format!("::ffff:{A}"),
            format!("{A}:4711"),
        ] {
            let refused = open(&gateway, path, &[("x-forwarded-for", &told)]).await?.err();
            ensure!(refused == Some(503), "{path} {told}: {refused:?}");
        }
        // The header that the proxy does not write is the client's own.
        let liar = [("x-forwarded-for", A), ("forwarded", "for=198.51.100.99")];
        ensure!(open(&gateway, path, &liar).await?.err() == Some(503), "{path}");
        let of_b =
            open(&gateway, path, &[("x-forwarded-for", &format!("[{B}]:80"))]).await?.ok().context("B")?;
        drop(of_a);
        // It is gone when the node has seen it go.
        let mut again = open(&gateway, path, &[("x-forwarded-for", A)]).await?;
        while again.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            again = open(&gateway, path, &[("x-forwarded-for", A)]).await?;
        }
        drop(of_b);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_understood_is_the_proxys_own() -> Result<()> {
    let gateway = gateway("127.0.0.1", "forwarded").await?;
    let hidden =
        open(&gateway, RAW, &[("forwarded", "for=1.2.3.4, for=_x")]).await?.ok().context("hidden")?;
    for told in
        ["for=unknown", "for=5.6.7.8, for=\"_y\"", "for=1.2.3.4;for=5.6.7.8", "nonsense", "for=999.1.1.1", ""]
    {
        let refused = open(&gateway, RAW, &[("forwarded", told)]).await?.err();
        ensure!(refused == Some(503), "{told}: all of them are the proxy's: {refused:?}");
    }
    let said = format!("for=1.2.3.4, for=\"[{B}]:4711\";proto=https");
    let of_b = open(&gateway, RAW, &[("forwarded", &said)]).await?.ok().context("B")?;
    drop((hidden, of_b));
    Ok(())
}

#[tokio::test]
async fn nobody_elses_word_counts() -> Result<()> {
    for trusted in ["", "10.0.0.0/8,fd00::/8"] {
        let gateway = gateway(trusted, "x-forwarded-for").await?;
        let mut first = Raw::connect(gateway.address()).await?;
        ensure!(
            first.ask("GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n").await?.status
                == 200
        );
        for made_up in [A, B, "10.0.0.1", "127.0.0.1"] {
            let headers = [("x-forwarded-for", made_up), ("forwarded", "for=1.2.3.4")];
            let refused = open(&gateway, RAW, &headers).await?.err();
            ensure!(refused == Some(503), "{trusted}: {made_up}: {refused:?}");
        }
    }
    Ok(())
}

/// A header of version 2 for an address of IPv4.
fn version2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [client, [127, 0, 0, 1]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", addresses.as_slice(), &[0, 1, 0, 2]].concat()
}

#[tokio::test]
async fn a_balancer_that_reads_no_http_says_it_ahead() -> Result<()> {
    let options = Options::brief()
        .env("PARLANCE_LIMITS_CONNECTIONS_PER_IP", "1")
        .env("PARLANCE_LIMITS_HEAD_MS", "500")
        .env("PARLANCE_TRUSTED_PROXIES", "127.0.0.1")
        .env("PARLANCE_PROXY_PROTOCOL", "true");
    let gateway = Gateway::start(options).await?;
    let ask = "GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n";
    let with = |header: &[u8]| [header, ask.as_bytes()].concat();
    let line = format!("PROXY TCP4 {A} 127.0.0.1 4711 8082\r\n");
    let mut of_a = Raw::connect(gateway.address()).await?;
    ensure!(of_a.ask(with(line.as_bytes())).await?.status == 200);
    ensure!(of_a.ask(ask).await?.status == 200, "once for each connection");
    for header in [line.as_bytes(), &version2([203, 0, 113, 7])] {
        let refused = Raw::connect(gateway.address()).await?.ask(with(header)).await?.status;
        ensure!(refused == 503, "A has its one connection: {refused}");
    }
    let mut of_b = Raw::connect(gateway.address()).await?;
    ensure!(of_b.ask(with(&version2([203, 0, 113, 8]))).await?.status == 200);

    // A handshake, its header in pieces.
    let mut slow = Raw::connect(gateway.address()).await?;
    let header = format!("PROXY TCP6 {B} ::1 4711 8082\r\n");
    let (one, two) = header.split_at(9);
    slow.send(one).await?;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let handshake = format!(
        "{two}GET /sechat?token={} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token("alice")?
    );
    ensure!(slow.ask(handshake).await?.status == 101);

    for hostile in [
        ask.as_bytes(),
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 203.0.113.9 ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"",
    ] {
        let mut raw = Raw::connect(gateway.address()).await?;
        raw.send(hostile).await?;
        ensure!(raw.ended().await?.is_empty(), "nothing is said to who does not say it");
    }
    Ok(())
}

/// Over one connection of the proxy come requests of many clients.
#[tokio::test]
async fn a_proxys_connection_is_nobodys_and_its_requests_are_their_clients() -> Result<()> {
    let gateway = gateway("127.0.0.1", "x-forwarded-for").await?;
    let ask = |client: &str| {
        format!(
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n"
        )
    };
    let (mut one, mut two) = (Raw::connect(gateway.address()).await?, Raw::connect(gateway.address()).await?);
    ensure!(one.ask(ask(A)).await?.status == 200);
    ensure!(one.ask(ask(B)).await?.status == 200, "another client over the same connection");
    // Each has its one polling session by now, whichever connection it comes over next.
    ensure!(two.ask(ask(A)).await?.status == 503);
    ensure!(one.ask(ask(B)).await?.status == 503);
    ensure!(two.ask(ask("203.0.113.8")).await?.status == 200);
    Ok(())
}

/// Begins a session by polling, and says which.
async fn session(gateway: &Gateway, client: &str) -> Result<String> {
    let ask = format!(
        "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n"
    );
    let answer = Raw::connect(gateway.address()).await?.ask(ask).await?;
    let sid = answer.body.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
    sid.map(str::to_owned).with_context(|| format!("no session: {}", answer.body))
}

#[tokio::test]
async fn a_request_that_is_passed_on_is_still_its_clients() -> Result<()> {
    let redis = Server::standalone().await?;
    let start = async || {
        let options = Options::default()
            .env("PARLANCE_REDIS_URL", &redis.url())
            .env("PARLANCE_LIMITS_CONNECTIONS_PER_IP", "1")
            .env("PARLANCE_TRUSTED_PROXIES", "127.0.0.1");
        Gateway::start(options).await
    };
    let (owner, other) = (start().await?, start().await?);
    let (of_a, of_b) = (session(&owner, A).await?, session(&owner, B).await?);
    // A has its one connection at the owner of the session; B has none.
    let _taken = open(&owner, RAW, &[("x-forwarded-for", A)]).await?.ok().context("A")?;
    for (sid, client, status) in [(of_a, A, 503), (of_b, B, 101)] {
        let url = other.url(&format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"));
        let answer = Ws::open(&url, &[("x-forwarded-for", client)]).await?;
        let told = answer.as_ref().map_or_else(|answer| answer.status, |_| 101);
        ensure!(told == status, "{client}: {told}");
    }
    Ok(())
}
