//! The way to Redis: the few operations the engine needs of a command client.
//!
//! Owns: what an answer looks like and that every operation ends. Must not know: keys, what functions mean.

mod desk;
mod pipe;
mod redirect;
mod routed;
mod wire;

use async_trait::async_trait;
use bytes::Bytes;
use parlance_backplane::Fault;
use parlance_backplane::stats::Failure;

pub use pipe::{Pipe, Way};
pub use routed::Routed;
pub use wire::Primary;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// An integer.
    Int(i64),
    /// Bytes, or a status.
    Bytes(Bytes),
    /// A list.
    List(Vec<Reply>),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFault {
    /// The server does not know the function: the library has to be loaded.
    NoFunction,
    /// The server does not know the script: its text has to be sent.
    NoScript,
    /// The server or its access rules do not know such a command.
    Forbidden(String),
    /// Not executed: the slot has another server, or this one is no primary now, or not ready yet.
    Elsewhere(String),
    /// Not sent: there is no connection.
    Away(String),
    /// The connection broke; whether the command was executed is not known.
    Lost(String),
    /// Nobody answered in time; whether the command was executed, or will be, is not known.
    Silent(String),
    /// Anything else; whether the command was executed is not known.
    Failed(String),
}

impl From<LinkFault> for Fault {
    fn from(fault: LinkFault) -> Self {
        match fault {
            LinkFault::NoFunction | LinkFault::NoScript => {
                Self::Unavailable("Redis lost the functions".to_owned())
            }
            LinkFault::Forbidden(why)
            | LinkFault::Elsewhere(why)
            | LinkFault::Away(why)
            | LinkFault::Lost(why)
            | LinkFault::Silent(why)
            | LinkFault::Failed(why) => Self::Unavailable(why),
        }
    }
}

/// What is run inside Redis.
#[derive(Debug, Clone, Copy)]
pub enum Run<'a> {
    /// A function by name (`FCALL`).
    Function(&'a str),
    /// A script by hash (`EVALSHA`).
    Script(&'a str),
    /// A script by text (`EVAL`), which the server then knows by hash.
    Text(&'a str),
}

/// A command as it is sent.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What follows.
    pub args: Vec<Bytes>,
}

impl Command {
    /// From words.
    pub fn new(name: &'static str, words: &[&str]) -> Self {
        Self { name, args: words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect() }
    }
}

impl<'a> Run<'a> {
    /// The command, and what it runs.
    pub const fn spelled(self) -> (&'static str, &'a str) {
        match self {
            Self::Function(name) => ("FCALL", name),
            Self::Script(hash) => ("EVALSHA", hash),
            Self::Text(text) => ("EVAL", text),
        }
    }

    /// As a command.
    pub fn command(self, keys: &[String], args: Vec<Bytes>) -> Command {
        let (name, script) = self.spelled();
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.push(Bytes::copy_from_slice(script.as_bytes()));
        all.push(Bytes::from(keys.len().to_string()));
        all.extend(keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())));
        all.extend(args);
        Command { name, args: all }
    }
}

/// Beginnings of refusals by a server that did not execute the command and of which another may.
const ELSEWHERE: [&str; 7] =
    ["MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN"];

impl LinkFault {
    /// As what it is counted.
    pub const fn kind(&self) -> Failure {
        match self {
            Self::NoFunction | Self::NoScript => Failure::Functions,
            Self::Forbidden(_) => Failure::Forbidden,
            Self::Elsewhere(_) => Failure::Elsewhere,
            Self::Away(_) => Failure::Away,
            Self::Lost(_) => Failure::Lost,
            Self::Silent(_) => Failure::Silent,
            Self::Failed(_) => Failure::Failed,
        }
    }

    /// What a server's error means.
    pub fn of_error(said: &str) -> Self {
        // Access rules also refuse keys; only a refused command can be done without.
        let no_command = said.starts_with("NOPERM") && said.contains("command");
        if said.contains("Function not found") {
            Self::NoFunction
        } else if said.starts_with("NOSCRIPT") {
            Self::NoScript
        } else if no_command || said.contains("unknown command") {
            Self::Forbidden(said.to_owned())
        } else if ELSEWHERE.iter().any(|word| said.starts_with(word)) {
            Self::Elsewhere(said.to_owned())
        } else {
            Self::Failed(format!("Redis: {said}"))
        }
    }
}

/// Commands to one server.
///
/// Guarantees: an operation ends within the configured time; commands whose futures are polled first one after the
/// other reach the server in that order, also while earlier ones are unanswered, unless so many are under way that
/// they have to wait; nothing is sent twice.
#[async_trait]
pub trait RedisLink: Send + Sync {
    /// Runs a function or a script.
    async fn run(&self, run: Run<'_>, keys: &[String], args: &[&[u8]]) -> Result<Reply, LinkFault>;

    /// Runs a plain command.
    async fn plain(&self, name: &str, words: &[&[u8]]) -> Result<Reply, LinkFault>;

    /// Publishes on a sharded channel.
    async fn spublish(&self, channel: &str, payload: Bytes) -> Result<(), LinkFault>;

    /// Loads (or replaces) a function library there.
    async fn function_load(&self, code: &str) -> Result<(), LinkFault>;

    /// Whether the server answers.
    async fn ping(&self) -> Result<(), LinkFault>;

    /// A section of what the server says of itself.
    async fn info(&self, section: &str) -> Result<String, LinkFault>;

    /// Ends the connections.
    async fn close(&self);
}

impl Reply {
    /// The elements of a list; of nothing, none.
    pub fn list(self) -> Result<Vec<Self>, Fault> {
        match self {
            Self::List(all) => Ok(all),
            Self::Nil => Ok(Vec::new()),
            other => Err(unexpected("a list", &other)),
        }
    }

    /// Text.
    pub fn text(&self) -> Result<&str, Fault> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("text", self)),
            other => Err(unexpected("text", other)),
        }
    }

    /// An integer, also one written as text.
    pub fn number(&self) -> Result<u64, Fault> {
        let number = match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Bytes(_) => self.text()?.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| unexpected("a number", self))
    }
}

/// The element at `index` of an answer.
pub fn at(list: &[Reply], index: usize) -> &Reply {
    list.get(index).unwrap_or(&Reply::Nil)
}

fn unexpected(wanted: &str, reply: &Reply) -> Fault {
    let what = match reply {
        Reply::Nil => "nothing",
        Reply::Int(_) => "an integer",
        Reply::Bytes(_) => "bytes",
        Reply::List(_) => "a list",
    };
    Fault::Corrupt(format!("Redis answered {what} where {wanted} belongs"))
}
