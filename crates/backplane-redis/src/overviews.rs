//! The overviews trait.
//!
//! The index by user says which, the conversations themselves what: those of a partition in one call, all partitions
//! at once. Must not know: who asks for them.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_backplane::{
    BEHIND, Belonging, COUNTED, FEW, Fault, Overview, Overviews, Reading, SCANNED, SCANNED_BYTES,
};
use parlance_model::{ConversationId, ConversationKind, Time, UserId};

use crate::batches::ask_all;
use crate::engine::{Args, Node};
use crate::fences::head;
use crate::keys::partition;
use crate::link::{Reply, at};
use crate::log::entry;

fn corrupt(what: &str, text: &str) -> Fault {
    Fault::Corrupt(format!("{what} {text:?}"))
}

#[async_trait]
impl Overviews for Node {
    async fn belonging(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Belonging, Fault> {
        let named = self.list("gw1_belongs", &[self.keys.belongs(user)], Args::none()).await?;
        let mut ids = Vec::with_capacity(named.len());
        for id in &named {
            let text = id.text()?;
            if after.is_none_or(|after| text > after.as_str()) {
                ids.push(text);
            }
        }
        ids.sort_unstable();
        let more = ids.len() > limit;
        let parse = |text: &&str| ConversationId::parse(text).map_err(|_| corrupt("conversation", text));
        Ok(Belonging { ids: ids.iter().take(limit).map(parse).collect::<Result<_, _>>()?, more })
    }

    async fn overviews(
        &self,
        user: &UserId,
        conversations: &[ConversationId],
    ) -> Vec<Result<Option<Overview>, Fault>> {
        let of = |id: &ConversationId| partition(&format!("c:{id}"));
        ask_all(conversations, of, |ids| async move {
            let keys: Vec<String> = ids.iter().flat_map(|id| self.keys.overview(id)).collect();
            let most =
                Args::none().and(user).and(COUNTED).and(SCANNED).and(SCANNED_BYTES).and(BEHIND).and(FEW);
            let told = self.list("gw1_overviews", &keys, most).await?;
            ids.iter().zip(told).map(|(id, told)| overview(id, told.list()?)).collect()
        })
        .await
    }
}

/// From what `overview` in `overviews.lua` answers.
fn overview(id: &ConversationId, told: Vec<Reply>) -> Result<Option<Overview>, Fault> {
    if told.is_empty() {
        return Ok(None);
    }
    let kind = at(&told, 2).text()?;
    let numbers: Vec<u32> =
        at(&told, 1).text()?.split(',').filter_map(|number| number.parse().ok()).collect();
    let last = match at(&told, 10) {
        Reply::List(pair) => Some(entry(pair, &numbers)?),
        _ => None,
    };
    Ok(Some(Overview {
        conversation: id.clone(),
        kind: ConversationKind::parse(kind).ok_or_else(|| corrupt("conversation kind", kind))?,
        title: at(&told, 3).text().ok().map(Arc::from),
        numbers,
        head: head(&at(&told, 0).clone().list()?)?,
        members: members(at(&told, 4))?,
        read: Reading {
            seq: at(&told, 5).number()?,
            at: Time(at(&told, 6).number()?),
            message: place(at(&told, 7).text()?)?,
        },
        unread: at(&told, 8).number()?,
        more_unread: at(&told, 9).number()? == 1,
        last,
    }))
}

fn members(told: &Reply) -> Result<Option<Vec<UserId>>, Fault> {
    let Reply::List(told) = told else { return Ok(None) };
    let parse = |id: &Reply| {
        let text = id.text()?;
        UserId::parse(text).map_err(|_| corrupt("user", text))
    };
    let mut users = told.iter().map(parse).collect::<Result<Vec<_>, Fault>>()?;
    users.sort();
    Ok(Some(users))
}

/// Sequence and time of an entry, as Redis names it.
fn place(text: &str) -> Result<Option<(u64, Time)>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let parts = text.split_once('-').and_then(|(seq, at)| Some((seq.parse().ok()?, Time(at.parse().ok()?))));
    parts.map(Some).ok_or_else(|| corrupt("place", text))
}
