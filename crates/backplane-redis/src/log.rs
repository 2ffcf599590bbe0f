//! The log and reactions traits.
//!
//! Append and publication are one function. The index by author and client id lies in the author's partition: where one
//! call may touch two, it is written by the same; in a cluster beside the append. It only says where to look, so an entry
//! without a message is harmless, and one that is missing after a crash is written by the resend. Must not know: how Redis keeps a log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parlance_backplane::{
    Appended, Fault, Find, Log, Page, Posted, Range, Reacted, Reactions, Standing, Stored, record,
};
use parlance_model::{
    Author, BLOCK_BITS, ConversationId, Entry, LogKey, Message, MessageId, Record, Time, UserId,
};
use sha1::{Digest, Sha1};
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{Args, Node, millis};
use crate::keys::Keys;
use crate::link::{Reply, at};

/// Lua counts in doubles: beyond, sequences are all the same to it.
const FAR: u64 = 1 << 52;
/// How many of a log's keys who appends a message hands over.
const APPENDS: usize = 5;
/// Bytes of a name.
const NAME: usize = 12;

/// What stands for a name within its log: short, and nobody finds another one for which the same stands.
fn name(author: &str, id: &str) -> Vec<u8> {
    let digest = Sha1::new().chain_update(author).chain_update([0]).chain_update(id).finalize();
    digest.iter().copied().take(NAME).collect()
}

/// What stands for a client id where it is only looked up in which conversations it was used: several may be meant.
fn short(id: &str) -> Vec<u8> {
    xxh3_64(id.as_bytes()).to_le_bytes().to_vec()
}

/// A log's numbers, as Redis lists them.
pub fn numbers(told: &[Reply]) -> Result<Vec<u32>, Fault> {
    told.iter().map(|number| Ok(u32::try_from(number.number()?).unwrap_or(u32::MAX))).collect()
}

/// An entry, from its id and what is kept under it: epoch, time since the entry before, record.
pub fn entry(pair: &[Reply], numbers: &[u32]) -> Result<Entry, Fault> {
    let (place, Reply::Bytes(kept)) = (at(pair, 0).text()?, at(pair, 1)) else {
        return Err(Fault::Corrupt("an entry that is no text".to_owned()));
    };
    let corrupt = || Fault::Corrupt(format!("entry {place}"));
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    let mut parts = kept.splitn(3, |byte| *byte == b' ');
    let mut next = || parts.next().ok_or_else(corrupt);
    let epoch = number(next()?).and_then(|epoch| u32::try_from(epoch).ok()).ok_or_else(corrupt)?;
    let since = number(next()?).ok_or_else(corrupt)?;
    let record = record::decode_record(next()?)?;
    let (seq, time) = place.split_once('-').ok_or_else(corrupt)?;
    let (seq, time): (u64, u64) = (seq.parse().map_err(|_| corrupt())?, time.parse().map_err(|_| corrupt())?);
    let block = usize::try_from(seq >> BLOCK_BITS).unwrap_or(usize::MAX);
    let offset = u32::try_from(seq & ((1 << BLOCK_BITS) - 1)).unwrap_or(u32::MAX);
    let id = numbers.get(block).and_then(|number| MessageId::new(*number, offset)).ok_or_else(corrupt)?;
    Ok(Entry { seq, epoch, at: Time(time), prev_at: Time(time.saturating_sub(since)), id, record })
}

/// Where an entry was put, from `word, seq, at, number`.
pub fn stored(answer: &[Reply]) -> Result<Stored, Fault> {
    let (seq, number) = (at(answer, 1).number()?, at(answer, 3).number()?);
    let offset = u32::try_from(seq & ((1 << BLOCK_BITS) - 1)).unwrap_or(u32::MAX);
    let id = u32::try_from(number).ok().and_then(|number| MessageId::new(number, offset));
    let id = id.ok_or_else(|| Fault::Corrupt(format!("no id for sequence {seq} of number {number}")))?;
    Ok(Stored { seq, id, at: Time(at(answer, 2).number()?) })
}

impl Node {
    /// Calls an appending function, with numbers assigned as it asks for them.
    pub async fn append_to(
        &self,
        function: &str,
        log: &LogKey,
        numbers: Vec<u32>,
        rest: impl Fn(Args) -> Args + Send + Sync,
    ) -> Result<Vec<Reply>, Fault> {
        let keys = self.keys.log_for(log, usize::MAX);
        self.append_by(function, (log, &keys), numbers, rest).await
    }

    /// The same with keys of one's own.
    async fn append_by(
        &self,
        function: &str,
        (log, keys): (&LogKey, &[String]),
        mut numbers: Vec<u32>,
        rest: impl Fn(Args) -> Args + Send + Sync,
    ) -> Result<Vec<Reply>, Fault> {
        loop {
            let answer = self.list(function, keys, rest(self.appending(&numbers))).await?;
            if at(&answer, 0).text()? != "number" {
                return Ok(answer);
            }
            numbers.push(Box::pin(self.assign_number(log, at(&answer, 1).number()?)).await?);
        }
    }

    /// Appends a message and notes with its author where the client id was used: in one call, or in two beside each other.
    async fn append_message(
        &self,
        conversation: &ConversationId,
        message: &Message,
        together: bool,
    ) -> Result<Vec<Reply>, Fault> {
        let log = LogKey::Conversation(conversation.clone());
        let (author, client_id) = (message.author.id.as_str(), message.client_id.as_deref());
        let window = millis(self.options.dedupe_window);
        let bytes = record::encode_record(&Record::Message(message.clone()));
        let named = client_id.map_or_else(Vec::new, |id| name(author, id));
        let used = client_id.filter(|_| together).map(short);
        let mut keys = self.keys.log_for(&log, APPENDS);
        keys.extend(used.is_some().then(|| self.keys.uses_stem(&message.author.id)));
        let append = self.append_by("gw1_append", (&log, &keys), Vec::new(), |args| {
            let args = args.and(author).bytes(&named).and(window).bytes(&bytes);
            match &used {
                Some(id) => args.bytes(id).and(conversation),
                None => args,
            }
        });
        if together {
            return append.await;
        }
        // Apart, so that what is there for clusters takes no room anywhere else.
        let (noted, answer) = tokio::join!(Box::pin(self.note_use(message, conversation)), append);
        // What is stored is stored, whatever became of the index: a resend writes what is missing there.
        if let (Err(fault), Ok(_)) = (noted, &answer) {
            tracing::warn!(%fault, %conversation, "noting a client id with its author");
        }
        answer
    }

    async fn note_use(&self, message: &Message, conversation: &ConversationId) -> Result<(), Fault> {
        let Some(id) = &message.client_id else { return Ok(()) };
        let keys = self.keys.uses(&message.author.id);
        let args = self.timed().bytes(short(id)).and(millis(self.options.dedupe_window)).and(conversation);
        self.call("gw1_used", &keys, args).await.map(drop)
    }

    /// Sequence and time of a client id.
    async fn known(
        &self,
        conversation: &ConversationId,
        author: &UserId,
        id: &str,
    ) -> Result<Option<(u64, u64)>, Fault> {
        let log = LogKey::Conversation(conversation.clone());
        let args = self.timed().bytes(name(author.as_str(), id)).and(millis(self.options.dedupe_window));
        let answer = self.list("gw1_known", &self.keys.log_for(&log, APPENDS), args).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        Ok(Some((at(&answer, 0).number()?, at(&answer, 1).number()?)))
    }

    async fn find_client_id(&self, author: &UserId, id: &str) -> Result<Option<(LogKey, u64)>, Fault> {
        let args = self.timed().bytes(short(id)).and(millis(self.options.dedupe_window));
        let answer = self.call("gw1_uses", &self.keys.uses(author), args).await?;
        let places: Vec<ConversationId> =
            answer.text()?.split(' ').filter_map(|place| ConversationId::parse(place).ok()).collect();
        let found = try_join_all(places.iter().map(|place| self.known(place, author, id))).await?;
        let newest = found.into_iter().zip(places).filter_map(|(found, place)| Some((found?, place)));
        let newest = newest.max_by_key(|((_, at), _)| *at);
        Ok(newest.map(|((seq, _), place)| (LogKey::Conversation(place), seq)))
    }

    /// The log and sequence behind a number's offset, when the log (still) has it so.
    async fn find_number(
        &self,
        number: u32,
        offset: Option<MessageId>,
    ) -> Result<Option<(LogKey, u64)>, Fault> {
        let Some((log, block)) = self.owner(number).await? else { return Ok(None) };
        let seq = offset.map(|id| id.sequence_in(block));
        let kept = seq.map_or_else(String::new, |seq| seq.to_string());
        let args = Args::none().and(number).and(block).and(kept);
        let holds = self.call("gw1_holds", &self.keys.log(&log), args).await?.number()? == 1;
        Ok(holds.then(|| (log, seq.unwrap_or(u64::from(block) << BLOCK_BITS))))
    }

    async fn epoch(&self, keys: &Keys, log: &LogKey) -> Result<u32, Fault> {
        let epoch = self.call("gw1_epoch", &[keys.epoch(log)], self.timed()).await?.number()?;
        Ok(u32::try_from(epoch).unwrap_or(u32::MAX))
    }
}

#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
impl Log for Node {
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault> {
        let together = message.client_id.is_some() && self.together.load(Ordering::Relaxed);
        let answer = match self.append_message(conversation, &message, together).await {
            Err(fault) if together && self.turns_out_apart(&fault) => {
                Box::pin(self.append_message(conversation, &message, false)).await?
            }
            answer => answer?,
        };
        Ok(match at(&answer, 0).text()? {
            "new" => Appended::New(stored(&answer)?),
            "known" => Appended::Duplicate(stored(&answer)?),
            "stranger" => Appended::NotMember,
            _ => Appended::NoConversation,
        })
    }

    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault> {
        let log = LogKey::Conversation(conversation.clone());
        let user = author.id.clone();
        let bytes = record::encode_record(&Record::Reaction { author, target, kind: kind.clone(), added });
        let rest = |args: Args| {
            args.and(&user).and(target.min(FAR)).and(&kind).and(u8::from(added)).bytes(bytes.clone())
        };
        let answer = self.append_to("gw1_react", &log, Vec::new(), rest).await?;
        Ok(match at(&answer, 0).text()? {
            "new" => Reacted::New(stored(&answer)?),
            "known" => Reacted::Same(Some(stored(&answer)?)),
            "same" => Reacted::Same(None),
            "stranger" => Reacted::NotMember,
            _ => Reacted::NoMessage,
        })
    }

    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault> {
        if matches!(key, LogKey::Conversation(_)) {
            return Err(Fault::Unavailable("post does not write to conversations".to_owned()));
        }
        let bytes = record::encode_record(&record);
        let (named, window) =
            (once.map_or_else(Vec::new, |once| name("", once)), millis(self.options.dedupe_window));
        let rest = |args: Args| args.bytes(named.clone()).and(window).bytes(bytes.clone());
        let answer = self.append_to("gw1_post", key, Vec::new(), rest).await?;
        Ok(Posted { stored: stored(&answer)?, fresh: at(&answer, 0).text()? == "new" })
    }

    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault> {
        let (mode, bound, limit) = match range {
            Range::After { seq, limit } => ("after", seq, limit),
            Range::Before { seq, limit } => ("before", seq, limit),
            Range::Since { at, limit } => ("since", at.millis(), limit),
        };
        let limit = u64::try_from(limit).unwrap_or(FAR).min(FAR);
        let args = self.timed().and(mode).and(bound.min(FAR)).and(limit);
        let mut answer = self.on_log("gw1_range", key, args).await?;
        let epoch = |of: &Reply| of.number().map(|epoch| u32::try_from(epoch).unwrap_or(u32::MAX));
        if answer.len() < 6 {
            let epoch = match epoch(at(&answer, 0))? {
                0 => self.epoch(&self.keys, key).await?,
                known => known,
            };
            return Ok(Page { first: 1, epoch, ..Page::default() });
        }
        let numbers = numbers(&answer.pop().unwrap_or(Reply::Nil).list()?)?;
        let entries = answer.pop().unwrap_or(Reply::Nil).list()?;
        Ok(Page {
            entries: entries.chunks_exact(2).map(|pair| entry(pair, &numbers)).collect::<Result<_, _>>()?,
            more: at(&answer, 3).number()? == 1,
            first: at(&answer, 1).number()?,
            head: at(&answer, 0).number()?,
            epoch: epoch(at(&answer, 2))?,
        })
    }

    async fn confirm(&self, _conversation: &ConversationId, _seq: u64) -> Result<(), Fault> {
        // What `find` answered from has waited for replicas, where the level asks for that.
        Ok(())
    }

    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault> {
        match what {
            Find::Id(id) => self.find_number(id.number(), Some(id)).await,
            Find::Number(number) => {
                let found = self.find_number(number, None).await?;
                Ok(found.filter(|(log, _)| matches!(log, LogKey::Conversation(_))))
            }
            Find::ClientId { author, id, conversation: None } => self.find_client_id(&author, &id).await,
            Find::ClientId { author, id, conversation: Some(place) } => {
                let found = self.known(&place, &author, &id).await?;
                Ok(found.map(|(seq, _)| (LogKey::Conversation(place), seq)))
            }
        }
    }
}

#[async_trait]
impl Reactions for Node {
    async fn standing(
        &self,
        conversation: &ConversationId,
        first: u64,
        last: u64,
    ) -> Result<Vec<Standing>, Fault> {
        let log = LogKey::Conversation(conversation.clone());
        let args = self.timed().and(first.min(FAR)).and(last.min(FAR));
        let answer = self.on_log("gw1_standing", &log, args).await?;
        let mut all = answer.chunks_exact(2).map(standing).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|standing| (standing.target, standing.seq));
        Ok(all)
    }
}

fn standing(pair: &[Reply]) -> Result<Standing, Fault> {
    let (field, place) = (at(pair, 0).text()?, at(pair, 1).text()?);
    let corrupt = || Fault::Corrupt(format!("reaction {field:?}: {place:?}"));
    let mut parts = field.splitn(2, '\0');
    let target = parts.next().and_then(|target| target.parse().ok()).ok_or_else(corrupt)?;
    let (kind, user) = parts.next().and_then(|rest| rest.rsplit_once('\0')).ok_or_else(corrupt)?;
    let (seq, at) = place.split_once(' ').ok_or_else(corrupt)?;
    Ok(Standing {
        target,
        kind: kind.into(),
        user: UserId::parse(user).map_err(|_| corrupt())?,
        seq: seq.parse().map_err(|_| corrupt())?,
        at: Time(at.parse().map_err(|_| corrupt())?),
    })
}
