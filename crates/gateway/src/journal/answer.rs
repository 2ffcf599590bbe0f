//! What is said of a message afterwards: to whoever asks, and from node to node.
//!
//! Owns: the JSON of both. Must not know: where it was found.

use parlance_model::{ConversationId, LogKey, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::openapi::Id;

/// What another node is asked. Fields that an older release does not know are passed over there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Question {
    /// A correlation id, or an id the client made.
    pub id: Option<String>,
    /// Where the message lies in the log, once that is known.
    pub place: Option<Place>,
}

/// A place in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// Which kind of log: `conversation`, `user` (a user's feed) or `app` (an application's channel).
    pub log: String,
    /// Of which conversation, user or channel.
    pub name: String,
    /// The sequence there.
    pub seq: u64,
}

impl Place {
    /// As it is said.
    pub fn new(key: &LogKey, seq: u64) -> Self {
        let (log, name) = match key {
            LogKey::Conversation(id) => ("conversation", id.as_str()),
            LogKey::User(user) => ("user", user.as_str()),
            LogKey::App(name) => ("app", &**name),
        };
        Self { log: log.to_owned(), name: name.to_owned(), seq }
    }

    /// The log.
    pub fn key(&self) -> Option<LogKey> {
        match self.log.as_str() {
            "conversation" => ConversationId::parse(&self.name).ok().map(LogKey::Conversation),
            "user" => UserId::parse(&self.name).ok().map(LogKey::User),
            "app" => Some(LogKey::App(self.name.as_str().into())),
            _ => None,
        }
    }
}

/// What one node knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Sends.
    pub accepted: Vec<Acceptance>,
    /// Refusals.
    pub refused: Vec<RefusedCommand>,
    /// Hand-overs to sockets.
    pub delivered: Vec<Delivered>,
    /// Connections that read it later.
    pub caught_up: Vec<CaughtUp>,
    /// Who would hear of it now.
    pub present: Vec<Present>,
    /// Since when the node remembers; absent where nothing was forgotten yet.
    pub since: Option<String>,
    /// Whether it remembers anything at all.
    pub remembers: bool,
}

/// What became of a message
///
/// Gathered from the log and from what each node remembers. Never the text of a message.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The id that was asked for.
    pub id: String,
    /// Whether anything is known of it. A node that did not answer may know more.
    pub found: bool,
    /// Sends that were accepted under it. A resend is one too.
    pub accepted: Vec<Acceptance>,
    /// Commands and calls that were refused under it.
    pub refused: Vec<RefusedCommand>,
    /// As the log has it; absent where no message is known by the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged: Option<Logged>,
    /// When each node handed it to its sockets.
    pub delivered: Vec<Delivered>,
    /// Connections that read it from the log later, because they had not been there.
    pub caught_up: Vec<CaughtUp>,
    /// Whom it was for, and how far it has come with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Receipts>,
    /// Connections that would hear of it now, by node.
    pub present: Vec<Present>,
    /// The nodes that were asked, and those that are gone: what they remembered is gone with them.
    pub nodes: Vec<AskedNode>,
    /// What could not be found out, and why.
    pub missing: Vec<String>,
}

/// A send that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    /// At which node.
    #[schema(value_type = Id)]
    pub node: String,
    /// The message's id, as the server API renders it.
    pub message_id: String,
    /// Its place in the log.
    pub place: Place,
    /// Who sent it.
    #[schema(value_type = Id)]
    pub sender: String,
    /// The sender's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The connection it came by; absent: over the server API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// When the gateway began with it.
    #[schema(format = "date-time")]
    pub received_at: String,
    /// When it came into the log.
    #[schema(format = "date-time")]
    pub logged_at: String,
    /// When the sender was answered.
    #[schema(format = "date-time")]
    pub answered_at: String,
    /// It was in the log already.
    pub duplicate: bool,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// As log lines name it; of one that was never authenticated there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whose; absent where that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub user: Option<String>,
    /// Which dialect it speaks; absent where that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// The mount it came in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// When it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub ended_at: Option<String>,
}

/// A command or call that was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCommand {
    /// At which node.
    #[schema(value_type = Id)]
    pub node: String,
    /// As the client was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// When.
    #[schema(format = "date-time")]
    pub at: String,
    /// The command in the dialect's word, or the call.
    pub command: String,
    /// Why, as in `parlance_rejects_total`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The client's own id of what it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Where it was to happen, as far as the command said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The connection; absent: over plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
}

/// What the log says.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// Where it is, or was.
    pub place: Place,
    /// What is there.
    pub state: LogState,
    /// Its id, as the server API renders it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What it is: `message`, `reaction`, `app` or `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    pub sender: Option<String>,
    /// The sender's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// When it was appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub at: Option<String>,
    /// The newest sequence of the log.
    pub head: u64,
}

/// What is at a place of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogState {
    /// It is there.
    Kept,
    /// The log keeps no entries that old any more.
    Expired,
    /// The log has no such entry: it was deleted with its conversation, or lost.
    Gone,
}

/// A hand-over to the sockets of a node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// Which node.
    #[schema(value_type = Id)]
    pub node: String,
    /// When its feed took it up.
    #[schema(format = "date-time")]
    pub heard_at: String,
    /// When it was queued to every socket of the room.
    #[schema(format = "date-time")]
    pub queued_at: String,
    /// When what the sockets take at once was written; absent: not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub written_at: Option<String>,
    /// How many sockets it was queued to.
    pub sockets: u64,
    /// The same by dialect.
    pub by_dialect: Vec<OfDialect>,
    /// Sockets that were closed over it, being too slow: their clients come back and read the log.
    pub too_slow: u32,
    /// The first of those sockets, at most 16.
    pub connections: Vec<Connection>,
}

/// So many of a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfDialect {
    /// Which.
    pub dialect: String,
    /// How many.
    pub sockets: u32,
}

/// A connection that read a stretch of the log with the message in it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaughtUp {
    /// At which node.
    #[schema(value_type = Id)]
    pub node: String,
    /// Which.
    pub connection: Connection,
    /// When.
    #[schema(format = "date-time")]
    pub at: String,
}

/// Connections in the room of the message's conversation now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// At which node.
    #[schema(value_type = Id)]
    pub node: String,
    /// How many.
    pub sockets: u64,
    /// Some of them, at most 16.
    pub connections: Vec<Connection>,
}

/// How far a message has come with its recipients.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipts {
    /// Who said that it was read.
    pub read: Vec<Receipt>,
    /// Who said that it was delivered, and not that it was read.
    pub delivered: Vec<Receipt>,
    /// Who has said nothing; absent where the members are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Id>>)]
    pub none: Option<Vec<String>>,
    /// How many each list leaves out, where they are many.
    pub left_out: usize,
}

/// One recipient's receipt.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Whose.
    #[schema(value_type = Id)]
    pub user: String,
    /// When the user read last: this message, or a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub last_read_at: Option<String>,
    /// The sequence up to which the user has it.
    pub up_to: u64,
}

/// A node that was asked, or could not be.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskedNode {
    /// Which; new at every start.
    #[schema(value_type = Id)]
    pub id: String,
    /// Where other nodes reach it.
    pub address: String,
    /// Its release.
    pub version: String,
    /// Whether it answered.
    pub answered: bool,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it remembers; absent: since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    pub remembers_since: Option<String>,
}
