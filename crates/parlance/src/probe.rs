//! `parlance probe`: whether a node is ready, for containers without a shell. Exit code 0 when it is, 1 when not, 2 for bad
//! arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parlance_gateway::config::{Config, Overrides};
use serde_json::Value;

use crate::failure::Failure;
use crate::sources::environment;

/// Whoever asks gives up soon after: Docker and Kubernetes wait for seconds.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Answers are shorter by far.
const LARGEST: usize = 64 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// The listener to ask (http://host:port), instead of the internal one of the configuration.
    #[arg(long, conflicts_with_all = ["config", "internal_listen"])]
    url: Option<String>,
    /// Configuration file (TOML) that says where the internal listener is.
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Internal listener [PARLANCE_INTERNAL_LISTEN].
    #[arg(long, value_name = "ADDRESS")]
    internal_listen: Option<String>,
    /// What is asked: whether it delivers, or only whether it answers.
    #[arg(long = "for", value_enum, default_value_t = What::Readyz, value_name = "livez|readyz")]
    what: What,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Livez,
    Readyz,
}

impl What {
    const fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
        }
    }
}

/// Asks, and says `ok` or why not.
pub async fn run(args: Args) -> Result<(), Failure> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", reachable(configured(&args)?)),
    };
    let uri = format!("{base}{}", args.what.path()).parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.path() == args.what.path());
    let uri = uri.ok_or_else(|| Failure::Usage("--url: expected http://host:port".to_owned()))?;
    let asked = tokio::time::timeout(TIMEOUT, ask(&uri)).await;
    asked
        .unwrap_or_else(|_| Err(anyhow!("no answer within {} s", TIMEOUT.as_secs())))
        .with_context(|| uri.to_string())?;
    println!("ok");
    Ok(())
}

/// Where the node listens, by its own configuration. Nothing else of it is looked at: the files of secrets may not be
/// readable here.
fn configured(args: &Args) -> Result<SocketAddr, Failure> {
    let mut flags = Overrides::default();
    flags.set("--internal-listen", args.internal_listen.clone());
    let config = Config::load_bare(&Config::default(), args.config.as_deref(), &environment(), &flags)?;
    Ok(config.internal_listen)
}

/// Who listens everywhere is asked at the loopback address.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

async fn ask(uri: &Uri) -> anyhow::Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(uri).body(Empty::<Bytes>::new())?;
    let answer = client.request(request).await.map_err(|error| anyhow!("{}", innermost(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| anyhow!(error))?;
    if status == StatusCode::OK {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let why = body.get("reason").and_then(Value::as_str).unwrap_or("it does not say why");
    // One line, whatever was answered.
    let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
    Err(anyhow!("{}: {why}", status.as_u16()))
}

/// The cause behind all the causes: the others only say that something failed.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_at_home() {
        for (listener, asked) in [
            ("0.0.0.0:8083", "127.0.0.1:8083"),
            ("[::]:8083", "[::1]:8083"),
            ("10.0.0.7:9", "10.0.0.7:9"),
            ("127.0.0.1:8083", "127.0.0.1:8083"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()).to_string(), asked);
        }
    }
}
