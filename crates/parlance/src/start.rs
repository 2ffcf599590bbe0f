//! Chooses the engine and starts the node on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::{AckLevel, Backplane};
use parlance_backplane_redis::{Access, Login, Redis, Replicas, Tls};
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use parlance_gateway::{Running as Node, StartError};
use parlance_model::NodeId;

use crate::failure::Failure;
use crate::{archive, outbox};

/// A running node and the engine under it.
pub struct Running {
    node: Node,
    engine: Engine,
}

enum Engine {
    Embedded(Embedded),
    Redis(Redis),
}

impl Engine {
    async fn open(config: &Config, clock: &Clock, id: &NodeId) -> Result<(Self, Backplane), Failure> {
        if let Some(url) = &config.redis_url {
            let redis = Redis::connect(redis_options(config, url, clock, Some(id)))
                .await
                .context("cannot use Redis")?;
            let backplane = redis.backplane();
            return Ok((Self::Redis(redis), backplane));
        }
        let options = options(config);
        let engine = tokio::task::block_in_place(|| Embedded::open(options, clock.for_engine()))
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let backplane = engine.attach(id.clone());
        Ok((Self::Embedded(engine), backplane))
    }

    async fn close(&self) {
        match self {
            Self::Embedded(engine) => engine.close().await,
            Self::Redis(engine) => engine.close().await,
        }
    }
}

impl Running {
    /// Where clients connect.
    pub fn public_addr(&self) -> SocketAddr {
        self.node.public_addr()
    }

    /// Where the server API is.
    pub fn internal_addr(&self) -> SocketAddr {
        self.node.internal_addr()
    }

    /// Connections that are authenticated.
    pub fn connections(&self) -> usize {
        self.node.connections()
    }

    /// Gives up what is kept only to be quicker.
    pub fn forget(&self) {
        self.node.forget();
    }

    /// Drains and ends; the engine last, so that nothing is accepted that it could not keep.
    pub async fn stop(self) {
        if !self.node.stop().await {
            tracing::warn!("some connections did not end in time and were cut off");
        }
        self.engine.close().await;
    }
}

/// Opens the engine and starts a node on it.
pub async fn start(config: Config, clock: Clock) -> Result<(Running, Backplane), Failure> {
    raise_descriptors();
    // New at every start: leases of a node that died must not look like this one's.
    let id = format!("node-{}", uuid::Uuid::new_v4().simple());
    let id = NodeId::parse(&id).map_err(anyhow::Error::from)?;
    let (engine, mut backplane) = Engine::open(&config, &clock, &id).await?;
    let before = archive::before(&config, &mut backplane);
    let (backplane, late) = archive::read(&config, backplane);
    let node = Node::start(config, backplane.clone(), id, clock).await.map_err(refused)?;
    // Set once: there is one.
    _ = late.set(Arc::downgrade(node.node()));
    archive::begin(&node, &backplane, before);
    outbox::begin(&node);
    Ok((Running { node, engine }, backplane))
}

/// Opens the Redis of a configuration, for a process that is no node.
#[cfg(feature = "archive")]
pub async fn open(config: &Config, clock: &Clock) -> Result<Redis, Failure> {
    let url = config.redis_url.as_deref().unwrap_or_default();
    let options = redis_options(config, url, clock, None);
    Ok(Redis::connect(options).await.context("cannot use Redis")?)
}

/// Applies keys, limits and whatever else may change while running.
pub fn reload(running: &Running, config: Config) -> Result<(), Failure> {
    if let (Engine::Redis(redis), Some(url)) = (&running.engine, &config.redis_url) {
        redis.renew(url, &access(&config)).context("Redis")?;
    }
    running.node.reload(config).map_err(refused)
}

/// A connection is a descriptor, and the soft limit is often 1,024.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, ?current, "cannot raise the limit of open files"),
    }
}

fn options(config: &Config) -> Options {
    Options {
        trail: config.kinds(),
        trail_groups: config.consumers(),
        path: (config.ack_level != "memory").then(|| config.data_dir.clone()),
        retention_entries: config.retention.entries,
        retention: Duration::from_secs(config.retention.days.saturating_mul(86_400)),
        kept_elsewhere: config.archive.url.is_some() && config.archive.read,
        dedupe_window: Duration::from_secs(config.retention.dedupe_hours.saturating_mul(3_600)),
        typing_ttl: config.timings.typing_ttl(),
        ..Options::default()
    }
}

/// Reads the certificates and the key for Redis, where TLS is spoken to it: what is wrong with them is said before anything
/// starts.
pub fn papers(config: &Config) -> Result<(), Failure> {
    let read = if config.speaks_tls_to_redis() { access(config).tls.check() } else { Ok(()) };
    read.map_err(|fault| Failure::Usage(fault.to_string()))
}

/// Logins of the configuration beside those of the address, and what TLS goes by.
pub fn access(config: &Config) -> Access {
    let redis = &config.redis;
    let login = |user: &Option<String>, password: &Option<String>| {
        let user = user.clone().unwrap_or_else(|| "default".to_owned());
        password.clone().map(|password| Login { user, password })
    };
    Access {
        login: login(&redis.username, &redis.password),
        sentinel_login: login(&redis.sentinel_username, &redis.sentinel_password),
        tls: Tls {
            ca_file: redis.ca_file.clone(),
            cert_file: redis.cert_file.clone(),
            key_file: redis.key_file.clone(),
            server_name: redis.server_name.clone(),
        },
    }
}

fn redis_options(
    config: &Config,
    url: &str,
    clock: &Clock,
    id: Option<&NodeId>,
) -> parlance_backplane_redis::Options {
    let redis = &config.redis;
    parlance_backplane_redis::Options {
        access: access(config),
        prefix: redis.prefix.clone(),
        channel_prefix: redis.channel_prefix.clone(),
        ack_level: match config.ack_level.as_str() {
            "redis-wait" => AckLevel::RedisWait,
            "redis-fsync" => AckLevel::RedisFsync,
            _ => AckLevel::Redis,
        },
        replicas: Replicas { count: redis.wait_replicas, within: Duration::from_millis(redis.wait_ms) },
        sweeper: id.cloned(),
        trail: config.kinds(),
        trail_groups: config.consumers(),
        retention_entries: config.retention.entries,
        retention: Duration::from_secs(config.retention.days.saturating_mul(86_400)),
        dedupe_window: Duration::from_secs(config.retention.dedupe_hours.saturating_mul(3_600)),
        typing_ttl: config.timings.typing_ttl(),
        ..parlance_backplane_redis::Options::new(url, clock.for_engine())
    }
}

fn refused(error: StartError) -> Failure {
    match error {
        StartError::Config(line) => Failure::Usage(line),
        other => Failure::Other(other.into()),
    }
}
