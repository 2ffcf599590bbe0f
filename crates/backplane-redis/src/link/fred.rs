//! The link over the `fred` crate: one centralized client for one primary, used for commands only.
//!
//! Its own backpressure stops the client for good when it is reached, and retried commands are executed twice: so
//! the bound is a semaphore here and every command is sent once. Must not know: keys, subscriptions.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::{Builder, Client, ClientLike, Config, ReconnectPolicy, Value};
use fred::types::config::UnresponsiveConfig;
use fred::types::{ClusterHash, CustomCommand, RespVersion};
use tokio::sync::Semaphore;

use super::{LinkFault, RedisLink, Reply, Run};

/// Commands under way at once; more wait for the earlier ones, as long as a command may take.
const UNDER_WAY: usize = 4096;
const SILENCE: Duration = Duration::from_secs(3);

/// A command client for one server.
pub struct FredLink {
    client: Client,
    room: Semaphore,
    patience: Duration,
}

impl FredLink {
    /// Connects; later interruptions are healed in the background.
    ///
    /// # Errors
    /// [`LinkFault::Failed`] when the address is wrong or nobody answers there in time.
    pub async fn connect(url: &str, patience: Duration) -> Result<Self, LinkFault> {
        let mut config = Config::from_url_centralized(url).map_err(|error| failed(&error))?;
        config.version = RespVersion::RESP3;
        config.fail_fast = true;
        let client = Builder::from_config(config)
            .with_performance_config(|performance| performance.default_command_timeout = patience)
            .with_connection_config(|connection| {
                connection.connection_timeout = patience;
                connection.internal_command_timeout = patience;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = 0;
                connection.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(SILENCE), interval: Duration::from_millis(500) };
                connection.tcp.nodelay = Some(true);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2000, 2))
            .build()
            .map_err(|error| failed(&error))?;
        client.init().await.map_err(|error| failed(&error))?;
        Ok(Self { client, room: Semaphore::new(UNDER_WAY), patience })
    }

    /// Sends any command.
    ///
    /// # Errors
    /// As it fails.
    pub async fn send(&self, name: &'static str, args: Vec<Bytes>) -> Result<Reply, LinkFault> {
        self.command(name, args.into_iter().map(Value::Bytes).collect()).await
    }

    async fn command(&self, name: &'static str, args: Vec<Value>) -> Result<Reply, LinkFault> {
        let room = tokio::time::timeout(self.patience, self.room.acquire()).await;
        let _room = room.map_err(|_| LinkFault::Failed("too many commands under way".to_owned()))?;
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        let answer: Result<Value, _> = self.client.custom(command, args).await;
        answer.map(reply).map_err(|error| refused(&error))
    }
}

/// Beginnings of refusals by a server that did not execute the command and of which another may.
const ELSEWHERE: [&str; 5] = ["MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY"];

fn refused(error: &fred::error::Error) -> LinkFault {
    let said = error.details();
    if said.contains("Function not found") {
        LinkFault::NoFunction
    } else if said.starts_with("NOSCRIPT") {
        LinkFault::NoScript
    } else if said.starts_with("NOPERM") || said.contains("unknown command") {
        LinkFault::Forbidden(said.to_owned())
    } else if ELSEWHERE.iter().any(|word| said.starts_with(word)) {
        LinkFault::Elsewhere(said.to_owned())
    } else {
        failed(error)
    }
}

fn failed(error: &fred::error::Error) -> LinkFault {
    LinkFault::Failed(format!("Redis: {:?}: {}", error.kind(), error.details()))
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Null | Value::Queued => Reply::Nil,
        Value::Boolean(on) => Reply::Int(i64::from(on)),
        Value::Integer(number) => Reply::Int(number),
        Value::Double(number) => Reply::Bytes(Bytes::from(number.to_string())),
        Value::String(text) => Reply::Bytes(text.into_inner()),
        Value::Bytes(bytes) => Reply::Bytes(bytes),
        Value::Array(all) => Reply::List(all.into_iter().map(reply).collect()),
        Value::Map(map) => Reply::List(
            map.inner()
                .into_iter()
                .flat_map(|(key, value)| [Reply::Bytes(key.into_bytes()), reply(value)])
                .collect(),
        ),
    }
}

fn text(of: &str) -> Value {
    Value::Bytes(Bytes::copy_from_slice(of.as_bytes()))
}

#[async_trait]
impl RedisLink for FredLink {
    async fn run(&self, run: Run<'_>, keys: &[String], args: Vec<Bytes>) -> Result<Reply, LinkFault> {
        let (command, script) = run.words();
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.push(text(script));
        all.push(text(&keys.len().to_string()));
        all.extend(keys.iter().map(|key| text(key)));
        all.extend(args.into_iter().map(Value::Bytes));
        self.command(command, all).await
    }

    async fn spublish(&self, channel: &str, payload: Bytes) -> Result<(), LinkFault> {
        self.command("SPUBLISH", vec![text(channel), Value::Bytes(payload)]).await.map(drop)
    }

    async fn function_load(&self, code: &str) -> Result<(), LinkFault> {
        self.command("FUNCTION", vec![text("LOAD"), text("REPLACE"), text(code)]).await.map(drop)
    }

    async fn ping(&self) -> Result<(), LinkFault> {
        self.command("PING", Vec::new()).await.map(drop)
    }

    async fn info(&self, section: &str) -> Result<String, LinkFault> {
        let answer = self.command("INFO", vec![text(section)]).await?;
        Ok(answer.text().unwrap_or_default().to_owned())
    }

    async fn close(&self) {
        if let Err(error) = self.client.quit().await {
            tracing::debug!(%error, "the connection to Redis was gone already");
        }
    }
}
