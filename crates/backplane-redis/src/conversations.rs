//! The conversations trait.
//!
//! A change is one function on the conversation's partition. The index by user lies in the users' partitions: it is
//! told of new members before the change and again after it, and of those who left after it, each time with the
//! version of the conversation, so that a late word never undoes a newer one. It may therefore name too much after a
//! crash, never too little once the change was repeated; [`Conversations::of_user`] asks the conversations themselves.
//! Must not know: why somebody changes one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{join, join_all, try_join_all};
use parlance_backplane::{
    Change, ChangeRefused, Changed, Conversations, Fault, Found, Listed, MANY, MemberSet, Members, Membership,
};
use parlance_model::delivery::Marks;
use parlance_model::{
    Conversation, ConversationId, ConversationKind, LogKey, MAX_NUMBER, Member, SELF_NUMBER_LIMIT, Time,
    UserId,
};

use crate::engine::{Args, Node};
use crate::fences::head;
use crate::keys::{log_text, partition, user_partition};
use crate::link::{Reply, at};

/// Keys handed to one call at most.
const CHUNK: usize = 300;

fn corrupt(what: &str, text: &str) -> Fault {
    Fault::Corrupt(format!("{what} {text:?}"))
}

fn user(text: &str) -> Result<UserId, Fault> {
    UserId::parse(text).map_err(|_| corrupt("user", text))
}

pub fn users(list: &Reply) -> Result<Vec<UserId>, Fault> {
    list.clone().list()?.iter().map(|id| user(id.text()?)).collect()
}

/// From users and where they joined, in turn.
pub fn members(list: &Reply) -> Result<Vec<Member>, Fault> {
    let list = list.clone().list()?;
    let pairs = list.chunks_exact(2);
    let member =
        |pair: &[Reply]| Ok(Member { user: user(at(pair, 0).text()?)?, joined_seq: at(pair, 1).number()? });
    pairs.map(member).collect()
}

/// Whether `described` in `change.lua` left the members out.
pub fn is_without_members(told: &[Reply]) -> bool {
    matches!(at(told, 8).number(), Ok(1))
}

/// From what `described` in `change.lua` answers.
pub fn conversation(id: &ConversationId, told: &[Reply]) -> Result<Conversation, Fault> {
    let numbers = at(told, 1).text()?;
    let kind = at(told, 2).text()?;
    let mut members = members(at(told, 7))?;
    members.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(Conversation {
        id: id.clone(),
        kind: ConversationKind::parse(kind).ok_or_else(|| corrupt("conversation kind", kind))?,
        title: at(told, 3).text().ok().map(Arc::from),
        numbers: numbers.split(',').filter_map(|number| number.parse().ok()).collect(),
        created_by: at(told, 4).text().ok().map(user).transpose()?,
        created_at: Time(at(told, 5).number()?),
        updated_at: Time(at(told, 6).number()?),
        members,
        head: head(&at(told, 0).clone().list()?)?,
    })
}

/// The number an id of digits is: only written the one canonical way.
fn self_number(id: &ConversationId) -> Option<u32> {
    let number: u32 = id.as_str().parse().ok()?;
    (number < SELF_NUMBER_LIMIT && number.to_string() == id.as_str()).then_some(number)
}

/// Who is to come and to go, each once, in order.
fn wanted(members: &MemberSet) -> (Vec<&UserId>, Vec<&UserId>) {
    let (add, remove): (BTreeSet<&UserId>, BTreeSet<&UserId>) = match members {
        MemberSet::Exactly(exactly) => (exactly.iter().collect(), BTreeSet::new()),
        MemberSet::Delta { add, remove } => {
            let remove: BTreeSet<_> = remove.iter().collect();
            (add.iter().filter(|user| !remove.contains(user)).collect(), remove)
        }
    };
    (add.into_iter().collect(), remove.into_iter().collect())
}

fn arguments(change: &Change, args: Args) -> Args {
    let (add, remove) = wanted(&change.members);
    let (mode, title) = match &change.title {
        None => ("keep", ""),
        Some(None) => ("none", ""),
        Some(Some(title)) => ("set", &**title),
    };
    let by = change.by.as_ref().map_or("", UserId::as_str);
    let exactly = if matches!(change.members, MemberSet::Exactly(_)) { "exactly" } else { "delta" };
    args.and(u8::from(change.create))
        .and(u8::from(change.only_create))
        .and(change.kind.as_str())
        .and(mode)
        .and(title)
        .bytes(serde_json::to_vec(title).unwrap_or_default())
        .and(by)
        .and(exactly)
        .and(add.len())
        .all(add)
        .and(remove.len())
        .all(remove)
        .and(self_number(&change.id).or(change.number).map_or_else(String::new, |number| number.to_string()))
        .and(MANY)
}

impl Node {
    /// Tells the index of users; those of one partition in one call.
    pub async fn index<'a>(
        &self,
        function: &str,
        users: impl IntoIterator<Item = &'a UserId>,
        id: &ConversationId,
        version: u64,
    ) -> Result<(), Fault> {
        let mut by_partition: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for user in users {
            by_partition.entry(user_partition(user)).or_default().push(self.keys.belongs(user));
        }
        let calls = by_partition.values().flat_map(|keys| keys.chunks(CHUNK));
        let calls = calls.map(|keys| self.call(function, keys, Args::none().and(id).and(version)));
        try_join_all(calls).await.map(drop)
    }

    /// The first number of a conversation that is being created.
    async fn first_number(
        &self,
        change: &Change,
        log: &LogKey,
        reborn: bool,
    ) -> Result<Result<u32, ChangeRefused>, Fault> {
        let own = self_number(&change.id);
        let asked = match (own, change.number) {
            (Some(own), Some(asked)) if own != asked => return Ok(Err(ChangeRefused::NumberTaken)),
            (own, asked) => own.or(asked),
        };
        let Some(number) = asked else { return self.assign_number(log, 0).await.map(Ok) };
        if number >= MAX_NUMBER {
            return Ok(Err(ChangeRefused::NumberTaken));
        }
        let (fresh, owner) = self.claim(number, log, 0).await?;
        // Its own number comes back to an all-digits id: epoch and sequence go on, so no id is used twice. One that was
        // asked for may be this conversation's from an attempt that was cut off, but not from an earlier life.
        let mine = owner == format!("0 {}", log_text(log)) && (own.is_some() || !reborn);
        Ok(if fresh || mine { Ok(number) } else { Err(ChangeRefused::NumberTaken) })
    }

    async fn changed(&self, change: &Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
        let log = LogKey::Conversation(change.id.clone());
        let mut numbers = Vec::new();
        loop {
            let answer = self.on_log("gw1_change", &log, arguments(change, self.appending(&numbers))).await?;
            match at(&answer, 0).text()? {
                "done" => {
                    return Ok(Ok(Changed {
                        created: at(&answer, 1).number()? == 1,
                        added: users(at(&answer, 2))?,
                        removed: users(at(&answer, 3))?,
                        conversation: conversation(&change.id, &at(&answer, 4).clone().list()?)?,
                    }));
                }
                "number" => match at(&answer, 1).number()? {
                    0 => match self.first_number(change, &log, at(&answer, 2).number()? > 0).await? {
                        Ok(number) => numbers.push(number),
                        Err(refused) => return Ok(Err(refused)),
                    },
                    block => numbers.push(self.assign_number(&log, block).await?),
                },
                _ => return Ok(Err(ChangeRefused::NotFound)),
            }
        }
    }

    /// Those of these users who are members, and the others.
    async fn who_is_in<'a>(
        &self,
        id: &ConversationId,
        of: Vec<&'a UserId>,
    ) -> Result<(Vec<&'a UserId>, Vec<&'a UserId>), Fault> {
        let asked: Vec<UserId> = of.iter().map(|user| (*user).clone()).collect();
        let joined = self.joined(id, &asked).await?;
        let (come, not): (Vec<_>, Vec<_>) =
            of.into_iter().zip(joined).partition(|(_, joined)| joined.is_some());
        let names = |of: Vec<(&'a UserId, _)>| of.into_iter().map(|(user, _)| user).collect();
        Ok((names(come), names(not)))
    }

    /// A user's place in these conversations of one partition; `None` where it is no member.
    async fn places(&self, user: &UserId, ids: &[ConversationId]) -> Result<Vec<Option<Membership>>, Fault> {
        let keys: Vec<String> = ids.iter().flat_map(|id| self.keys.place(id)).collect();
        let answer = self.list("gw1_places", &keys, Args::none().and(user)).await?;
        ids.iter().zip(answer).map(|(id, place)| membership(id, place.list()?)).collect()
    }

    /// What the index by user names, in order.
    async fn named(&self, user: &UserId) -> Result<Vec<ConversationId>, Fault> {
        let named = self.list("gw1_belongs", &[self.keys.belongs(user)], Args::none()).await?;
        let parse = |id: &Reply| {
            let text = id.text()?;
            ConversationId::parse(text).map_err(|_| corrupt("conversation", text))
        };
        let mut ids = named.iter().map(parse).collect::<Result<Vec<_>, Fault>>()?;
        ids.sort();
        Ok(ids)
    }

    /// A user's places in conversations; some of these may be away, as is said with why.
    async fn placed(&self, user: &UserId, ids: &[ConversationId]) -> Result<(Found, Option<Fault>), Fault> {
        let mut groups: BTreeMap<usize, Vec<ConversationId>> = BTreeMap::new();
        for id in ids {
            groups.entry(partition(&format!("c:{id}"))).or_default().push(id.clone());
        }
        let chunks: Vec<&[ConversationId]> = groups.values().flat_map(|ids| ids.chunks(CHUNK)).collect();
        let answers = join_all(chunks.iter().map(|ids| self.places(user, ids))).await;
        let (mut found, mut why) = (Found::default(), None);
        for (ids, answer) in chunks.into_iter().zip(answers) {
            match answer {
                Ok(places) => found.here.extend(places.into_iter().flatten()),
                Err(fault @ Fault::Unavailable(_)) => {
                    found.away.extend_from_slice(ids);
                    why = Some(fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok((found, why))
    }

    /// The index by user must answer; the conversations it names may be away. Those of the sorted `guess` are asked for
    /// at once; what of them the index does not name counts for nothing.
    async fn look_up(
        &self,
        user: &UserId,
        guess: &[ConversationId],
    ) -> Result<(Found, Option<Fault>), Fault> {
        let (named, guessed) = join(self.named(user), self.placed(user, guess)).await;
        let (named, (mut found, mut why)) = (named?, guessed?);
        found.here.retain(|place| named.binary_search(&place.conversation).is_ok());
        found.away.retain(|id| named.binary_search(id).is_ok());
        let rest: Vec<ConversationId> =
            named.into_iter().filter(|id| guess.binary_search(id).is_err()).collect();
        let (late, why_late) = self.placed(user, &rest).await?;
        found.here.extend(late.here);
        found.away.extend(late.away);
        why = why.filter(|_| !found.away.is_empty()).or(why_late);
        found.here.sort_by(|one, other| one.conversation.cmp(&other.conversation));
        Ok((found, why))
    }

    async fn look_up_what_is_there(&self, user: &UserId, guess: &[ConversationId]) -> Result<Found, Fault> {
        let (found, fault) = self.look_up(user, guess).await?;
        if let Some(fault) = fault {
            tracing::debug!(%fault, away = found.away.len(), "conversations of a user did not answer");
        }
        Ok(found)
    }
}

fn membership(id: &ConversationId, place: Vec<Reply>) -> Result<Option<Membership>, Fault> {
    if place.is_empty() {
        return Ok(None);
    }
    let marks = at(&place, 3).text()?;
    let mut parts = marks.split(' ').map(|part| part.parse().map_err(|_| corrupt("cursor", marks)));
    let mut part = || parts.next().unwrap_or(Ok(0));
    Ok(Some(Membership {
        conversation: id.clone(),
        number: u32::try_from(at(&place, 1).number()?).unwrap_or(u32::MAX),
        joined_seq: at(&place, 2).number()?,
        head: head(&at(&place, 0).clone().list()?)?,
        marks: Marks { delivered: part()?, read: part()? },
    }))
}

#[async_trait]
impl Conversations for Node {
    async fn change(&self, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
        let (add, _) = wanted(&change.members);
        self.index("gw1_belong", add.iter().copied(), &change.id, 0).await?;
        let changed = self.changed(&change).await?;
        let (came, not) = match &changed {
            Ok(done) if change.only_create && !done.created => self.who_is_in(&change.id, add).await?,
            Ok(_) => (add, Vec::new()),
            Err(_) => (Vec::new(), add),
        };
        self.index("gw1_unbelong", not, &change.id, 0).await?;
        if let Ok(done) = &changed {
            let version = done.conversation.head.version;
            self.index("gw1_belong", came, &change.id, version).await?;
            self.index("gw1_unbelong", &done.removed, &change.id, version).await?;
        }
        Ok(changed)
    }

    async fn get(&self, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
        let Some(mut outline) = self.outline(id).await? else { return Ok(None) };
        if outline.many {
            outline.conversation.members = self.every_member(id).await?;
        }
        Ok(Some(outline.conversation))
    }

    async fn of_user(&self, user: &UserId) -> Result<Vec<Membership>, Fault> {
        let (found, fault) = self.look_up(user, &[]).await?;
        fault.map_or(Ok(found.here), Err)
    }

    async fn found_of_user(&self, user: &UserId) -> Result<Found, Fault> {
        self.look_up_what_is_there(user, &[]).await
    }

    async fn named_of_user(&self, user: &UserId) -> Result<Vec<ConversationId>, Fault> {
        self.named(user).await
    }

    async fn found_with(&self, user: &UserId, guess: &[ConversationId]) -> Result<Found, Fault> {
        let mut guess = guess.to_vec();
        guess.sort();
        guess.dedup();
        self.look_up_what_is_there(user, &guess).await
    }

    async fn listed(&self, from: Option<&str>, most: usize) -> Result<Listed, Fault> {
        self.walk(from, most).await
    }

    async fn delete(&self, id: &ConversationId) -> Result<bool, Fault> {
        let log = LogKey::Conversation(id.clone());
        let mut answer = self.append_to("gw1_delete", &log, Vec::new(), |args| args.and(MANY)).await?;
        let mut members = Vec::new();
        if at(&answer, 0).text()? == "many" {
            // Whoever comes meanwhile stays in the index, which may name too much.
            members.extend(self.every_member(id).await?.into_iter().map(|member| member.user));
            answer = self.append_to("gw1_delete", &log, Vec::new(), |args| args.and("")).await?;
        }
        if at(&answer, 0).text()? != "done" {
            return Ok(false);
        }
        members.extend(users(at(&answer, 2))?);
        let version = at(&answer, 1).number()?;
        self.index("gw1_unbelong", &members, id, version).await?;
        Ok(true)
    }
}
