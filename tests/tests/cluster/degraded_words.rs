//! Redis is away: connections stay, what needs it is refused in each dialect's words and in time, keepalives go on,
//! and everything heals without a restart.

use std::time::Duration;

use crate::degraded_support::{ANSWERED, io, sechat_message, two, until_acked};
use anyhow::{Result, ensure};
use parlance_tests::gateway::until_status;
use parlance_tests::{Gateway, IoClient, Ws};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const WORDS: &str = "Service temporarily unavailable";
/// Without waiting for what is known to be away, which takes longer than this.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Everybody {
    sechat: Ws,
    socialhub: Ws,
    famly: IoClient,
    lingochat: IoClient,
    chatgenius: IoClient,
}

impl Everybody {
    async fn connect(gateway: &Gateway) -> Result<Self> {
        let mut famly = io(gateway, "/socket.io/", "alice").await?;
        ensure!(famly.ask("room:join", &[json!({ "chatId": "room" })]).await? == [json!({ "ok": true })]);
        let mut chatgenius = io(gateway, "/api/socket.io/", "alice").await?;
        chatgenius.expect("connection:success").await?;
        let mut all = Self {
            sechat: gateway.connect("/sechat", "alice").await?,
            socialhub: gateway.connect("/ws", "alice").await?,
            lingochat: io(gateway, "/lingochat/socket.io/", "alice").await?,
            famly,
            chatgenius,
        };
        // All have joined everything: one that cannot is closed, to come back.
        all.works(Duration::from_secs(5)).await?;
        Ok(all)
    }

    /// Each sends; each is refused in its words.
    async fn refused(&mut self, id: &str) -> Result<()> {
        let said = async {
            self.sechat.send(&sechat_message(id)).await?;
            self.sechat.expect("error").await
        };
        let asked = async {
            let payload = json!({ "conversation_id": "room", "content": id });
            self.socialhub.send(&json!({ "type": "message", "payload": payload })).await?;
            self.socialhub.expect("error").await
        };
        let chat = [json!({ "chatId": "room", "body": id, "clientId": id })];
        let post = [json!({ "content": id, "channelId": "room", "tempId": id })];
        let text = [json!("room"), json!({ "text": id, "clientMessageId": id })];
        let (sechat, socialhub, famly, lingochat, chatgenius) = tokio::try_join!(
            said,
            asked,
            self.famly.ask("message:send", &chat),
            self.lingochat.ask("message:send", &text),
            self.chatgenius.ask("message:send", &post),
        )?;
        ensure!(sechat["code"] == "SERVICE_UNAVAILABLE" && sechat["details"]["messageId"] == id, "{sechat}");
        let error = &socialhub["payload"];
        ensure!(
            error["code"] == "INTERNAL_ERROR" && error["details"]["retry_after_ms"] == 1000,
            "{socialhub}"
        );
        ensure!(famly[0]["ok"] == false && famly[0]["error"] == "INTERNAL", "{famly:?}");
        ensure!(famly[0]["message"] == WORDS, "{famly:?}");
        ensure!(lingochat[0]["success"] == false, "{lingochat:?}");
        ensure!(self.lingochat.expect("error").await?.args[0].to_string().contains(WORDS));
        ensure!(chatgenius[0]["success"] == false, "{chatgenius:?}");
        let failed = self.chatgenius.expect("message:failed").await?;
        ensure!(failed.args[0]["tempId"] == id, "{failed:?}");
        Ok(())
    }

    /// All connections are the ones of before.
    async fn works(&mut self, within: Duration) -> Result<()> {
        until_acked(&mut self.sechat, within).await?;
        let chat = json!({ "chatId": "room", "body": "x", "clientId": "f" });
        let ack = self.famly.ask("message:send", &[chat]).await?;
        ensure!(ack[0]["ok"] == true, "{ack:?}");
        let ack = self.lingochat.ask("message:send", &[json!("room"), json!({ "text": "x" })]).await?;
        ensure!(ack[0]["success"] == true, "{ack:?}");
        let post = json!({ "content": "x", "channelId": "room", "tempId": "c" });
        ensure!(self.chatgenius.ask("message:send", &[post]).await?[0]["success"] == true);
        let payload = json!({ "conversation_id": "room", "content": "x" });
        self.socialhub.send(&json!({ "type": "message", "payload": payload, "ack_id": "s" })).await?;
        self.socialhub.expect("ack").await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_paused_redis_refuses_in_each_dialects_words_and_in_time() -> Result<()> {
    let (redis, a, _b) = two().await?;
    let mut all = Everybody::connect(&a).await?;
    redis.pause()?;
    timeout(ANSWERED, all.refused("m-1")).await??;
    // Known to be away by now: nobody waits.
    until_status(&a, "/readyz", 503).await?;
    timeout(AT_ONCE, all.refused("m-2")).await??;
    // A keepalive is answered.
    all.socialhub.send(&json!({ "type": "heartbeat" })).await?;
    timeout(AT_ONCE, all.socialhub.next()).await??;
    redis.resume()?;
    until_status(&a, "/readyz", 200).await?;
    all.works(Duration::from_secs(5)).await
}

#[tokio::test]
async fn a_killed_redis_refuses_until_it_is_back() -> Result<()> {
    let (mut redis, a, b) = two().await?;
    let mut all = Everybody::connect(&a).await?;
    let mut bob = b.connect("/sechat", "bob").await?;
    redis.kill9()?;
    timeout(ANSWERED, all.refused("m-1")).await??;
    until_status(&a, "/readyz", 503).await?;
    redis.restart().await?;
    until_status(&a, "/readyz", 200).await?;
    all.works(Duration::from_secs(5)).await?;
    let mut heard: Vec<Value> = Vec::new();
    while heard.len() < 5 {
        heard.push(bob.expect("message:received").await?);
    }
    Ok(())
}

#[tokio::test]
async fn many_sends_at_once_queue_up_nowhere() -> Result<()> {
    let (redis, a, _b) = two().await?;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(a.connect("/sechat", "alice").await?);
    }
    for ws in &mut clients {
        // Everything before it was done.
        ws.send(&json!({ "type": "register_session", "sessionId": "alice" })).await?;
        ws.expect("session_registered").await?;
    }
    redis.pause()?;
    let began = Instant::now();
    let sends = clients.iter_mut().enumerate().map(|(client, ws)| async move {
        for n in 0..20 {
            ws.send(&sechat_message(&format!("m-{client}-{n}"))).await?;
        }
        for _ in 0..20 {
            let error = ws.expect("error").await?;
            ensure!(error["code"] == "SERVICE_UNAVAILABLE", "{error}");
        }
        Ok(())
    });
    futures_util::future::try_join_all(sends).await?;
    // The first ones wait for their answers, until the node knows.
    ensure!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    redis.resume()?;
    until_status(&a, "/readyz", 200).await?;
    for ws in &mut clients {
        until_acked(ws, Duration::from_secs(5)).await?;
    }
    // What was refused was not stored behind the clients' backs twice: a resend is one message.
    let page = a.call("GET", "/api/v1/conversations/room/messages?limit=200", None).await?;
    let stored = page["messages"].as_array().map(Vec::len).unwrap_or_default();
    ensure!((20..=60).contains(&stored), "{stored} stored");
    Ok(())
}
