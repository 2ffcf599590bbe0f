//! The log and the reactions that stand, as callers have them from the engine, with what is archived behind them.
//!
//! The engine is asked first: its page says where the archive's part ends, and in which epoch the log is. What is trimmed afterwards is in
//! that page already.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_backplane::{
    Appended, Fault, Fences, Find, Log, Page, Place, Posted, Range, Reacted, Reactions, Standing as Reaction,
};
use parlance_model::{Author, ConversationId, LogKey, Message, MessageId, Record};
use parlance_postgres::Refused;

use super::merge::{Archived, merged, wants_more};
use super::pool::Pool;
use super::query::{Reader, Stretch};

/// How somebody reads.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// How long one call may wait for PostgreSQL.
    pub patience: Duration,
    /// Without PostgreSQL there is no page; otherwise there is that of the engine alone.
    pub strict: bool,
}

/// A log that goes on in the archive.
pub struct Through {
    /// The engine's.
    pub log: Arc<dyn Log>,
    /// The engine's.
    pub fences: Arc<dyn Fences>,
    /// Where the rest is.
    pub pool: Arc<Pool>,
    /// How it is read.
    pub view: View,
}

impl Through {
    /// Reads on in the archive.
    async fn on(&self, id: &ConversationId, page: &Page, range: Range) -> Result<Page, Fault> {
        let read = async |reader: &Reader| read(reader, id, page.clone(), range).await;
        self.pool.ask(self.view.patience, read).await
    }

    /// Whether the log of this page is a conversation's that is there: one that was deleted looks like one of which everything was
    /// trimmed.
    async fn lives(&self, key: &LogKey, page: &Page) -> Result<bool, Fault> {
        if page.first <= page.head {
            return Ok(true);
        }
        let place = self.fences.heads(std::slice::from_ref(key)).await.into_iter().next().transpose()?;
        Ok(matches!(place, Some(Place::Log(head)) if head.epoch == page.epoch))
    }

    /// A message's place that the engine does not have any more.
    async fn find_archived(&self, id: MessageId) -> Result<Option<(LogKey, u64)>, Fault> {
        let Some((key, block)) = self.log.find(Find::Number(id.number())).await? else { return Ok(None) };
        let seq = block | u64::from(id.offset());
        let range = Range::After { seq: seq.saturating_sub(1), limit: 1 };
        let page = self.log.range(&key, range).await?;
        // What is still kept the engine knows better.
        let (LogKey::Conversation(conversation), true) = (&key, seq > 0 && seq < page.first) else {
            return Ok(None);
        };
        if !wants_more(&page, range) || !self.lives(&key, &page).await? {
            return Ok(None);
        }
        // Not "there is none" where that is not known.
        let page = self.on(conversation, &page, range).await?;
        Ok(page.entries.first().filter(|entry| entry.seq == seq && entry.id == id).map(|_| (key, seq)))
    }
}

async fn read(reader: &Reader, id: &ConversationId, page: Page, range: Range) -> Result<Page, Refused> {
    let life = reader.life(id, page.epoch).await?;
    let stretch = match range {
        Range::After { seq, limit } => {
            Stretch { above: seq, below: page.first, most: limit, backwards: false }
        }
        Range::Before { seq, limit } => {
            let most = limit.saturating_sub(page.entries.len());
            Stretch { above: 0, below: seq.min(page.first), most, backwards: true }
        }
        Range::Since { at, limit } => match reader.since(id, &life, at).await? {
            Some(first) if first < page.first => {
                Stretch { above: first.saturating_sub(1), below: page.first, most: limit, backwards: false }
            }
            _ => return Ok(merged(page, range, &life, Archived::default())),
        },
    };
    let archived = reader.stretch(id, &life, stretch).await?;
    Ok(merged(page, range, &life, archived))
}

#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
impl Log for Through {
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault> {
        self.log.append(conversation, message).await
    }

    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault> {
        self.log.react(conversation, author, target, kind, added).await
    }

    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault> {
        self.log.post(key, record, once).await
    }

    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault> {
        let page = self.log.range(key, range).await?;
        let LogKey::Conversation(id) = key else { return Ok(page) };
        if !wants_more(&page, range) || !self.lives(key, &page).await? {
            return Ok(page);
        }
        match self.on(id, &page, range).await {
            Ok(page) => Ok(page),
            Err(fault) if self.view.strict => Err(fault),
            // It is counted, and said when it begins; whoever reads this is told of the gap.
            Err(_) => Ok(page),
        }
    }

    async fn confirm(&self, conversation: &ConversationId, seq: u64) -> Result<(), Fault> {
        self.log.confirm(conversation, seq).await
    }

    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault> {
        let Find::Id(id) = what else { return self.log.find(what).await };
        match self.log.find(what).await? {
            Some(found) => Ok(Some(found)),
            None => self.find_archived(id).await,
        }
    }
}

/// The reactions that stand, with those to archived messages.
pub struct Standing {
    /// The engine's.
    pub engine: Arc<dyn Reactions>,
    /// The log of which they are.
    pub through: Arc<Through>,
}

#[async_trait]
impl Reactions for Standing {
    async fn standing(
        &self,
        conversation: &ConversationId,
        first: u64,
        last: u64,
    ) -> Result<Vec<Reaction>, Fault> {
        let mut kept = self.engine.standing(conversation, first, last).await?;
        // Afterwards: what was trimmed in between is archived.
        let key = LogKey::Conversation(conversation.clone());
        let head = Range::After { seq: u64::MAX, limit: 0 };
        let page = self.through.log.range(&key, head).await?;
        if page.head == 0 || first >= page.first || !self.through.lives(&key, &page).await? {
            return Ok(kept);
        }
        let (epoch, to) = (page.epoch, last.min(page.first - 1));
        let read = async |reader: &Reader| {
            let life = reader.life(conversation, epoch).await?;
            reader.reactions(conversation, &life, (first, to)).await
        };
        let mut all = self.through.pool.ask(self.through.view.patience, read).await?;
        kept.retain(|reaction| reaction.target > to);
        all.append(&mut kept);
        Ok(all)
    }
}
