//! The command line. Values stay text here: the configuration reads flags, variables and file alike, and
//! its errors name the option the same way for all three.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use parlance_gateway::config::Overrides;

use crate::{archive, chat, explain, nodes, outbox, probe, webhooks};

/// A realtime gateway for chat clients of several dialects.
#[derive(Parser)]
#[command(name = "parlance", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Start a gateway to try things with: development secret, a demo conversation, ready-made tokens.
    Dev(NodeFlags),
    /// Start a gateway.
    Serve(NodeFlags),
    /// Print a token for a user.
    Token(TokenArgs),
    /// Check the configuration and print the effective one, secrets masked.
    CheckConfig(NodeFlags),
    /// Print a commented configuration file with the defaults.
    DefaultConfig(DefaultConfigArgs),
    /// Print the OpenAPI document of the internal listener: server API, health.
    Openapi(OpenapiArgs),
    /// Print the reference of all metrics, as Markdown.
    Metrics,
    /// Chat from the terminal, in any dialect.
    Chat(chat::Args),
    /// List the nodes of the cluster.
    Nodes(nodes::Args),
    /// Tell what became of a message, or of a command that was refused, after the fact and across all nodes.
    Explain(explain::Args),
    /// Show what webhooks have not told the application's backend yet or gave up, or have it told again.
    Webhooks(webhooks::Args),
    /// Bring the tables of the archive up to date, show them, or write to them.
    Archive(archive::Args),
    /// Make the table that an application writes its events to, show what is in the outbox, or try again what was refused.
    Outbox(outbox::Args),
    /// Ask a node whether it is ready: exit code 0 when it is, 1 when it is not.
    Probe(probe::Args),
}

/// What `dev`, `serve` and `check-config` take. Every other option is in the file or a variable.
#[derive(Args, Default)]
pub struct NodeFlags {
    /// Configuration file (TOML).
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Public listener [PARLANCE_LISTEN].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Internal listener: health, metrics, server API [PARLANCE_INTERNAL_LISTEN].
    #[arg(long, value_name = "ADDRESS")]
    internal_listen: Option<String>,
    /// Address other nodes reach the internal listener at [PARLANCE_ADVERTISE].
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Redis that all nodes share; without it the embedded engine, for one node [PARLANCE_REDIS_URL].
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// What every key in that Redis begins with [PARLANCE_REDIS_PREFIX].
    #[arg(long, value_name = "PREFIX")]
    redis_prefix: Option<String>,
    /// What every channel in that Redis begins with [PARLANCE_REDIS_CHANNEL_PREFIX].
    #[arg(long, value_name = "PREFIX")]
    redis_channel_prefix: Option<String>,
    /// Folder of the embedded engine's file [PARLANCE_DATA_DIR].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// HS256 secrets, comma-separated; better in a variable than here [PARLANCE_JWT_SECRET].
    #[arg(long, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Address of a JWK set [PARLANCE_JWKS_URL].
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// Where tokens that are no JWT are verified [PARLANCE_SESSION_URL].
    #[arg(long, value_name = "URL")]
    session_url: Option<String>,
    /// Keys of the server API, comma-separated [PARLANCE_API_KEY].
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Origins browsers may connect from, comma-separated [PARLANCE_ORIGINS].
    #[arg(long, value_name = "ORIGIN")]
    origins: Option<String>,
    /// Membership of every mount: open, managed or callback [PARLANCE_MEMBERSHIP].
    #[arg(long, value_name = "open|managed|callback")]
    membership: Option<String>,
    /// What an acknowledged message survives: memory or file; redis, redis-wait or redis-fsync [PARLANCE_ACK_LEVEL].
    #[arg(long, value_name = "LEVEL")]
    ack_level: Option<String>,
    /// Lift rates and connection counts: load tests only [PARLANCE_NO_LIMITS].
    #[arg(long)]
    no_limits: bool,
    /// Log level or filter [PARLANCE_LOG_LEVEL].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log format: auto, human or json [PARLANCE_LOG_FORMAT].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl NodeFlags {
    /// The flags as the configuration takes them.
    pub fn overrides(&self) -> Overrides {
        let mut flags = Overrides::default();
        for (name, value) in [
            ("--listen", &self.listen),
            ("--internal-listen", &self.internal_listen),
            ("--advertise", &self.advertise),
            ("--redis-url", &self.redis_url),
            ("--redis-prefix", &self.redis_prefix),
            ("--redis-channel-prefix", &self.redis_channel_prefix),
            ("--data-dir", &self.data_dir),
            ("--jwt-secret", &self.jwt_secret),
            ("--jwks-url", &self.jwks_url),
            ("--session-url", &self.session_url),
            ("--api-key", &self.api_key),
            ("--origins", &self.origins),
            ("--membership", &self.membership),
            ("--ack-level", &self.ack_level),
            ("--log-level", &self.log_level),
            ("--log-format", &self.log_format),
        ] {
            flags.set(name, value.clone());
        }
        flags.set("--no-limits", self.no_limits.then(|| "true".to_owned()));
        flags
    }
}

#[derive(Args)]
pub struct TokenArgs {
    /// Who the token is for.
    #[arg(long)]
    pub user: String,
    /// Display name.
    #[arg(long)]
    pub name: Option<String>,
    /// How long it is good for: 90s, 30m, 1h, 7d.
    #[arg(long, default_value = "1h", value_parser = span)]
    pub ttl: Duration,
    /// The HS256 secret; else the configuration's first, else the one of `parlance dev`.
    #[arg(long)]
    pub secret: Option<String>,
    /// Configuration file (TOML).
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct DefaultConfigArgs {
    /// The reference page instead of the file.
    #[arg(long)]
    pub markdown: bool,
}

#[derive(Args)]
pub struct OpenapiArgs {
    /// What clients ask over plain HTTP, instead of the internal listener.
    #[arg(long, conflicts_with = "markdown")]
    pub public: bool,
    /// The reference page of both instead.
    #[arg(long)]
    pub markdown: bool,
}

/// A span of time like `90s`, `30m`, `1h` or `7d`; a bare number is seconds.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let number: u64 = number.parse().unwrap_or(0);
    match number.checked_mul(seconds) {
        Some(total) if total > 0 => Ok(Duration::from_secs(total)),
        _ => Err("expected a span like 90s, 30m, 1h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use parlance_gateway::config::SHORTCUTS;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shortcut_is_a_flag() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        let flags: Vec<_> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        for shortcut in SHORTCUTS {
            assert!(flags.contains(&shortcut.flag.trim_start_matches("--")), "{}", shortcut.flag);
        }
    }

    #[test]
    fn spans() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "0", "1w", "-1h", "1.5h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
