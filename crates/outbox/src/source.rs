//! Where events come from, and who carries them out.

use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::Fault;
use parlance_postgres::Refused;

/// Something that the application wants published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place; events go in the order in which they are read.
    pub id: String,
    /// Its own: with the same one it is the same event.
    pub key: String,
    /// Which call it is.
    pub call: String,
    /// What the call's address would name.
    pub target: Option<String>,
    /// The call's body; empty: none. `None`: it is too large to be read.
    pub body: Option<Vec<u8>>,
    /// When it was written down, in milliseconds since 1970.
    pub at: u64,
}

/// What has to go in order with an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Of all events about the same.
    pub name: String,
    /// What was before it is settled before it goes, and it is before anything behind it goes.
    pub alone: bool,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is published.
    Published {
        /// It had not been before, as far as that can be told.
        fresh: bool,
    },
    /// It is refused, and would be again.
    Refused(Refusal),
    /// Something is away: it is tried again.
    Later(String),
}

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: String,
    /// For people.
    pub why: String,
}

/// One that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// By which it is named for another try.
    pub id: String,
    /// Which call it is.
    pub call: String,
    /// What the call's address would name.
    pub target: String,
    /// Why.
    pub refusal: Refusal,
}

/// How much there is; what is more than a hundred thousand counts as a hundred thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Not published yet.
    pub waiting: u64,
    /// Put aside.
    pub aside: u64,
    /// For how long the oldest that is not published has waited.
    pub lag: Duration,
}

/// The source does not answer, or cannot: worth a retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);

impl From<Refused> for Away {
    fn from(refused: Refused) -> Self {
        Self(refused.to_string())
    }
}

impl From<Fault> for Away {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

/// Where events come from. Of all nodes one leads at a time: it reads and settles.
#[async_trait]
pub trait Source: Send + Sync {
    /// As it is counted.
    fn name(&self) -> &'static str;

    /// Connects, where that is needed.
    async fn connect(&mut self) -> Result<(), Away>;

    /// The same, and takes the lead, unless another node has it.
    async fn lead(&mut self) -> Result<bool, Away>;

    /// Keeps the lead; one that is lost it does not take again.
    async fn renew(&self) -> Result<(), Away>;

    /// Whether nobody else can have it yet.
    fn leads(&self) -> bool;

    /// Leaves it to others.
    async fn leave(&mut self);

    /// What waits, in order, behind `after` or from the beginning: `most` at most, and no more than fits into memory. Behind
    /// `after` nothing that was not there yet when the beginning was read: what was committed before it may have been passed over.
    async fn read(&self, after: Option<&str>, most: usize) -> Result<Vec<Event>, Away>;

    /// Takes away what is published, and puts aside what is refused.
    async fn settle(&self, published: &[String], refused: &[(String, Refusal)]) -> Result<(), Away>;

    /// How much there is.
    async fn backlog(&self) -> Result<Backlog, Away>;

    /// The first so many that were put aside.
    async fn aside(&self, most: usize) -> Result<Vec<Aside>, Away>;

    /// Has what was put aside tried again: all, or one. How many there were.
    async fn retry(&self, id: Option<&str>) -> Result<u64, Away>;
}

/// Who carries events out.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// What it has to go in order with.
    fn lane(&self, event: &Event) -> Lane;

    /// How long carrying it out may take.
    fn patience(&self, event: &Event) -> Duration;

    /// Carries it out.
    async fn publish(&self, event: &Event) -> Verdict;
}

/// Who counts.
pub trait Tally: Send + Sync {
    /// Something came of an event.
    fn came(&self, source: &'static str, event: &Event, verdict: &Verdict, took: Duration);
    /// Whether this node leads; who does not knows nothing of what waits.
    fn leads(&self, source: &'static str, leads: bool);
    /// How much there is, where this node leads.
    fn waits(&self, source: &'static str, backlog: &Backlog);
}
