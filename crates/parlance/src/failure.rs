//! Why the process ends, and with which exit code.

use std::process::ExitCode;

use parlance_gateway::config::ConfigError;

/// What ended it.
#[derive(Debug)]
pub enum Failure {
    /// Bad configuration or arguments: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Other(anyhow::Error),
}

impl Failure {
    /// From the argument parser, whose own report takes several lines.
    pub fn arguments(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        // The first paragraph is the complaint; what follows is usage and tips.
        let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join(" ");
        Self::Usage(format!("{} (see --help)", line.trim_start_matches("error: ")))
    }

    /// Tells it on stderr, in one line, and names the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(line) => {
                eprintln!("parlance: {line}");
                ExitCode::from(2)
            }
            Self::Other(error) => {
                eprintln!("parlance: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
