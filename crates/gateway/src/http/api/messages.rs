//! History, and sending on a user's behalf.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::Range;
use parlance_model::{
    Author, Conversation, Entry, LogKey, Message, MessageId, Record, RejectCode, Send, Time,
};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::conversations::existing;
use super::errors::ApiError;
use super::input::{self, Asked, Input, Named};
use super::{Answer, answer};
use crate::commands;
use crate::node::Node;

const DEFAULT_LIMIT: usize = 50;
const MOST: usize = 200;
/// Entries read at once.
const CHUNK: usize = 500;
/// Reads for one call: a log may hold long stretches without a message.
const READS: usize = 8;
const LONGEST_CLIENT_ID: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    after: Option<String>,
    before: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Post {
    sender_id: String,
    body: String,
    client_id: Option<String>,
    metadata: Option<Box<RawValue>>,
}

/// A message of a history.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    id: String,
    conversation_id: &'a str,
    seq: u64,
    sender_id: &'a str,
    body: &'a str,
    client_id: Option<&'a str>,
    created_at: String,
    metadata: Option<&'a RawValue>,
    reactions: Vec<Reaction<'a>>,
}

#[derive(Serialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Reaction<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: &'a str,
    created_at: String,
}

/// History, oldest first, without regard to membership.
pub async fn list(State(node): State<Arc<Node>>, name: Named, Asked(query): Asked<Query>) -> Answer {
    let conversation = existing(&node, &name).await?;
    let range = range(&conversation, &query)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST);
    let key = LogKey::Conversation(conversation.id.clone());
    let (found, more) = match range {
        Range::Before { seq, .. } => backward(&node, &key, seq, limit).await?,
        forward => self::forward(&node, &key, forward, limit).await?,
    };
    let reacted = match found.first() {
        Some(first) => reactions(&node, &key, first.seq).await?,
        None => Vec::new(),
    };
    let mut by_target = standing(&reacted);
    let mut messages = Vec::with_capacity(found.len());
    for entry in &found {
        if let Record::Message(message) = &entry.record {
            let reactions = by_target.remove(&entry.seq).unwrap_or_default();
            messages.push(item(&conversation, entry, message, reactions));
        }
    }
    answer(
        StatusCode::OK,
        &json!({
            "messages": messages,
            "has_more": more,
            "lastSequence": conversation.head.seq,
        }),
    )
}

/// Sends on a member's behalf.
pub async fn send(State(node): State<Arc<Node>>, name: Named, Input(call): Input<Post>) -> Answer {
    if call.body.is_empty() {
        return Err(ApiError::invalid("body is empty"));
    }
    if call.client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_CLIENT_ID) {
        return Err(ApiError::invalid(format!("clientId is 1 to {LONGEST_CLIENT_ID} bytes")));
    }
    let metadata = call.metadata.as_deref().filter(|value| value.get() != "null");
    if metadata.is_some_and(|value| !value.get().trim_start().starts_with('{')) {
        return Err(ApiError::invalid("metadata is an object"));
    }
    let send = Send {
        conversation: name.conversation()?,
        client_id: call.client_id.map(Arc::from),
        body: call.body.into(),
        to: Vec::new(),
        metadata: metadata.map(|value| input::raw(&node, "metadata", value)).transpose()?,
        extra: None,
    };
    let author = Author::bare(input::user(&call.sender_id)?);
    match commands::send::on_behalf(&node, author, send).await {
        Ok(accepted) => {
            let status = if accepted.fresh { StatusCode::CREATED } else { StatusCode::OK };
            answer(
                status,
                &json!({
                    "id": shown(accepted.id, accepted.at),
                    "seq": accepted.seq,
                    "createdAt": accepted.at.to_iso(),
                    "duplicate": !accepted.fresh,
                }),
            )
        }
        Err(reject) => {
            if reject.code == RejectCode::Forbidden {
                // Clients are not told this apart; the application's own backend may know.
                existing(&node, &name).await?;
            }
            Err(reject.into())
        }
    }
}

/// Ids are opaque to callers; every rendering is accepted back.
fn shown(id: MessageId, at: Time) -> String {
    id.to_opaque(at.seconds32())
}

fn range(conversation: &Conversation, query: &Query) -> Result<Range, ApiError> {
    let limit = CHUNK;
    let sequence = |text: &str| sequence(conversation, text);
    match (&query.after, &query.before, &query.since) {
        (None, None, None) => Ok(Range::Before { seq: u64::MAX, limit }),
        (Some(after), None, None) => Ok(Range::After { seq: sequence(after)?, limit }),
        (None, Some(before), None) => Ok(Range::Before { seq: sequence(before)?, limit }),
        (None, None, Some(since)) => match Time::parse_iso(since) {
            Some(at) => Ok(Range::Since { at, limit }),
            None => Ok(Range::After { seq: sequence(since)?, limit }),
        },
        _ => Err(ApiError::invalid("only one of after, before and since")),
    }
}

fn sequence(conversation: &Conversation, text: &str) -> Result<u64, ApiError> {
    let id = MessageId::from_any(text).ok_or_else(|| ApiError::invalid("not a message id"))?;
    let block = conversation.numbers.iter().position(|number| *number == id.number());
    block
        .and_then(|block| u32::try_from(block).ok())
        .map(|block| id.sequence_in(block))
        .ok_or_else(|| ApiError::not_found("the message is not of this conversation"))
}

const fn is_message(entry: &Entry) -> bool {
    matches!(entry.record, Record::Message(_))
}

async fn forward(
    node: &Node,
    key: &LogKey,
    mut range: Range,
    limit: usize,
) -> Result<(Vec<Entry>, bool), ApiError> {
    let mut found = Vec::new();
    for _ in 0..READS {
        let page = node.backplane.log.range(key, range).await?;
        let last = page.entries.last().map(|entry| entry.seq);
        found.extend(page.entries.into_iter().filter(is_message));
        if found.len() > limit {
            found.truncate(limit);
            return Ok((found, true));
        }
        match last.filter(|_| page.more) {
            Some(seq) => range = Range::After { seq, limit: CHUNK },
            None => return Ok((found, false)),
        }
    }
    Ok((found, true))
}

async fn backward(
    node: &Node,
    key: &LogKey,
    mut seq: u64,
    limit: usize,
) -> Result<(Vec<Entry>, bool), ApiError> {
    // Newest first while collecting.
    let mut found: Vec<Entry> = Vec::new();
    let mut more = true;
    for _ in 0..READS {
        let page = node.backplane.log.range(key, Range::Before { seq, limit: CHUNK }).await?;
        let first = page.entries.first().map(|entry| entry.seq);
        found.extend(page.entries.into_iter().rev().filter(is_message));
        match first.filter(|_| page.more && found.len() <= limit) {
            Some(next) => seq = next,
            None => {
                more = found.len() > limit;
                break;
            }
        }
    }
    found.truncate(limit);
    found.reverse();
    Ok((found, more))
}

/// The reactions after a message: those to it and to everything newer.
async fn reactions(node: &Node, key: &LogKey, mut seq: u64) -> Result<Vec<Entry>, ApiError> {
    let mut found = Vec::new();
    for _ in 0..READS {
        let page = node.backplane.log.range(key, Range::After { seq, limit: CHUNK }).await?;
        let last = page.entries.last().map(|entry| entry.seq);
        found.extend(page.entries.into_iter().filter(|e| matches!(e.record, Record::Reaction { .. })));
        match last.filter(|_| page.more) {
            Some(next) => seq = next,
            None => break,
        }
    }
    Ok(found)
}

/// The reactions that stand, by the sequence of their message.
fn standing(entries: &[Entry]) -> FxHashMap<u64, Vec<Reaction<'_>>> {
    let mut all: FxHashMap<u64, Vec<Reaction<'_>>> = FxHashMap::default();
    for entry in entries {
        let Record::Reaction { author, target, kind, added } = &entry.record else { continue };
        let of_target = all.entry(*target).or_default();
        of_target.retain(|r| r.user_id != author.id.as_str() || r.kind != &**kind);
        if *added {
            of_target.push(Reaction { kind, user_id: author.id.as_str(), created_at: entry.at.to_iso() });
        }
    }
    all
}

fn item<'a>(
    conversation: &'a Conversation,
    entry: &'a Entry,
    message: &'a Message,
    reactions: Vec<Reaction<'a>>,
) -> Item<'a> {
    Item {
        id: shown(entry.id, entry.at),
        conversation_id: conversation.id.as_str(),
        seq: entry.seq,
        sender_id: message.author.id.as_str(),
        body: &message.body,
        client_id: message.client_id.as_deref(),
        created_at: entry.at.to_iso(),
        metadata: message.metadata.as_ref().and_then(|raw| serde_json::from_str(raw.as_str()).ok()),
        reactions,
    }
}
