//! A call of a user to one of these addresses: who asks, in whose words, and for which conversation.
//!
//! Owns: which mount's policy holds where a call is to none, the query, who may read. Must not know: what is answered.

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::request::Parts;
use parlance_backplane::{Fault, Find, Outline};
use parlance_model::{Conversation, ConversationId, Identity, LogKey, Reject, RejectCode};
use parlance_wire::Dialect;

use super::page::{Asked, LIMITS};
use crate::config::default_subjects;
use crate::http::credentials;
use crate::node::Node;

/// The id in the address, as axum read it.
pub type Named = Result<Path<String>, PathRejection>;

/// What of a mount holds for calls that are to none.
pub struct Policy {
    /// The claims that may name the user.
    subjects: Vec<String>,
    /// Whether markup is removed from what is read.
    pub strip: bool,
}

impl Policy {
    /// That of the first mount of one of these dialects, the likeliest first.
    pub fn of(node: &Node, likely: &[Dialect]) -> Self {
        let config = node.config.load();
        let of = |dialect: &Dialect| config.mounts.iter().find(|mount| mount.dialect == dialect.as_str());
        match likely.iter().find_map(of) {
            Some(mount) => Self { subjects: mount.subjects.clone(), strip: mount.sanitize },
            None => Self { subjects: default_subjects(), strip: false },
        }
    }
}

/// Who names a conversation by a number is most likely of the dialect that knows no other names.
pub fn likely(named: &str) -> [Dialect; 2] {
    if named.bytes().all(|byte| byte.is_ascii_digit()) {
        [Dialect::Lingochat, Dialect::Chatgenius]
    } else {
        [Dialect::Chatgenius, Dialect::Lingochat]
    }
}

/// A call's query. What is wrong with it is told to those who may know.
#[derive(Default)]
pub struct Query {
    pub part: Asked,
    /// In whose words the answer is; of none: in the gateway's own.
    pub dialect: Option<Dialect>,
    wrong: Option<Reject>,
}

impl Query {
    /// An empty value counts as absent, and a parameter not known here is nobody's concern.
    fn of(parts: &Parts) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if !value.is_empty() {
                query.take(&name, &value);
            }
        }
        query
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            "after" => self.part.after = Some(value.to_owned()),
            "before" => self.part.before = Some(value.to_owned()),
            "since" => self.part.since = Some(value.to_owned()),
            "limit" => match value.parse() {
                Ok(limit) => self.part.limit = Some(limit),
                Err(_) => self.wrong = Some(invalid(LIMITS)),
            },
            "dialect" => match Dialect::parse(value) {
                Some(dialect) => self.dialect = Some(dialect),
                None => self.wrong = Some(invalid("there is no such dialect")),
            },
            _ => {}
        }
    }
}

/// A call of a user.
pub struct Call<'a> {
    pub node: &'a Arc<Node>,
    parts: &'a Parts,
    pub asked: Query,
    pub policy: Policy,
}

impl<'a> Call<'a> {
    /// Takes its policy from the first mount of the dialect that is asked for, else of one of these.
    pub fn new(node: &'a Arc<Node>, parts: &'a Parts, likely: &[Dialect]) -> Self {
        let asked = Query::of(parts);
        let policy = Policy::of(node, asked.dialect.as_ref().map_or(likely, std::slice::from_ref));
        Self { node, parts, asked, policy }
    }

    /// Who asks. The call may be looked at from here on.
    pub async fn identity(&mut self) -> Result<Arc<Identity>, Reject> {
        let identity = credentials::identify(self.node, self.parts, &self.policy.subjects).await?;
        self.asked.wrong.take().map_or(Ok(identity), Err)
    }

    /// Who asks, and the conversation in the address when they are a member of it; without its members when
    /// they are many. One that is not there and one that is not theirs are not told apart.
    pub async fn readable(&mut self, named: &Named) -> Result<(Arc<Identity>, Conversation), Reject> {
        let identity = self.identity().await?;
        let id =
            named.as_ref().ok().and_then(|Path(id)| ConversationId::parse(id).ok()).ok_or_else(nowhere)?;
        let found = find(self.node, &id).await.map_err(|fault| self.node.unavailable(&fault))?;
        let theirs = match found {
            Some(found) if self.is_member(&found, &identity).await? => found.conversation,
            _ => return Err(Reject::new(RejectCode::Forbidden, "you are not a member of this conversation")),
        };
        Ok((identity, theirs))
    }

    async fn is_member(&self, found: &Outline, identity: &Identity) -> Result<bool, Reject> {
        if !found.many {
            return Ok(found.conversation.member(&identity.user).is_some());
        }
        let asked = std::slice::from_ref(&identity.user);
        let joined = self.node.backplane.members.joined(&found.conversation.id, asked).await;
        joined.map(|joined| joined.iter().any(Option::is_some)).map_err(|fault| self.node.unavailable(&fault))
    }
}

/// By its id; an id of digits may also be its number, which is how lingochat clients know it.
async fn find(node: &Node, id: &ConversationId) -> Result<Option<Outline>, Fault> {
    let members = &node.backplane.members;
    if let Some(found) = members.outline(id).await? {
        return Ok(Some(found));
    }
    let digits = id.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = id.as_str().parse().ok().filter(|_| digits) else { return Ok(None) };
    match node.backplane.log.find(Find::Number(number)).await? {
        Some((LogKey::Conversation(id), _)) => members.outline(&id).await,
        _ => Ok(None),
    }
}

/// The call itself is wrong.
pub fn invalid(message: &'static str) -> Reject {
    Reject::new(RejectCode::InvalidField, message)
}

fn nowhere() -> Reject {
    invalid("the address names no conversation")
}
