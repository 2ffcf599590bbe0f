//! `parlance serve` and `parlance check-config`, and the life of a running node: signals until it stops.

use std::io::Write as _;

use parlance_gateway::auth::Authenticator;
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::cli::NodeFlags;
use crate::failure::Failure;
use crate::logging::{self, Logs};
use crate::memory::{self, Memory};
use crate::rotation::Rotation;
use crate::sources::Sources;
use crate::start::{self, Running};
use crate::{archive, outbox};

/// `parlance serve`.
pub async fn run(flags: NodeFlags) -> Result<(), Failure> {
    let sources = Sources::new(Config::default(), &flags);
    let config = sources.load()?;
    let logs = begin(&sources, &config)?;
    let signals = Signals::listen()?;
    let rotation = Rotation::of(&config);
    let (running, _backplane) = start::start(config, Clock::system()).await?;
    announce(&running)?;
    live(running, signals, rotation, &sources, &logs).await
}

/// `parlance check-config`: everything short of opening sockets.
pub fn check(flags: NodeFlags) -> Result<(), Failure> {
    let sources = Sources::new(Config::default(), &flags);
    let config = sources.load()?;
    usable(&config)?;
    for line in sources.warnings(&config) {
        eprintln!("warning: {line}");
    }
    print!("{}", config.effective_toml());
    Ok(())
}

/// What `validate` cannot see: key files and filter directives.
fn usable(config: &Config) -> Result<(), Failure> {
    logging::filter(&config.log)?;
    start::papers(config)?;
    archive::check(config)?;
    outbox::check(config)?;
    Authenticator::new(&config.auth, Clock::system()).map(drop).map_err(Failure::Usage)
}

/// Logging and warnings, once the configuration is known to be usable.
pub fn begin(sources: &Sources, config: &Config) -> Result<Logs, Failure> {
    usable(config)?;
    let logs = logging::start(&config.log)?;
    for line in sources.warnings(config) {
        tracing::warn!("{line}");
    }
    Ok(logs)
}

/// The line scripts wait for.
pub fn announce(running: &Running) -> Result<(), Failure> {
    let line = format!("ready public={} internal={}\n", running.public_addr(), running.internal_addr());
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::Other(error.into()))
}

/// The signals a node obeys. Listened for before it starts: one that comes early is not lost.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts listening.
    pub fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|error| Failure::Other(error.into()));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Until one says stop.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Until a signal says stop; then lets sessions end. A second signal cuts that short.
pub async fn live(
    running: Running,
    mut signals: Signals,
    mut rotation: Rotation,
    sources: &Sources,
    logs: &Logs,
) -> Result<(), Failure> {
    let (mut memory, mut looks) = (Memory::default(), tokio::time::interval(memory::LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                memory.look(&running);
                if rotation.is_seen() {
                    tracing::info!("a file of keys or secrets has changed");
                    reload(&running, &mut rotation, sources, logs);
                }
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => reload(&running, &mut rotation, sources, logs),
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => Ok(()),
        () = signals.stop() => Err(Failure::Other(anyhow::anyhow!("stopped before all sessions had ended"))),
    }
}

/// A configuration that cannot be used changes nothing: the node goes on with the one it has.
fn reload(running: &Running, rotation: &mut Rotation, sources: &Sources, logs: &Logs) {
    let reloaded = sources.load().and_then(|config| {
        usable(&config)?;
        let files = Rotation::of(&config);
        logs.reload(&config.log)?;
        start::reload(running, config)?;
        *rotation = files;
        Ok(())
    });
    match reloaded {
        Ok(()) => {}
        Err(Failure::Usage(line)) => tracing::error!(%line, "the configuration is not reloaded"),
        Err(Failure::Other(error)) => tracing::error!(%error, "the configuration is not reloaded"),
    }
}
