//! The way to Redis: the few operations the engine needs of a command client.
//!
//! Owns: what an answer looks like and that every operation ends. Must not know: keys, what functions mean.

mod fred;

use async_trait::async_trait;
use bytes::Bytes;
use parlance_backplane::Fault;

pub use self::fred::FredLink;

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
    /// Not executed: the slot has another server, or this one is no primary now.
    Elsewhere(String),
    /// Anything else; whether the command was executed is not known.
    Failed(String),
}

impl From<LinkFault> for Fault {
    fn from(fault: LinkFault) -> Self {
        match fault {
            LinkFault::NoFunction | LinkFault::NoScript => {
                Self::Unavailable("Redis lost the functions".to_owned())
            }
            LinkFault::Forbidden(why) | LinkFault::Elsewhere(why) | LinkFault::Failed(why) => {
                Self::Unavailable(why)
            }
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

impl<'a> Run<'a> {
    /// The command and what it names.
    pub const fn words(self) -> (&'static str, &'a str) {
        match self {
            Self::Function(name) => ("FCALL", name),
            Self::Script(hash) => ("EVALSHA", hash),
            Self::Text(text) => ("EVAL", text),
        }
    }
}

/// Commands to the server that has a slot.
///
/// Guarantees: an operation ends within the configured time; commands issued one after the other by one task reach
/// the server in that order, also while earlier ones are unanswered; nothing is sent twice.
#[async_trait]
pub trait RedisLink: Send + Sync {
    /// Runs a function or a script.
    async fn run(&self, run: Run<'_>, keys: &[String], args: Vec<Bytes>) -> Result<Reply, LinkFault>;

    /// Calls a function.
    async fn fcall(&self, function: &str, keys: &[String], args: Vec<Bytes>) -> Result<Reply, LinkFault> {
        self.run(Run::Function(function), keys, args).await
    }

    /// Publishes on a sharded channel.
    async fn spublish(&self, channel: &str, payload: Bytes) -> Result<(), LinkFault>;

    /// Loads (or replaces) a function library on every server.
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
