//! Members in bulk: a body of one JSON object per line, read as it comes and carried out in batches.
//!
//! Owns: lines, their limits, what came of them. Must not know: how members are kept.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use parlance_backplane::Enlistment;
use parlance_model::{ConversationId, UserId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::{ApiError, Code, Refusal};
use super::input::{self, Named};
use super::{Answer, answer};
use crate::commands;
use crate::http::openapi::{Calls, Id, NotThere, OfBody};
use crate::node::Node;

/// Members in one batch: no more of the body is taken while it is carried out.
const BATCH: usize = 4000;
/// Bytes of a line: an id of 128 characters, written as clumsily as JSON allows, is shorter.
const LONGEST_LINE: usize = 1024;
/// Errors that are reported with their lines.
const MOST_ERRORS: usize = 100;
/// How long is waited for the body in all, besides a second for every [`SLOWEST`] bytes that came.
const GRACE: Duration = Duration::from_secs(10);
const SLOWEST: u64 = 1024;

/// One line of an import.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({ "userId": "alice" }))]
pub struct ImportLine {
    /// Whom it is about.
    #[schema(value_type = Id)]
    user_id: String,
    /// That the user goes, instead of coming.
    #[serde(default)]
    remove: bool,
}

/// What came of an import.
#[derive(Serialize, ToSchema, Default)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "lines": 4, "added": 2, "alreadyMembers": 1, "removed": 0, "notMembers": 0, "rejected": 1,
    "errors": [{ "line": 3, "message": "missing field `userId` at line 1 column 2" }],
}))]
pub struct Imported {
    /// Lines that were read; empty ones are passed over.
    lines: u64,
    /// Who was no member and is one now.
    added: u64,
    /// Who was one before.
    already_members: u64,
    /// Who was a member and is none now.
    removed: u64,
    /// Who was to be removed and was none.
    not_members: u64,
    /// Lines that are none; everything else is carried out.
    rejected: u64,
    /// Why, for the first hundred of them.
    errors: Vec<LineError>,
}

/// A line that was rejected.
#[derive(Serialize, ToSchema)]
pub struct LineError {
    /// Its number, from 1.
    line: u64,
    /// For people; its wording may change.
    message: String,
}

/// Adds and removes very many members
///
/// The body is one JSON object per line (`application/x-ndjson`), read as it comes: up to `limits.import_bytes` (as
/// shipped 64 MiB), lines of up to 1,024 bytes, at no less than 1 KiB/s. The conversation has to be there. Lines are
/// carried out in batches, in order; not all or nothing: when the answer is a refusal, or none came, what was read before
/// may have been done, and the same import is repeated: what was done is not done again, as the counts say.
/// Who comes hears the conversation within a second, also on other nodes; who goes hears no more of it within a second.
/// Members who are inside are not told of every newcomer by name.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/members/import", tag = "server", operation_id = "importMembers",
    params(("id" = Id, Path, description = "The conversation")),
    request_body(content = ImportLine, content_type = "application/x-ndjson", description = "One object per line"),
    responses(
        (status = 200, description = "Every line was read; some may be rejected", body = Imported),
        (status = 415, description = "The body is not `application/x-ndjson`", body = Refusal),
        Calls, OfBody, NotThere,
    ),
)]
pub async fn import(State(node): State<Arc<Node>>, name: Named, request: Request) -> Answer {
    let id = name.conversation()?;
    is_lines(request.headers())?;
    let most = u64::try_from(node.config.load().limits.import_bytes).unwrap_or(u64::MAX);
    if announced(request.headers()).is_some_and(|bytes| bytes > most) {
        return Err(too_large(most));
    }
    if node.backplane.members.outline(&id).await?.is_none() {
        return Err(unknown());
    }
    let import = Import { node, id, pending: FxHashMap::default(), done: Imported::default() };
    answer(StatusCode::OK, &import.run(Intake::new(request.into_body(), most)).await?)
}

fn is_lines(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let known = ["application/x-ndjson", "application/ndjson"].iter().any(|it| kind.eq_ignore_ascii_case(it));
    let plain = text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    if known && plain {
        return Ok(());
    }
    let message = "the body is application/x-ndjson, one object per line, not compressed";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, message))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(most: u64) -> ApiError {
    ApiError::too_large(format!("an import is not larger than {most} bytes; it may be split"))
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such conversation")
}

/// The body as it comes.
struct Intake {
    body: Body,
    most: u64,
    bytes: u64,
    waited: Duration,
}

impl Intake {
    const fn new(body: Body, most: u64) -> Self {
        Self { body, most, bytes: 0, waited: Duration::ZERO }
    }

    /// The next bytes; `None` at the end. Time in which nobody waits for them does not count.
    async fn next(&mut self, node: &Node, line: u64) -> Result<Option<Bytes>, ApiError> {
        loop {
            let left = (GRACE + Duration::from_secs(self.bytes / SLOWEST)).saturating_sub(self.waited);
            let begun = node.clock.now();
            let Ok(frame) = tokio::time::timeout(left, self.body.frame()).await else {
                let message =
                    format!("the body took too long to arrive, after line {line}; repeat the import");
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, Code::Timeout, message));
            };
            self.waited += node.clock.now().since(begun);
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| {
                ApiError::invalid(format!("the body broke off after line {line}; repeat the import"))
            })?;
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.bytes += data.len() as u64;
            if self.bytes > self.most {
                return Err(too_large(self.most));
            }
            return Ok(Some(data));
        }
    }
}

struct Import {
    node: Arc<Node>,
    id: ConversationId,
    /// The next batch: whether each of these goes.
    pending: FxHashMap<UserId, bool>,
    done: Imported,
}

impl Import {
    async fn run(mut self, mut intake: Intake) -> Result<Imported, ApiError> {
        let mut line = Vec::new();
        while let Some(data) = intake.next(&self.node, self.done.lines).await? {
            let mut parts = data.split(|byte| *byte == b'\n').peekable();
            while let Some(part) = parts.next() {
                // One byte more is enough to see that it is too long.
                let room = (LONGEST_LINE + 1).saturating_sub(line.len());
                line.extend_from_slice(part.get(..room).unwrap_or(part));
                if parts.peek().is_some() {
                    self.take(&line).await?;
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            self.take(&line).await?;
        }
        self.carry_out().await?;
        Ok(self.done)
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), ApiError> {
        self.done.lines += 1;
        let (user, remove) = match read(line) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(message) => {
                self.done.rejected += 1;
                if self.done.errors.len() < MOST_ERRORS {
                    self.done.errors.push(LineError { line: self.done.lines, message });
                }
                return Ok(());
            }
        };
        match self.pending.get(&user) {
            Some(before) if *before == remove => {
                self.count(0, 1, remove);
                return Ok(());
            }
            // Both, and in this order.
            Some(_) => self.carry_out().await?,
            None => {}
        }
        self.pending.insert(user, remove);
        if self.pending.len() >= BATCH { self.carry_out().await } else { Ok(()) }
    }

    const fn count(&mut self, changed: u64, same: u64, remove: bool) {
        let done = &mut self.done;
        if remove {
            (done.removed, done.not_members) = (done.removed + changed, done.not_members + same);
        } else {
            (done.added, done.already_members) = (done.added + changed, done.already_members + same);
        }
    }

    async fn carry_out(&mut self) -> Result<(), ApiError> {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (user, goes) in self.pending.drain() {
            if goes { remove.push(user) } else { add.push(user) }
        }
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let (to_add, to_remove) = (add.len() as u64, remove.len() as u64);
        let call = Enlistment { id: self.id.clone(), add, remove };
        let done = commands::conversations::enlist(&self.node, call).await?.ok_or_else(unknown)?;
        let (added, removed) = (done.added.len() as u64, done.removed.len() as u64);
        self.count(added, to_add - added, false);
        self.count(removed, to_remove - removed, true);
        Ok(())
    }
}

/// Whom a line is about, and whether the user goes; `None`: it is empty. Or what is wrong with it.
fn read(line: &[u8]) -> Result<Option<(UserId, bool)>, String> {
    if line.len() > LONGEST_LINE {
        return Err(format!("longer than {LONGEST_LINE} bytes"));
    }
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let line: ImportLine = serde_json::from_slice(line).map_err(|error| input::told(&error))?;
    let user = UserId::parse(&line.user_id).map_err(|error| error.to_string())?;
    Ok(Some((user, line.remove)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_by_one() {
        let user = |id: &str| UserId::parse(id).unwrap();
        assert_eq!(read(br#"{"userId":"a"}"#), Ok(Some((user("a"), false))));
        assert_eq!(read(b" {\"userId\":\"a\",\"remove\":true}\r"), Ok(Some((user("a"), true))));
        assert_eq!(read(b" \r"), Ok(None));
        for wrong in [
            &b"{"[..],
            b"[]",
            b"\"a\"",
            b"{}",
            br#"{"userId":"a b"}"#,
            br#"{"userId":1}"#,
            br#"{"userId":"a","admin":true}"#,
            br#"{"userId":"a"}{"userId":"b"}"#,
            b"\xff",
        ] {
            assert!(read(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let long = format!("{{\"userId\":\"a\"{}}}", " ".repeat(LONGEST_LINE));
        assert_eq!(read(long.as_bytes()), Err("longer than 1024 bytes".to_owned()));
    }

    #[test]
    fn only_plain_lines_are_taken() {
        let of = |pairs: &[(header::HeaderName, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            is_lines(&pairs.collect()).is_ok()
        };
        let lines = (header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8");
        assert!(of(std::slice::from_ref(&lines)) && of(&[(header::CONTENT_TYPE, "Application/NDJSON")]));
        assert!(!of(&[]) && !of(&[(header::CONTENT_TYPE, "application/json")]));
        assert!(!of(&[lines, (header::CONTENT_ENCODING, "gzip")]));
    }
}
