//! What the server API does takes effect on every node within a second, and on a node that was cut off when it was
//! asked, as soon as it is back.

use std::time::Duration;

use crate::degraded_support::{node, sechat_message};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::{Gateway, SECRET, Ws, token};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

const PROMISED: Duration = Duration::from_secs(1);
/// From the healing of the network to its effect: connections are made again, then everything is looked at.
const BACK: Duration = Duration::from_secs(8);

struct Stage {
    a: Gateway,
    b: Gateway,
    /// The way of b to Redis.
    proxy: Proxy,
    redis: Server,
}

async fn stage() -> Result<Stage> {
    let redis = Server::standalone().await?;
    let proxy = Proxy::start(redis.port(), 7).await?;
    let (a, b) = (node(&redis.url()).await?, node(&proxy.url()).await?);
    a.conversation("room", &["alice", "bob", "carol", "dave"]).await?;
    Ok(Stage { a, b, proxy, redis })
}

async fn on(gateway: &Gateway, path: &str, user: &str) -> Result<Ws> {
    let now = token::expiry(Duration::ZERO);
    let claims = json!({ "sub": user, "user_id": user, "iat": now - 60, "exp": now + 3600 });
    let mut ws =
        Ws::connect(&gateway.url(&format!("{path}?token={}", token::sign(&claims, SECRET)?))).await?;
    if path == "/sechat" {
        // Answered once everything is joined.
        ws.send(&json!({ "type": "register_session", "sessionId": user })).await?;
        ws.expect("session_registered").await?;
    }
    Ok(ws)
}

/// The four orders, given at one node.
async fn orders(a: &Gateway) -> Result<()> {
    let maintenance = json!({ "enabled": true, "message": "back at noon", "retryAfter": 30 });
    let removal = json!({ "removeMembers": ["dave"] });
    a.call("POST", "/api/v1/tokens/revoke", Some(&json!({ "user": "alice" }))).await?;
    a.call("POST", "/api/v1/users/bob/disconnect", Some(&json!({ "reason": "out" }))).await?;
    a.call("PUT", "/api/v1/maintenance", Some(&maintenance)).await?;
    a.call("PATCH", "/api/v1/conversations/room", Some(&removal)).await?;
    Ok(())
}

struct Clients {
    alice: Ws,
    bob: Ws,
    carol: Ws,
    dave: Ws,
}

impl Clients {
    async fn of(gateway: &Gateway) -> Result<Self> {
        Ok(Self {
            alice: on(gateway, "/ws", "alice").await?,
            bob: on(gateway, "/sechat", "bob").await?,
            carol: on(gateway, "/sechat", "carol").await?,
            dave: on(gateway, "/sechat", "dave").await?,
        })
    }

    async fn see_the_effects(&mut self, until: Instant) -> Result<()> {
        let closed = timeout_at(until, self.alice.closed()).await.context("alice's token was revoked")??;
        ensure!(closed == Some(1008), "{closed:?}");
        let closed = timeout_at(until, self.bob.closed()).await.context("bob was disconnected")??;
        ensure!(closed == Some(1012), "{closed:?}");
        let notice = timeout_at(until, self.carol.expect("maintenance")).await.context("maintenance")??;
        ensure!(notice["message"] == "back at noon", "{notice}");
        Ok(())
    }
}

/// Dave hears nothing of the room any more; carol does.
async fn dave_is_out(a: &Gateway, carol: &mut Ws, dave: &mut Ws) -> Result<()> {
    a.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": false }))).await?;
    let message = json!({ "senderId": "carol", "body": "among us" });
    let sent = async {
        loop {
            let (status, _) = a.api("POST", "/api/v1/conversations/room/messages", Some(&message)).await?;
            if status < 300 {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BACK, sent).await??;
    dave.send(&sechat_message("still here?")).await?;
    let heard: Value = loop {
        let frame = dave.next().await?;
        ensure!(frame["type"] != "message:received", "{frame}");
        if frame["type"] == "error" {
            break frame;
        }
    };
    ensure!(heard["details"]["messageId"] == "still here?", "{heard}");
    carol.send(&json!({ "type": "register_session", "sessionId": "carol" })).await?;
    carol.expect("session_registered").await?;
    Ok(())
}

#[tokio::test]
async fn every_node_follows_within_a_second() -> Result<()> {
    let stage = stage().await?;
    let mut there = Clients::of(&stage.b).await?;
    orders(&stage.a).await?;
    there.see_the_effects(Instant::now() + PROMISED).await?;
    tokio::time::sleep(PROMISED).await;
    dave_is_out(&stage.a, &mut there.carol, &mut there.dave).await
}

#[tokio::test]
async fn a_node_that_was_cut_off_follows_when_it_is_back() -> Result<()> {
    for fault in
        [Faults { blackhole: true, ..Faults::default() }, Faults { refuse: true, ..Faults::default() }]
    {
        let stage = stage().await?;
        let mut there = Clients::of(&stage.b).await?;
        stage.proxy.set(fault);
        if fault.refuse {
            stage.proxy.cut_all();
        }
        orders(&stage.a).await?;
        // It does not know: its clients stay.
        there.alice.assert_silent(Duration::from_secs(3)).await?;
        stage.proxy.heal();
        let until = Instant::now() + BACK;
        there.see_the_effects(until).await.with_context(|| format!("{fault:?}"))?;
        dave_is_out(&stage.a, &mut there.carol, &mut there.dave).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_whose_publications_were_lost_follows_soon() -> Result<()> {
    let stage = stage().await?;
    let mut there = Clients::of(&stage.b).await?;
    // Nothing is subscribed at this moment, on either node.
    stage.redis.command(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).await?;
    orders(&stage.a).await?;
    there.see_the_effects(Instant::now() + Duration::from_secs(3)).await
}

#[tokio::test]
async fn a_disconnected_user_comes_back_and_stays() -> Result<()> {
    let stage = stage().await?;
    let mut before = on(&stage.b, "/ws", "bob").await?;
    stage.a.call("POST", "/api/v1/users/bob/disconnect", Some(&json!({}))).await?;
    ensure!(timeout(PROMISED, before.closed()).await?? == Some(1012));
    let mut after = stage.b.connect("/ws", "bob").await?;
    // Orders are carried out once.
    after.assert_silent(Duration::from_secs(5)).await
}
