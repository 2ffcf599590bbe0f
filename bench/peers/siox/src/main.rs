//! socketioxide with its Redis adapter, speaking the same events as `../node/server.js`: what the load generator compares Parlance with.
//!
//! Owns: settings that are fair to it (see `../README.md`). Must not know: anything of Parlance.
//!
//! Variables: `PORT`, `REDIS_URL`, `JWT_SECRET` (tokens are verified when it is set), `DURABLE=1` (a message is
//! deduplicated, numbered and logged in Redis before anybody hears of it). Prints `ready` once it takes connections.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAddOptions, StreamTrimStrategy, StreamTrimmingMode};
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef, State, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide_redis::{RedisAdapter, RedisAdapterConfig, RedisAdapterCtr};
use tokio::net::TcpSocket;

/// As many entries of a room as Parlance keeps by default, and as long as it remembers a message's id.
const KEPT: usize = 1000;
const REMEMBERED_SECONDS: u64 = 48 * 3600;

/// What every connection needs.
#[derive(Clone)]
struct Shared {
    key: Option<Arc<(DecodingKey, Validation)>>,
    /// Set in durable mode.
    log: Option<MultiplexedConnection>,
    sent: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
struct Claims {
    #[expect(dead_code, reason = "a token must name its user")]
    sub: String,
}

#[derive(Deserialize)]
struct Said {
    room: String,
    body: String,
    id: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Room {
    room: String,
}

#[derive(Serialize)]
struct Told<'a> {
    room: &'a str,
    body: &'a str,
    id: &'a str,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

#[derive(Serialize)]
struct Taken<'a> {
    id: &'a str,
    at: u64,
}

#[derive(Serialize)]
struct Failed {
    error: &'static str,
}

#[derive(Debug)]
struct Unauthorized;

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unauthorized")
    }
}

impl std::error::Error for Unauthorized {}

/// Handlers are set here and not once the client is connected: that is told first, and what a client says at once would
/// find nobody who listens.
async fn admit<A: Adapter>(
    socket: SocketRef<A>,
    TryData(auth): TryData<Auth>,
    State(shared): State<Shared>,
) -> Result<(), Unauthorized> {
    if let Some(key) = &shared.key {
        let auth = auth.map_err(|_| Unauthorized)?;
        jsonwebtoken::decode::<Claims>(&auth.token, &key.0, &key.1).map_err(|_| Unauthorized)?;
    }
    listen(&socket);
    Ok(())
}

async fn connected<A: Adapter>(_socket: SocketRef<A>) {}

fn listen<A: Adapter>(socket: &SocketRef<A>) {
    socket.on("join", async |socket: SocketRef<A>, Data::<String>(room), ack: AckSender<A>| {
        socket.join(room);
        ack.send(&()).ok();
    });
    socket.on("leave", async |socket: SocketRef<A>, Data::<String>(room)| socket.leave(room));
    socket.on("typing", async |socket: SocketRef<A>, Data::<Room>(typing)| {
        socket.to(typing.room.clone()).emit("typing", &typing).await.ok();
    });
    socket.on("msg", said::<A>);
}

async fn said<A: Adapter>(
    io: SocketIo<A>,
    Data(said): Data<Said>,
    ack: AckSender<A>,
    State(shared): State<Shared>,
) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let id = said
        .id
        .unwrap_or_else(|| format!("{}-{}", std::process::id(), shared.sent.fetch_add(1, Ordering::Relaxed)));
    let mut told = Told { room: &said.room, body: &said.body, id: &id, at, sequence: None };
    if let Some(log) = &shared.log {
        match keep(log.clone(), &told).await {
            Ok(Some(sequence)) => told.sequence = Some(sequence),
            Ok(None) => return drop(ack.send(&Taken { id: &id, at })),
            Err(error) => {
                eprintln!("keeping a message: {error}");
                return drop(ack.send(&Failed { error: "unavailable" }));
            }
        }
    }
    if let Err(error) = io.to(said.room.clone()).emit("msg", &told).await {
        eprintln!("telling a message: {error}");
    }
    ack.send(&Taken { id: &id, at }).ok();
}

/// What Parlance does in one call, as an application on socketioxide would do it: is it new, which number has it, log it.
async fn keep(mut log: MultiplexedConnection, told: &Told<'_>) -> redis::RedisResult<Option<u64>> {
    let Told { room, id, body, .. } = told;
    let options = redis::SetOptions::default()
        .conditional_set(redis::ExistenceCheck::NX)
        .with_expiration(redis::SetExpiry::EX(REMEMBERED_SECONDS));
    let set: Option<String> = log.set_options(format!("seen:{room}:{id}"), "1", options).await?;
    if set.is_none() {
        return Ok(None);
    }
    let sequence: u64 = log.incr(format!("sequence:{room}"), 1).await?;
    let trim = StreamTrimStrategy::maxlen(StreamTrimmingMode::Approx, KEPT);
    let options = StreamAddOptions::default().trim(trim);
    let fields = [("id", *id), ("body", *body)];
    let _: Option<String> =
        log.xadd_options(format!("log:{room}"), format!("{sequence}-0"), &fields, &options).await?;
    Ok(Some(sequence))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = variable("REDIS_URL").context("REDIS_URL is not set")?;
    let client = redis::Client::open(format!("{url}?protocol=resp3"))?;
    let log = match variable("DURABLE") {
        Some(_) => Some(client.get_multiplexed_async_connection().await?),
        None => None,
    };
    let key = variable("JWT_SECRET").map(|secret| {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_aud = false;
        Arc::new((DecodingKey::from_secret(secret.as_bytes()), validation))
    });
    let config = RedisAdapterConfig::new().with_stream_buffer(65_536);
    let adapter = RedisAdapterCtr::new_with_redis_config(&client, config).await?;
    let (layer, io) = SocketIo::builder()
        .with_adapter::<RedisAdapter<_>>(adapter)
        .with_state(Shared { key, log, sent: Arc::default() })
        .max_buffer_size(1024)
        .build_layer();
    io.ns("/", connected.with(admit)).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let port: u16 = variable("PORT").context("PORT is not set")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = axum::serve::ListenerExt::tap_io(socket.listen(4096)?, |stream| {
        stream.set_nodelay(true).ok();
    });
    println!("ready");
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}
