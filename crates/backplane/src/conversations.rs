//! Conversations, members and cursors.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{
    Conversation, ConversationId, ConversationKind, Cursor, Head, ReceiptKind, Time, UserId,
    delivery::{Marks, Moved},
};

use crate::Fault;

/// How a change treats the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberSet {
    /// Exactly these afterwards.
    Exactly(Vec<UserId>),
    /// Add and remove some.
    Delta {
        /// Who comes.
        add: Vec<UserId>,
        /// Who goes.
        remove: Vec<UserId>,
    },
}

/// A change of a conversation: creating it, its members, its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub id: ConversationId,
    /// Create it when it is not there.
    pub create: bool,
    /// Leave it alone when it is there (first message in `open` mode).
    pub only_create: bool,
    /// Its kind when created.
    pub kind: ConversationKind,
    /// The new title: `None` keeps it, `Some(None)` removes it.
    pub title: Option<Option<Arc<str>>>,
    /// The members.
    pub members: MemberSet,
    /// The integer id it shall have when created; refused when taken.
    pub number: Option<u32>,
    /// Who does it; `None` for the server API.
    pub by: Option<UserId>,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The conversation now; its members are left out when they are more than [`crate::MANY`].
    pub conversation: Conversation,
    /// Whether this change created it.
    pub created: bool,
    /// Who came by this change.
    pub added: Vec<UserId>,
    /// Who went by it.
    pub removed: Vec<UserId>,
}

/// Why a change was refused; nothing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRefused {
    /// There is no such conversation and `create` was not asked.
    NotFound,
    /// The number (asked for, or the one an all-digits id is) belongs to another conversation.
    NumberTaken,
}

/// One of a user's conversations, with what a connect needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Which.
    pub conversation: ConversationId,
    /// Its integer id.
    pub number: u32,
    /// The head when the user joined.
    pub joined_seq: u64,
    /// Where its log stands.
    pub head: Head,
    /// The user's cursors.
    pub marks: Marks,
}

/// What could be found out of a user's conversations while parts of the engine are away.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Those that answered.
    pub here: Vec<Membership>,
    /// Those that did not: the user may be in them.
    pub away: Vec<ConversationId>,
}

/// Some of all conversations there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Which, in no order.
    pub ids: Vec<ConversationId>,
    /// Where the walk goes on, for the same engine as long as it runs; `None`: that was the end of it.
    pub next: Option<String>,
}

/// Conversations and who is in them.
///
/// Guarantees: a change is one atomic step: members, version, a `Members` / `Title` / `Deleted` record in
/// the log, its publication. A change that changes nothing appends nothing. The index behind
/// [`Self::of_user`] agrees with the members. A conversation whose id is digits up to `2^30 - 1` has that
/// number; other numbers are asked for or come from a counter that starts at `2^30`; no number is ever
/// used twice, also not after a restart or a deletion.
#[async_trait]
pub trait Conversations: Send + Sync {
    /// Creates or changes one. A new member's `joined_seq` is the head before the record.
    async fn change(&self, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault>;

    /// One conversation, with all its members. Those of more than [`crate::MANY`] may be read piece by piece: who
    /// comes or goes meanwhile may be among them or not. Takes as long as they are many: see [`crate::Members`].
    async fn get(&self, id: &ConversationId) -> Result<Option<Conversation>, Fault>;

    /// All conversations of a user.
    async fn of_user(&self, user: &UserId) -> Result<Vec<Membership>, Fault>;

    /// As [`Self::of_user`], without failing for conversations whose part of the engine is away.
    async fn found_of_user(&self, user: &UserId) -> Result<Found, Fault> {
        Ok(Found { here: self.of_user(user).await?, away: Vec::new() })
    }

    /// The conversations a user may be in: perhaps too many, never too few. A guess for [`Self::found_with`].
    async fn named_of_user(&self, user: &UserId) -> Result<Vec<ConversationId>, Fault> {
        let found = self.found_of_user(user).await?;
        Ok(found.here.into_iter().map(|m| m.conversation).chain(found.away).collect())
    }

    /// As [`Self::found_of_user`], sooner where the `guess` is good: those are asked for before it is known which they
    /// are. A bad one does no harm.
    async fn found_with(&self, user: &UserId, guess: &[ConversationId]) -> Result<Found, Fault> {
        let _unused = guess;
        self.found_of_user(user).await
    }

    /// Some of all conversations: the first ones, or where a walk goes on. Looks at about as many things as are asked for at
    /// most, of which few may be conversations, or none. Whatever stands during all of a walk to its end is named, perhaps
    /// more than once; what was deleted may be named too.
    async fn listed(&self, from: Option<&str>, most: usize) -> Result<Listed, Fault>;

    /// Removes one with its log, cursors and indexes; publishes a final `Deleted` entry. `false` when there was none.
    async fn delete(&self, id: &ConversationId) -> Result<bool, Fault>;
}

/// A cursor moved: published on the conversation's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorChanged {
    /// Where.
    pub conversation: ConversationId,
    /// Whose.
    pub user: UserId,
    /// What it passed.
    pub moved: Moved,
    /// When.
    pub at: Time,
    /// The conversation's cursor version after it: dense, so that a lost publication is noticed.
    pub version: u64,
}

/// The cursors of a conversation; the default where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CursorSet {
    /// The conversation's first number.
    pub number: u32,
    /// The version the cursors are of.
    pub version: u64,
    /// All that ever moved.
    pub cursors: Vec<Cursor>,
}

/// Delivered and read cursors.
///
/// Guarantees: a member's cursors begin at the head of the log when the member joined; forward only under
/// concurrency (see [`Marks::advance`]); each move bumps the conversation's
/// cursor version by one and is published once, in the same atomic step.
#[async_trait]
pub trait Cursors: Send + Sync {
    /// Moves a member's cursor. `None` when the user is no member; otherwise the cursor and what moved.
    async fn advance(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        kind: ReceiptKind,
        seq: u64,
    ) -> Result<Option<CursorChanged>, Fault>;

    /// All cursors of a conversation that ever moved, with the version they are of.
    async fn cursors(&self, conversation: &ConversationId) -> Result<(u64, Vec<Cursor>), Fault>;

    /// The same of several conversations, with their numbers. Those of a part of the store that is away fail alone.
    async fn standing(&self, conversations: &[ConversationId]) -> Vec<Result<CursorSet, Fault>>;
}
