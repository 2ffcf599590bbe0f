//! What load is put on: the nodes, how they are spoken to, the users' tokens, the rooms.
//!
//! Must not know: what is measured.

pub mod rooms;
mod token;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::time::timeout;

use crate::net::{Dial, Line, LongPoll, Polling, WebSocket};
use crate::outcome;
use crate::speech::{self, Dialect, Framing, Recovery, Speaker, Speech, string_behind};

/// Signs the tokens of `parlance dev`.
const DEV_SECRET: &str = "parlance-development-secret-do-not-use-in-production";
/// Opens the server API of `parlance dev`.
const DEV_API_KEY: &str = "parlance-development-api-key";

/// How long a connection may take to be in a room.
const PATIENCE: Duration = Duration::from_secs(60);

/// What load is put on.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The nodes, with commas between: ws://host:port. Publishers and receivers are dealt round robin.
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:8082")]
    pub nodes: Vec<String>,
    /// What is there.
    #[arg(long, value_enum, default_value = "parlance")]
    pub kind: Kind,
    /// The dialect of Parlance that is spoken, on its usual mount.
    #[arg(long, value_enum, default_value = "socialhub")]
    pub dialect: Dialect,
    /// What carries a Socket.IO dialect, and SocialHub.
    #[arg(long, value_enum, default_value = "websocket")]
    pub transport: Transport,
    /// Publishers on the first node, receivers on the others.
    #[arg(long)]
    pub cross: bool,
    /// The path of the mount, when it is not the usual one.
    #[arg(long)]
    pub path: Option<String>,
    /// The HS256 secret tokens are signed with; that of `parlance dev` when absent.
    #[arg(long, env = "PARLANCE_JWT_SECRET", hide_env_values = true, default_value = DEV_SECRET, hide_default_value = true)]
    pub secret: String,
    /// Whether rooms are made over the server API (managed) or, in SeChat, by their first message (open: at most 256
    /// recipients each).
    #[arg(long, value_enum, default_value = "managed")]
    pub membership: Membership,
    /// A key of the server API; that of `parlance dev` when absent.
    #[arg(long, env = "PARLANCE_BENCH_API_KEY", hide_env_values = true, default_value = DEV_API_KEY, hide_default_value = true)]
    pub api_key: String,
    /// Where the server API is, on any of the nodes.
    #[arg(long, default_value = "http://127.0.0.1:8083")]
    pub api: String,
    /// Handshakes under way at once while a scenario is set up.
    #[arg(long, default_value_t = 200)]
    pub concurrency: usize,
}

/// What is under load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// Parlance.
    Parlance,
    /// A plain Socket.IO server with the events `join` and `msg`.
    Socketio,
    /// Centrifugo, over its JSON protocol.
    Centrifugo,
    /// `parlance-bench floor`.
    Floor,
}

/// What carries a protocol that has a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Transport {
    /// A WebSocket.
    Websocket,
    /// HTTP long polling.
    Polling,
}

/// How rooms come to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Membership {
    /// Over the server API.
    Managed,
    /// By the first message.
    Open,
}

/// On which side of a `--cross` run a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It sends.
    Publisher,
    /// It hears.
    Receiver,
}

/// One connection to be made.
#[derive(Clone, Copy, Debug)]
pub struct Plug<'a> {
    /// As whom.
    pub user: &'a str,
    /// Counts the connections of the run: they are dealt to nodes and source addresses by it.
    pub index: usize,
    /// Which nodes it may go to.
    pub side: Side,
}

/// How a connection comes in, and comes back.
pub struct Entry {
    /// Who.
    pub speaker: Speaker,
    /// Where to.
    pub dial: Dial,
    /// On which side it is.
    pub side: Side,
    /// Where Socket.IO's recovery goes on.
    pub recovery: Recovery,
}

/// A target whose addresses are known.
pub struct Place {
    /// As on the command line.
    pub target: Target,
    addresses: Vec<SocketAddr>,
}

impl Target {
    /// Looks the addresses up.
    pub async fn find(&self) -> Result<Place> {
        let mut addresses = Vec::new();
        for node in &self.nodes {
            addresses.push(address(node).await?);
        }
        let raw = self.speech().framing() == Framing::Raw && self.dialect != Dialect::Socialhub;
        if raw && self.transport == Transport::Polling {
            bail!("this is a raw WebSocket: it cannot be polled");
        }
        if addresses.is_empty() || (self.cross && addresses.len() < 2) {
            bail!("--cross needs two nodes");
        }
        Ok(Place { target: self.clone(), addresses })
    }

    /// How it is spoken to.
    pub fn speech(&self) -> &'static dyn Speech {
        match self.kind {
            Kind::Parlance => self.dialect.speech(),
            Kind::Socketio => speech::PEER,
            Kind::Centrifugo => speech::CENTRIFUGO,
            Kind::Floor => speech::FLOOR,
        }
    }

    /// As it stands in an outcome.
    pub fn described(&self) -> outcome::Target {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        outcome::Target {
            kind: name(self.kind.to_possible_value()),
            dialect: if self.kind == Kind::Parlance {
                name(self.dialect.to_possible_value())
            } else {
                String::new()
            },
            transport: name(self.transport.to_possible_value()),
            nodes: self.nodes.clone(),
        }
    }
}

impl Place {
    /// The node that this connection goes to.
    pub fn address(&self, side: Side, index: usize) -> SocketAddr {
        let nodes = match side {
            _ if !self.target.cross => &self.addresses[..],
            Side::Publisher => &self.addresses[..1],
            Side::Receiver => &self.addresses[1..],
        };
        nodes[index % nodes.len()]
    }

    /// How it is spoken to.
    pub fn speech(&self) -> &'static dyn Speech {
        self.target.speech()
    }

    /// A user with a token.
    pub fn speaker(&self, user: &str) -> Result<Speaker> {
        let token = match self.target.kind {
            Kind::Floor => String::new(),
            Kind::Parlance | Kind::Socketio | Kind::Centrifugo => token::sign(&self.target.secret, user)?,
        };
        Ok(Speaker { user: user.to_owned(), token })
    }

    /// Connects a user, who is in when this returns.
    pub async fn connect(&self, plug: Plug<'_>) -> Result<Line> {
        let speaker = self.speaker(plug.user)?;
        let mut entry =
            Entry { speaker, dial: self.dial(plug, 0), side: plug.side, recovery: Recovery::default() };
        self.enter(&mut entry, &mut |_| {}).await
    }

    /// Whether one polls where the dialect's WebSocket is raw: who does hears everything, and can send nothing.
    pub fn polls(&self, side: Side) -> bool {
        side == Side::Receiver
            && self.target.kind == Kind::Parlance
            && self.target.dialect == Dialect::Socialhub
            && self.target.transport == Transport::Polling
    }

    /// Where the connection with this plug goes; another node with every attempt.
    pub fn dial(&self, plug: Plug<'_>, attempt: usize) -> Dial {
        Dial::numbered(self.address(plug.side, plug.index + attempt), plug.index)
    }

    /// Connects. What arrives before one is in (a recovery's missed events) is handed over.
    pub async fn enter(&self, entry: &mut Entry, missed: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Line> {
        timeout(PATIENCE, self.try_enter(entry, missed)).await.context("not in within a minute")?
    }

    async fn try_enter(&self, entry: &mut Entry, missed: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Line> {
        let speech = self.speech();
        let Entry { speaker, dial, side, recovery } = entry;
        let mut line = self.open(*dial, speaker, *side).await?;
        recovery.recovered = false;
        if let Some(hello) = speech.hello(speaker, recovery) {
            line.send(&hello)?;
            let mut admitted = |packet: &[u8]| {
                if let Some(pid) = string_behind(packet, b"\"pid\":\"").filter(|_| packet.starts_with(b"0{"))
                {
                    recovery.recovered = recovery.pid.as_deref() == Some(pid);
                    recovery.pid = Some(pid.to_owned());
                }
                speech.admitted(packet).map(|is_in| is_in.then_some(())).transpose()
            };
            line.until(&mut admitted, missed).await??;
        }
        Ok(line)
    }

    async fn open(&self, dial: Dial, speaker: &Speaker, side: Side) -> Result<Line> {
        let speech = self.speech();
        if self.polls(side) {
            return Ok(Line::LongPoll(Box::new(LongPoll::open(dial, &speaker.user, &speaker.token).await?)));
        }
        let mut path = self.target.path.clone().unwrap_or_else(|| speech.path().to_owned());
        let mut more = |query: String| {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&query);
        };
        if speech.token_in_query() && !speaker.token.is_empty() {
            more(format!("token={}", speaker.token));
        }
        let engine = speech.framing() == Framing::SocketIo;
        if engine && self.target.transport == Transport::Polling {
            return Ok(Line::Polling(Box::new(Polling::open(dial, &path).await?)));
        }
        if engine {
            more("EIO=4&transport=websocket".to_owned());
        }
        let mut line = Line::WebSocket(WebSocket::open(dial, &path, engine).await?);
        if engine {
            line.until(|packet| packet.starts_with(b"0{\"sid\"").then_some(()), &mut |_| {}).await?;
        }
        Ok(line)
    }

    /// Joins a room; `number` tells the answers of one connection apart. What else arrives is handed over.
    pub async fn join(
        &self,
        line: &mut Line,
        room: &str,
        number: u64,
        other: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<()> {
        let Some(request) = self.speech().join(room, number) else { return Ok(()) };
        self.ask(line, &request, number, other).await
    }

    /// Asks for something that is answered as a join is.
    pub async fn ask(
        &self,
        line: &mut Line,
        request: &str,
        number: u64,
        other: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<()> {
        let speech = self.speech();
        line.send(request)?;
        let joined =
            |packet: &[u8]| speech.joined(packet, number).map(|is_in| is_in.then_some(())).transpose();
        let answered = line.until(joined, other);
        timeout(PATIENCE, answered).await.context("not in the room within a minute")??
    }
}

/// The address of a node given as `ws://host:port` or `http://host:port`.
pub async fn address(url: &str) -> Result<SocketAddr> {
    if url.starts_with("wss:") || url.starts_with("https:") {
        bail!("no TLS here: put the load on the plain port behind it ({url})");
    }
    let host = url.trim_start_matches("ws://").trim_start_matches("http://").trim_end_matches('/');
    let mut found = tokio::net::lookup_host(host).await.with_context(|| format!("no address for {url}"))?;
    found.next().with_context(|| format!("no address for {url}"))
}
