//! Members of conversations, also of those that have very many: what takes as long as the members one asks about, not
//! as long as the conversation has.

use async_trait::async_trait;
use parlance_model::{Conversation, ConversationId, UserId};

use crate::Fault;

/// A conversation with more members than these has many: it is told without them, unless all are asked for.
pub const MANY: usize = 1000;
/// [`Members::enlist`] logs newcomers by name up to so many: they would be read again by everybody who reads the log.
pub const NAMED: usize = 100;

/// Members who come and go in bulk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enlistment {
    /// Of which conversation.
    pub id: ConversationId,
    /// Who comes.
    pub add: Vec<UserId>,
    /// Who goes; none of those who come.
    pub remove: Vec<UserId>,
}

/// What an enlistment did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enlisted {
    /// Who was no member.
    pub added: Vec<UserId>,
    /// Who was one.
    pub removed: Vec<UserId>,
    /// Of those who were to come, whoever has a presence lease, whether they were members already or not.
    pub present: Vec<UserId>,
}

/// A conversation, and whether its members are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// The conversation; without members when they are [`Self::many`].
    pub conversation: Conversation,
    /// There are more than [`MANY`].
    pub many: bool,
}

/// Members, by name.
///
/// Guarantees: nothing here takes longer for a conversation that has more members.
#[async_trait]
pub trait Members: Send + Sync {
    /// Adds and removes some of an existing conversation; `None` when there is none. Not one step: parts of it are
    /// changes like those of [`crate::Conversations::change`], each atomic, except that a `Members` record of more
    /// than [`NAMED`] newcomers does not name them. After a fault it is repeated: what was done is not done again.
    ///
    /// Whoever took a presence lease before the change is among `present`; whoever takes one later and reads
    /// [`crate::Conversations::of_user`] then finds the conversation there.
    async fn enlist(&self, call: Enlistment) -> Result<Option<Enlisted>, Fault>;

    /// The head when each of these users joined; `None` for one who is no member, or where there is no conversation.
    async fn joined(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<Option<u64>>, Fault>;

    /// A conversation as a whole, without its members when they are many.
    async fn outline(&self, id: &ConversationId) -> Result<Option<Outline>, Fault>;
}
