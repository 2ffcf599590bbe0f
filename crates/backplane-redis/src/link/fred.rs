//! The link over the `fred` crate: one centralized client for one primary, used for commands only.
//!
//! Its own backpressure stops the client for good when it is reached, and retried commands are executed twice: so
//! the bound is a semaphore here and every command is sent once. Must not know: keys, subscriptions.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::error::{Error, ErrorKind};
use fred::prelude::{Builder, Client, ClientLike, Config, EventInterface, ReconnectPolicy, Value};
use fred::types::config::{
    Server, ServerConfig, TlsConfig, TlsConnector, TlsHostMapping, UnresponsiveConfig,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, RespVersion};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{LinkFault, RedisLink, Reply, Run};
use crate::topology::{Address, Dialer};

/// Commands under way at once; more wait for the earlier ones, as long as a command may take.
const UNDER_WAY: usize = 4096;
const SILENCE: Duration = Duration::from_secs(3);
/// How often a command that is not answered looks whether the connection is still there.
const CHECK: Duration = Duration::from_millis(200);
/// A server that is gone is looked for again after at least and at most so many milliseconds.
const AGAIN: (u32, u32) = (20, 1000);

/// A command client for one server. Cheap to clone; with the last clone the connection goes.
#[derive(Clone)]
pub struct FredLink {
    line: Arc<Line>,
    asking: bool,
}

struct Line {
    client: Client,
    task: ConnectHandle,
    room: Semaphore,
    patience: Duration,
}

impl Drop for Line {
    fn drop(&mut self) {
        // It would look for a server that left the installation for ever.
        self.task.abort();
    }
}

impl Line {
    /// Room for one more command.
    async fn room(&self) -> Result<SemaphorePermit<'_>, LinkFault> {
        // Without awaiting where there is room: a task that has done much is made to yield when it awaits, and what it
        // asks at the same time would lose its order.
        if let Ok(room) = self.room.try_acquire() {
            return Ok(room);
        }
        let room = tokio::time::timeout(self.patience, self.room.acquire()).await;
        let too_many = || LinkFault::Failed("too many commands under way".to_owned());
        room.map_err(|_| too_many())?.map_err(|_| too_many())
    }
}

fn client(address: &Address, dialer: &Dialer, patience: Duration, again: bool) -> Result<Client, LinkFault> {
    let mut config = Config {
        version: RespVersion::RESP3,
        // A server that is away for the moment is looked for like one that went away later.
        fail_fast: !again,
        server: ServerConfig::Centralized { server: Server::new(address.host.as_str(), address.port) },
        ..Config::default()
    };
    if let Some((user, password)) = &address.login {
        config.username = Some(user.clone());
        config.password = Some(password.clone());
    }
    if address.tls {
        let connector = dialer.connector().map(TlsConnector::Rustls);
        let connector = connector.ok_or_else(|| LinkFault::Failed("TLS is not set up".to_owned()))?;
        config.tls = Some(TlsConfig { connector, hostnames: TlsHostMapping::None });
    }
    let mut builder = Builder::from_config(config);
    builder
        .with_performance_config(|performance| performance.default_command_timeout = patience)
        .with_connection_config(|connection| {
            connection.connection_timeout = patience;
            connection.internal_command_timeout = patience;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = 0;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(SILENCE), interval: Duration::from_millis(500) };
            connection.tcp.nodelay = Some(true);
        });
    if again {
        builder.set_policy(ReconnectPolicy::Exponential {
            attempts: 0,
            max_attempts: 0,
            min_delay: AGAIN.0,
            max_delay: AGAIN.1,
            base: 2,
            jitter: AGAIN.0,
        });
    }
    builder.build().map_err(|error| failed(&error))
}

impl FredLink {
    /// Begins to connect; with `again` it looks for the server for as long as there is somebody to use the link,
    /// otherwise the link ends with its one connection.
    ///
    /// # Errors
    /// [`LinkFault::Failed`] when the address cannot be used.
    pub fn open(
        address: &Address,
        dialer: &Dialer,
        patience: Duration,
        again: bool,
    ) -> Result<Self, LinkFault> {
        let client = client(address, dialer, patience, again)?;
        let task = client.connect();
        let line = Line { client, task, room: Semaphore::new(UNDER_WAY), patience };
        Ok(Self { line: Arc::new(line), asking: false })
    }

    /// Connects; with `again` later interruptions are healed in the background.
    ///
    /// # Errors
    /// As the first attempt fails.
    pub async fn connect(
        address: &Address,
        dialer: &Dialer,
        patience: Duration,
        again: bool,
    ) -> Result<Self, LinkFault> {
        let client = client(address, dialer, patience, again)?;
        let mut errors = client.error_rx();
        let task = client.connect();
        let line = Line { client, task, room: Semaphore::new(UNDER_WAY), patience };
        let link = Self { line: Arc::new(line), asking: false };
        let nobody = || LinkFault::Away(format!("{address}: nobody answers"));
        tokio::select! {
            connected = link.line.client.wait_for_connect() => connected.map_err(|error| failed(&error))?,
            error = errors.recv() => match error {
                Ok((error, _)) => return Err(LinkFault::Away(format!("{address}: {}", error.details()))),
                Err(_) => return Err(nobody()),
            },
            () = tokio::time::sleep(patience) => return if link.is_connected() { Ok(link) } else { Err(nobody()) },
        }
        Ok(link)
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.line.client.is_connected() && !self.is_ended()
    }

    /// Whether nobody looks for the server any more: a new link has to.
    pub fn is_ended(&self) -> bool {
        self.line.task.is_finished()
    }

    /// The same, for commands on a slot that is on its way to this server.
    pub fn asking(&self) -> Self {
        Self { asking: true, ..self.clone() }
    }

    async fn command(&self, name: &'static str, args: Vec<Value>) -> Result<Reply, LinkFault> {
        let _room = self.line.room().await?;
        if !self.is_connected() {
            return Err(LinkFault::Away("Redis: no connection".to_owned()));
        }
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        let mut answer = pin!(self.send(command, args));
        loop {
            match tokio::time::timeout(CHECK, &mut answer).await {
                Ok(answer) => return answer.map(reply).map_err(|error| refused(&error)),
                // It waits for the next connection, or was on its way when this one broke.
                Err(_) if !self.is_connected() => {
                    return Err(LinkFault::Lost("Redis: the connection broke".to_owned()));
                }
                Err(_) => {}
            }
        }
    }

    async fn send(&self, command: CustomCommand, args: Vec<Value>) -> Result<Value, Error> {
        if !self.asking {
            return self.line.client.custom(command, args).await;
        }
        // It is of use to the very next command of the connection only.
        let both = self.line.client.pipeline();
        let asking = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
        let _: Value = both.custom(asking, Vec::<Value>::new()).await?;
        let _: Value = both.custom(command, args).await?;
        both.last().await
    }
}

fn refused(error: &Error) -> LinkFault {
    match LinkFault::of_error(error.details()) {
        // Not only servers fail.
        LinkFault::Failed(_) => failed(error),
        fault => fault,
    }
}

fn failed(error: &Error) -> LinkFault {
    let said = format!("Redis: {:?}: {}", error.kind(), error.details());
    match error.kind() {
        ErrorKind::Timeout => LinkFault::Silent(said),
        ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing => LinkFault::Lost(said),
        _ => LinkFault::Failed(said),
    }
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
        let command = run.command(keys, args);
        self.command(command.name, command.args.into_iter().map(Value::Bytes).collect()).await
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
        // It waits for commands that are under way, but not for a server that is away.
        if self.is_connected()
            && let Err(error) = self.line.client.quit().await
        {
            tracing::debug!(%error, "the connection to Redis was gone already");
        }
        self.line.task.abort();
    }
}
