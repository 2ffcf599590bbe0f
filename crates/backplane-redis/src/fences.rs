//! The fences trait: comparing what was seen with what Redis still has.
//!
//! Heads are asked for by partition, so that one server that is away hides no other's. Must not know: who saw what.

use async_trait::async_trait;
use parlance_backplane::{FENCE_MARGIN, Fault, Fenced, Fences, Place, Seen};
use parlance_model::{Head, LogKey, Time};

use crate::batches::ask_all;
use crate::changes;
use crate::engine::{Args, Node};
use crate::keys::{log_text, partition};
use crate::link::{Reply, at};
use crate::log::stored;

/// A head, from what `head_of` in `00_common.lua` answers.
pub fn head(list: &[Reply]) -> Result<Head, Fault> {
    Ok(Head {
        seq: at(list, 0).number()?,
        epoch: epoch(at(list, 1))?,
        at: Time(at(list, 2).number()?),
        cursor_version: at(list, 3).number()?,
        version: at(list, 4).number()?,
        since: at(list, 5).number()?,
    })
}

fn epoch(of: &Reply) -> Result<u32, Fault> {
    of.number().map(|epoch| u32::try_from(epoch).unwrap_or(u32::MAX))
}

fn place(told: Reply) -> Result<Place, Fault> {
    let told = told.list()?;
    let place = at(&told, 1).clone().list()?;
    Ok(match at(&told, 0).text()? {
        "log" => Place::Log(head(&place)?),
        "lost" => Place::Lost(head(&place)?),
        "deleted" => Place::Deleted(head(&place)?),
        _ => Place::Nothing { epoch: epoch(at(&place, 0))? },
    })
}

fn epoch_or_none(of: &Reply) -> Result<u32, Fault> {
    if matches!(of, Reply::Nil) { Ok(0) } else { epoch(of) }
}

/// Where a log stands, from its packed state (`STANDS` in `00_common.lua`).
fn packed_place(packed: &[u8]) -> Result<Place, Fault> {
    let mut rest = packed;
    let next = |bytes: usize| {
        let (number, behind) = rest.split_at_checked(bytes)?;
        rest = behind;
        Some(number.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    // Sequence, time, first, eldest, lives, bucket, flags, epoch, version, cursors, since, and two more.
    let fields = [5, 6, 5, 6, 6, 6, 1, 4, 5, 5, 5].map(next);
    let corrupt = || Fault::Corrupt(format!("a log's state of {} bytes", packed.len()));
    let [seq, at, _, _, _, _, flags, epoch, version, cursors, since] =
        fields.map(|field| field.ok_or_else(corrupt));
    let head = Head {
        seq: seq?,
        epoch: u32::try_from(epoch?).unwrap_or(u32::MAX),
        at: Time(at?),
        cursor_version: cursors?,
        version: version?,
        since: since?,
    };
    Ok(match flags? % 4 {
        0 => Place::Log(head),
        2 => Place::Lost(head),
        _ => Place::Deleted(head),
    })
}

impl Node {
    /// The place of one log, in two plain commands: a connection that comes asks about one, and a function costs Redis more
    /// than twice as much. The epoch first: it is of use only where there is no log even after that.
    async fn place_of(&self, log: &LogKey) -> Result<Place, Fault> {
        let (epoch_key, state_key) = (self.keys.epoch(log), self.keys.state(log));
        let words = [state_key.as_bytes(), b"h"];
        let (epoch, state) = futures_util::future::join(
            self.plain("GET", &[epoch_key.as_bytes()]),
            self.plain("HGET", &words),
        )
        .await;
        match state? {
            Reply::Bytes(packed) => packed_place(&packed),
            _ => Ok(Place::Nothing { epoch: epoch_or_none(&epoch?)? }),
        }
    }

    /// The places of some logs of one partition.
    async fn places_of(&self, logs: &[&LogKey]) -> Result<Vec<Place>, Fault> {
        if let [log] = logs {
            return Ok(vec![self.place_of(log).await?]);
        }
        let states = logs.iter().map(|log| self.keys.state(log));
        let keys: Vec<String> = states.chain(logs.first().map(|log| self.keys.epoch(log))).collect();
        self.list("gw1_heads", &keys, Args::none()).await?.into_iter().map(place).collect()
    }

    /// The number for a block of a log that is fenced: the one it had, where it is free.
    async fn number_for(&self, log: &LogKey, block: u64, seen: &Seen) -> Result<u32, Fault> {
        if block == 0 && seen.number != 0 {
            let (fresh, owner) = self.claim(seen.number, log, 0).await?;
            if fresh || owner == format!("0 {}", log_text(log)) {
                return Ok(seen.number);
            }
        }
        self.assign_number(log, block).await
    }
}

#[async_trait]
impl Fences for Node {
    async fn heads(&self, logs: &[LogKey]) -> Vec<Result<Place, Fault>> {
        if let [log] = logs {
            return vec![self.place_of(log).await];
        }
        ask_all(logs, |log| partition(&log_text(log)), |logs| async move { self.places_of(&logs).await })
            .await
    }

    fn group(&self, log: &LogKey) -> Option<u32> {
        changes::group(log)
    }

    async fn stamps(&self, groups: &[u32]) -> Vec<Option<u64>> {
        self.stamps_of(groups).await
    }

    async fn fence(&self, log: &LogKey, seen: Seen) -> Result<Fenced, Fault> {
        let mut keys = self.keys.log(log);
        if let LogKey::User(user) = log {
            keys.extend(self.keys.sequence(user));
        }
        let mut numbers = Vec::new();
        loop {
            let args = self
                .appending(&numbers)
                .and(seen.seq)
                .and(seen.at.map_or(0, Time::millis))
                .and(seen.epoch)
                .and(seen.from.max(1))
                .and(FENCE_MARGIN)
                .and(log_text(log))
                .and(u8::from(matches!(log, LogKey::Conversation(_))));
            let answer = self.list("gw1_fence", &keys, args).await?;
            match at(&answer, 0).text()? {
                "new" => return Ok(Fenced::Begun(stored(&answer)?)),
                "there" => return Ok(Fenced::There),
                "already" => return Ok(Fenced::Already),
                _ => numbers.push(self.number_for(log, at(&answer, 1).number()?, &seen).await?),
            }
        }
    }
}
