//! Log lines: human on a terminal, JSON elsewhere, on stderr; the level can change while running.

use std::io::{IsTerminal as _, stderr};

use parlance_gateway::config::Log;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::failure::Failure;

/// The running log.
pub struct Logs(reload::Handle<EnvFilter, Registry>);

/// Reads a level or filter.
pub fn filter(log: &Log) -> Result<EnvFilter, Failure> {
    let mut filter =
        EnvFilter::try_new(&log.level).map_err(|error| Failure::Usage(format!("log.level: {error}")))?;
    // These write whole frames, with bodies and tokens, at their finer levels. A directive for a module
    // beats one for its crate, so the modules are named too.
    for target in [
        "tungstenite",
        "tungstenite::protocol",
        "tungstenite::protocol::frame",
        "tokio_tungstenite",
        "hyper",
        "hyper_util",
    ] {
        let directive = format!("{target}=warn").parse();
        filter = filter.add_directive(directive.map_err(|error| Failure::Other(anyhow::Error::new(error)))?);
    }
    Ok(filter)
}

/// Starts logging, once per process.
pub fn start(log: &Log) -> Result<Logs, Failure> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let json = match log.format.as_str() {
        "json" => true,
        "human" => false,
        _ => !stderr().is_terminal(),
    };
    let lines = if json {
        fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
    } else {
        fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::Other(error.into()))?;
    Ok(Logs(handle))
}

impl Logs {
    /// Changes the level.
    pub fn reload(&self, log: &Log) -> Result<(), Failure> {
        self.0.reload(filter(log)?).map_err(|error| Failure::Other(error.into()))
    }
}
