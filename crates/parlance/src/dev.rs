//! `parlance dev`: a gateway to try things with, and what to paste to do so.
//!
//! Owns: the development secret and the demo conversation. Nothing of it is meant for production.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use parlance_backplane::{Backplane, Change, MemberSet};
use parlance_client::Framing;
use parlance_gateway::auth::sign_dev_token;
use parlance_gateway::clock::Clock;
use parlance_gateway::config::{Auth, Config, Membership, Mount};
use parlance_model::{ConversationId, ConversationKind, UserId};

use crate::cli::NodeFlags;
use crate::failure::Failure;
use crate::rotation::Rotation;
use crate::sources::Sources;
use crate::{serve, start};

/// Signs the tokens of a development gateway. Public: good for nothing else.
pub const DEV_SECRET: &str = "parlance-development-secret-do-not-use-in-production";
/// Opens the server API of a development gateway. Public too.
pub const DEV_API_KEY: &str = "parlance-development-api-key";

const DEMO: &str = "demo";
const USERS: [(&str, &str); 2] = [("alice", "Alice"), ("bob", "Bob")];
/// Columns of the names in the welcome.
const WIDE: usize = 13;
const TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// `parlance dev`.
pub async fn run(flags: NodeFlags) -> Result<(), Failure> {
    let sources = Sources::new(base(), &flags);
    let config = sources.load()?;
    let logs = serve::begin(&sources, &config)?;
    let signals = serve::Signals::listen()?;
    let clock = Clock::system();
    let (running, backplane) = start::start(config.clone(), clock.clone()).await?;
    create_demo(&backplane).await?;
    let Backplane { ack_level, survives, .. } = &backplane;
    let kept = format!("{} (acknowledged messages survive {survives})", ack_level.as_str());
    let addresses = (running.public_addr(), running.internal_addr());
    let text = welcome(&config, &kept, addresses, &clock)?;
    // Nobody reads it when stdout is closed; the gateway is there all the same.
    let _ = stdout().lock().write_all(text.as_bytes());
    serve::announce(&running)?;
    serve::live(running, signals, Rotation::of(&config), &sources, &logs).await
}

/// Defaults of a development gateway: this machine only, public secret, everything open.
pub fn base() -> Config {
    let mut config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
        auth: Auth { secrets: vec![DEV_SECRET.to_owned()], allow_short_secrets: true, ..Auth::default() },
        api_keys: vec![DEV_API_KEY.to_owned()],
        origins: vec!["*".to_owned()],
        ..Config::default()
    };
    "warn".clone_into(&mut config.log.level);
    for mount in &mut config.mounts {
        mount.membership = Membership::Open;
    }
    config
}

async fn create_demo(backplane: &Backplane) -> Result<(), Failure> {
    let id = ConversationId::parse(DEMO).map_err(anyhow::Error::from)?;
    let add = USERS.iter().map(|(user, _)| UserId::parse(user)).collect::<Result<Vec<_>, _>>();
    let add = add.map_err(anyhow::Error::from)?;
    let by = add.first().cloned();
    let change = Change {
        id,
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: Some(Some("Demo".into())),
        members: MemberSet::Delta { add, remove: Vec::new() },
        number: None,
        by,
    };
    let changed = backplane.conversations.change(change).await.map_err(anyhow::Error::from)?;
    changed.map(drop).map_err(|refused| anyhow::anyhow!("cannot create `{DEMO}`: {refused:?}").into())
}

fn welcome(
    config: &Config,
    kept: &str,
    (public, internal): (SocketAddr, SocketAddr),
    clock: &Clock,
) -> Result<String, Failure> {
    let terminal = stdout().is_terminal();
    let bold = |text: &str| if terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
    let public = reachable(public);
    let mut lines =
        vec![String::new(), format!("  {}", bold("Parlance is listening (development)")), String::new()];
    lines.extend(config.mounts.iter().map(|mount| format!("  {}", place(mount, public))));
    lines.push(format!("  {:<WIDE$} http://{}", "server API", reachable(internal)));
    if let Some(key) = config.api_keys.first().filter(|key| *key == DEV_API_KEY) {
        lines.push(format!("  {:<WIDE$} {key}", "API key"));
    }
    lines.push(format!("  {:<WIDE$} {kept}", "ack level"));
    let secret = config.auth.secrets.first();
    lines.extend([String::new(), format!("  {}", bold("Tokens, good for seven days"))]);
    let mut chats = Vec::new();
    for ((user, name), dialect) in USERS.into_iter().zip(["sechat", "famly"]) {
        let Some(secret) = secret else {
            lines.push(format!("  {user:<6} no shared secret is configured: ask your issuer"));
            continue;
        };
        let id = UserId::parse(user).map_err(anyhow::Error::from)?;
        let token =
            sign_dev_token(secret, &id, Some(name), TOKEN_TTL, clock.now()).map_err(anyhow::Error::msg)?;
        lines.push(format!("  {user:<6} {token}"));
        let given = if secret == DEV_SECRET { String::new() } else { format!(" --token {token}") };
        chats.push(format!(
            "  {} chat --dialect {dialect} --user {user} --conversation {DEMO} --url ws://{public}{given}",
            program()
        ));
    }
    if !chats.is_empty() {
        lines.extend([String::new(), format!("  {}", bold("Paste one line into each of two terminals"))]);
        lines.append(&mut chats);
    }
    lines.extend([String::new(), String::new()]);
    Ok(lines.join("\n"))
}

/// Where a mount is: raw ones by the address to open, Socket.IO ones by what its clients are given.
fn place(mount: &Mount, public: SocketAddr) -> String {
    let (name, path) = (&mount.name, &mount.path);
    match (mount.carried(), mount.namespace.as_str()) {
        (Framing::Raw, _) => format!("{name:<WIDE$} ws://{public}{path}"),
        (Framing::Socketio, "/") => format!("{name:<WIDE$} http://{public}{path}  (Socket.IO)"),
        (Framing::Socketio, namespace) => {
            format!("{name:<WIDE$} http://{public}{path}  (Socket.IO, namespace {namespace})")
        }
    }
}

/// How this program is called from where the user is.
fn program() -> &'static str {
    if std::env::var_os("CARGO").is_some() { "cargo run --release --" } else { "parlance" }
}

/// An address to connect to: a listener on all addresses is reached on this machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_defaults_are_usable_and_local() {
        let config = base();
        assert_eq!(config.validate(), Ok(()));
        assert!(config.listen.ip().is_loopback() && config.internal_listen.ip().is_loopback());
    }

    #[test]
    fn the_welcome_shows_addresses_tokens_and_chat_lines() {
        let public = SocketAddr::from(([0, 0, 0, 0], 4000));
        let internal = SocketAddr::from(([127, 0, 0, 1], 4001));
        let text = welcome(&base(), "file (x)", (public, internal), &Clock::system()).unwrap();
        for part in [
            "ws://127.0.0.1:4000/sechat",
            "ws://127.0.0.1:4000/ws",
            "sechat-io     http://127.0.0.1:4000/sechat/socket.io/  (Socket.IO)",
            "http://127.0.0.1:4000/lingochat/socket.io/",
            "famly         http://127.0.0.1:4000/socket.io/",
            "http://127.0.0.1:4000/api/socket.io/",
            "http://127.0.0.1:4000/socket.io/  (Socket.IO, namespace /api/socket.io)",
            "http://127.0.0.1:4001",
            "ack level     file (x)",
            "chat --dialect sechat --user alice --conversation demo",
            "chat --dialect famly --user bob --conversation demo",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("eyJ0eXAi").count(), 2, "a token each");
        let mut own = base();
        own.auth.secrets = vec!["a-secret-of-my-own-with-32-bytes!!!".to_owned()];
        let text = welcome(&own, "file (x)", (public, internal), &Clock::system()).unwrap();
        assert_eq!(text.matches("--token eyJ").count(), 2, "the chat lines work with any secret");
        assert!(!text.contains(&own.auth.secrets[0]));
    }
}
