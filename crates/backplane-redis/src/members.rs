//! The members trait: members by name, and going through very many of them piece by piece.
//!
//! Redis does one thing at a time: no call here takes longer because a conversation has more members. Must not know:
//! why somebody asks.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parlance_backplane::{Enlisted, Enlistment, Fault, MANY, Members, NAMED, Outline};
use parlance_model::{ConversationId, LogKey, Member, UserId};

use crate::conversations::{conversation, is_without_members, members, users};
use crate::engine::{Args, Node};
use crate::keys::user_partition;
use crate::link::{Reply, at};

/// Members in one call: a millisecond or two of Redis.
const CHUNK: usize = 1000;
/// Keys in one call on the index of users, two for each.
const KEYS: usize = 300;

#[async_trait]
impl Members for Node {
    async fn enlist(&self, call: Enlistment) -> Result<Option<Enlisted>, Fault> {
        let Enlistment { id, add, remove } = &call;
        if add.is_empty() && remove.is_empty() {
            return Ok(self.outline(id).await?.map(|_| Enlisted::default()));
        }
        self.index("gw1_belong", add, id, 0).await?;
        let (mut done, mut version) = (Enlisted::default(), 0);
        let parts = add.chunks(CHUNK).map(|some| (some, [].as_slice()));
        for (add, remove) in parts.chain(remove.chunks(CHUNK).map(|some| ([].as_slice(), some))) {
            let Some(part) = self.enlist_some(id, add, remove).await? else {
                self.index("gw1_unbelong", &call.add, id, 0).await?;
                return Ok(None);
            };
            // With its own version: somebody else may bring them back meanwhile.
            self.index("gw1_unbelong", &part.removed, id, part.version).await?;
            version = part.version;
            done.added.extend(part.added);
            done.removed.extend(part.removed);
        }
        done.present = self.enlisted(id, add, version).await?;
        Ok(Some(done))
    }

    async fn joined(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<Option<u64>>, Fault> {
        let mut all = Vec::with_capacity(users.len());
        for some in users.chunks(CHUNK) {
            let joined = self.list("gw1_joined", &self.keys.place(id), Args::none().all(some)).await?;
            if joined.is_empty() {
                return Ok(vec![None; users.len()]);
            }
            for joined in joined {
                all.push(if matches!(joined, Reply::Nil) { None } else { Some(joined.number()?) });
            }
        }
        Ok(all)
    }

    async fn outline(&self, id: &ConversationId) -> Result<Option<Outline>, Fault> {
        let told = self.on_log("gw1_get", &LogKey::Conversation(id.clone()), Args::none().and(MANY)).await?;
        if told.is_empty() {
            return Ok(None);
        }
        Ok(Some(Outline { conversation: conversation(id, &told)?, many: is_without_members(&told) }))
    }
}

/// What one call did.
struct Part {
    version: u64,
    added: Vec<UserId>,
    removed: Vec<UserId>,
}

impl Node {
    async fn enlist_some(
        &self,
        id: &ConversationId,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<Option<Part>, Fault> {
        let rest = |args: Args| args.and(NAMED).and(add.len()).all(add).all(remove);
        let log = LogKey::Conversation(id.clone());
        let answer = self.append_to("gw1_enlist", &log, Vec::new(), rest).await?;
        if at(&answer, 0).text()? != "done" {
            return Ok(None);
        }
        let (added, removed) = (users(at(&answer, 2))?, users(at(&answer, 3))?);
        Ok(Some(Part { version: at(&answer, 1).number()?, added, removed }))
    }

    /// Tells the index who is in, and finds those who have a lease: in one call, after the change.
    async fn enlisted(
        &self,
        id: &ConversationId,
        add: &[UserId],
        version: u64,
    ) -> Result<Vec<UserId>, Fault> {
        let mut by_partition: BTreeMap<usize, Vec<&UserId>> = BTreeMap::new();
        for user in add {
            by_partition.entry(user_partition(user)).or_default().push(user);
        }
        let calls = by_partition.values().flat_map(|users| users.chunks(KEYS / 2)).map(async |some| {
            let keys: Vec<String> = some.iter().flat_map(|user| self.keys.belonging(user)).collect();
            let args = Args::none().and(id).and(version);
            let present = self.list("gw1_enlisted", &keys, args).await?;
            let who = |number: &Reply| {
                let index = usize::try_from(number.number()?).unwrap_or(usize::MAX).wrapping_sub(1);
                Ok(some.get(index).map(|user| (*user).clone()))
            };
            present.iter().filter_map(|number| who(number).transpose()).collect::<Result<Vec<_>, Fault>>()
        });
        Ok(try_join_all(calls).await?.concat())
    }

    /// All members of a conversation, read piece by piece.
    pub async fn every_member(&self, id: &ConversationId) -> Result<Vec<Member>, Fault> {
        let [state, everybody, _] = self.keys.place(id);
        let mut all = BTreeMap::new();
        for piece in self.pieces(&[state, everybody]).await? {
            // What is read twice counts once.
            all.extend(members(&piece)?.into_iter().map(|member| (member.user, member.joined_seq)));
        }
        Ok(all.into_iter().map(|(user, joined_seq)| Member { user, joined_seq }).collect())
    }

    /// What is kept by user about a conversation, in turns of the user and that: its state, and where it is kept.
    pub async fn pieces(&self, keys: &[String; 2]) -> Result<Vec<Reply>, Fault> {
        let (mut place, mut pieces) = ("0".to_owned(), Vec::new());
        loop {
            let mut found = self.list("gw1_members", keys, Args::none().and(&place).and(CHUNK)).await?;
            pieces.extend(found.pop());
            at(&found, 0).text()?.clone_into(&mut place);
            if place == "0" {
                return Ok(pieces);
            }
        }
    }
}
