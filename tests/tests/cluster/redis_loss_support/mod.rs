//! A way to Redis that can be turned to another server, as a failover does, and famly clients.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, IoClient, Options, token};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Forwards connections to a server; turned to another one it cuts all that there are.
pub struct Switch {
    port: u16,
    target: Arc<watch::Sender<u16>>,
    _task: JoinSet<()>,
}

impl Switch {
    /// Forwards to a port on this host.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own = listener.local_addr()?.port();
        let target = Arc::new(watch::channel(port).0);
        let mut task = JoinSet::new();
        let turned = target.clone();
        task.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                let mut turned = turned.subscribe();
                let port = *turned.borrow_and_update();
                ways.spawn(async move {
                    let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut here, &mut there) => {}
                        _ = turned.changed() => {}
                    }
                });
            }
        });
        Ok(Self { port: own, target, _task: task })
    }

    /// Turns to another port.
    pub fn turn(&self, port: u16) {
        self.target.send_replace(port);
    }

    /// Its address, as a gateway takes it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// A node on a Redis.
pub async fn node(url: &str) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_REDIS_URL", url);
    Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await
}

/// A client in the conversation `room`.
pub async fn famly(gateway: &Gateway, user: &str) -> Result<IoClient> {
    let auth = json!({ "token": token(user)? });
    let mut io = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    let ack = io.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(io)
}

/// Says it until it is acknowledged, as a client does; returns its id.
pub async fn says(io: &mut IoClient, text: &str) -> Result<String> {
    let started = Instant::now();
    loop {
        let message = json!({ "chatId": "room", "body": text, "clientId": text });
        let ack = io.ask("message:send", &[message]).await?;
        if ack.first().is_some_and(|a| a["ok"] == Value::Bool(true)) {
            return ack[0]["data"]["serverId"].as_str().map(str::to_owned).context("no id");
        }
        ensure!(started.elapsed() < PATIENCE, "{ack:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until the replica has all that the primary has.
pub async fn until_replicated(primary: &Server, replica: &Server) -> Result<()> {
    let started = Instant::now();
    loop {
        let of = async |server: &Server, field: &str| server.info("replication", field).await;
        if of(replica, "master_link_status").await.is_ok_and(|status| status == "up")
            && of(primary, "master_repl_offset").await? == of(replica, "slave_repl_offset").await?
        {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "the replica does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
