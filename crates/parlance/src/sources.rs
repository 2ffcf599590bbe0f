//! Where the configuration comes from: kept, so that a reload reads the same places again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parlance_gateway::config::{Config, Overrides, unknown_variables};

use crate::cli::NodeFlags;
use crate::failure::Failure;

/// Defaults, file, environment and flags.
pub struct Sources {
    base: Config,
    file: Option<PathBuf>,
    env: BTreeMap<String, String>,
    flags: Overrides,
}

impl Sources {
    /// Over defaults of the caller's choice.
    pub fn new(base: Config, flags: &NodeFlags) -> Self {
        Self { base, file: flags.config.clone(), env: environment(), flags: flags.overrides() }
    }

    /// Reads them all and checks the result.
    pub fn load(&self) -> Result<Config, Failure> {
        let config = Config::load_over(&self.base, self.file.as_deref(), &self.env, &self.flags)?;
        config.validate()?;
        Ok(config)
    }

    /// What is odd but no error, a line each.
    pub fn warnings(&self, config: &Config) -> Vec<String> {
        let mut lines = unknown_variables(&self.env);
        if !config.limits.rates {
            lines.push("RATE LIMITS ARE OFF: anybody can flood this node. For load tests only".to_owned());
        }
        for mount in config.mounts.iter().filter(|mount| mount.allow_unauthenticated_sessions) {
            lines.push(format!(
                "mount {} LETS ANYBODY IN AS ANYBODY: allow_unauthenticated_sessions is on",
                mount.name
            ));
        }
        if config.ack_level == "memory" {
            lines.push("acknowledged messages do not survive this process: ack_level is memory".to_owned());
        }
        lines
    }
}

/// The process environment; variables that are not text cannot be options.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
