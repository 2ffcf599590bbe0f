//! The per-user integer sequence, in the user's partition.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parlance_backplane::{Fault, Sequences};
use parlance_model::{LogKey, UserId};

use crate::engine::{Args, Node, millis};
use crate::keys::{log_text, parse_log, user_partition};
use crate::link::Reply;

/// Pointers kept per user; beyond, the oldest are forgotten.
const POINTERS: u64 = 10_000;
/// What one call does: so many integers take Redis one to two milliseconds, in which it serves nobody else.
const CHUNK: usize = 100;

/// A pointer: a log and a sequence in it.
type Pointer = (UserId, LogKey, u64);

/// Some users who get the same pointers: one call.
struct Call<'a> {
    partition: usize,
    users: Vec<&'a UserId>,
    /// Of the first of these users, by their places in what was asked for; of the others that many follow.
    places: Vec<usize>,
    count: usize,
}

impl<'a> Call<'a> {
    /// Whether a user's pointers fit in: in the same partition, the same ones, and not too many.
    fn takes(&self, partition: usize, pointers: &'a [Pointer], places: &[usize]) -> bool {
        let of = |place: &usize| pointers.get(*place).map(|(_, log, seq)| (log, seq));
        self.partition == partition
            && self.count == places.len()
            && self.places.len() + places.len() <= CHUNK
            && self.places.iter().zip(places).all(|(one, other)| of(one) == of(other))
    }
}

/// The pointers as calls. What lies in one partition lies together; where there is `one` partition, everything does.
fn calls(pointers: &[Pointer], one: bool) -> Vec<Call<'_>> {
    let of = |user: &UserId| if one { 0 } else { user_partition(user) };
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(pointers.len());
    order.extend(pointers.iter().enumerate().map(|(place, (user, ..))| (of(user), place)));
    let user = |place: usize| pointers.get(place).map(|(user, ..)| user);
    // One user's pointers keep their order.
    order.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| user(*a).cmp(&user(*b))));
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut places = Vec::new();
    for same in order.chunk_by(|(_, a), (_, b)| user(*a) == user(*b)) {
        for some in same.chunks(CHUNK) {
            let Some((partition, user)) = some.first().and_then(|(at, place)| Some((*at, user(*place)?)))
            else {
                continue;
            };
            places.clear();
            places.extend(some.iter().map(|(_, place)| *place));
            match calls.last_mut().filter(|call| call.takes(partition, pointers, &places)) {
                Some(call) => {
                    call.users.push(user);
                    call.places.extend(&places);
                }
                None => calls.push(Call {
                    partition,
                    users: vec![user],
                    places: places.clone(),
                    count: places.len(),
                }),
            }
        }
    }
    calls
}

impl Node {
    /// Milliseconds until a user's pointers are collected to whom nothing was told: what they point at is gone by then.
    fn pointer_life(&self) -> u64 {
        millis(self.options.retention).max(1)
    }

    async fn assign_all(&self, pointers: &[Pointer], together: bool) -> Result<Vec<u64>, Fault> {
        let calls = calls(pointers, together);
        let answers = try_join_all(calls.iter().map(|call| self.assign_by(call, pointers))).await?;
        let mut integers = vec![0; pointers.len()];
        for (call, answer) in calls.iter().zip(answers) {
            if answer.len() != call.places.len() {
                return Err(corrupt("as many integers as pointers"));
            }
            for (place, integer) in call.places.iter().zip(answer) {
                if let Some(told) = integers.get_mut(*place) {
                    *told = integer.number()?;
                }
            }
        }
        Ok(integers)
    }

    async fn assign_by(&self, call: &Call<'_>, pointers: &[Pointer]) -> Result<Vec<Reply>, Fault> {
        let keys: Vec<String> = call.users.iter().flat_map(|user| self.keys.sequence(user)).collect();
        let first = call.places.iter().take(call.count).filter_map(|place| pointers.get(*place));
        let args = first.fold(Args::none().and(POINTERS).and(self.pointer_life()), |args, (_, log, seq)| {
            args.and(log_text(log)).and(seq)
        });
        self.list("gw1_assign", &keys, args).await
    }
}

#[async_trait]
impl Sequences for Node {
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Result<Vec<u64>, Fault> {
        let together = self.together.load(Ordering::Relaxed);
        match self.assign_all(pointers, together).await {
            Err(fault) if together && self.turns_out_apart(&fault) => self.assign_all(pointers, false).await,
            answer => answer,
        }
    }

    async fn pointers(
        &self,
        user: &UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogKey, u64)>, Fault> {
        let args = Args::none().and(after.min(1 << 53)).and(limit.min(1 << 31));
        let answer = self.list("gw1_pointers", &self.keys.sequence(user), args).await?;
        let pointer = |pair: &[Reply]| match pair {
            [pointer, integer] => {
                let text = pointer.text()?;
                let parsed =
                    text.rsplit_once('\0').and_then(|(log, seq)| Some((parse_log(log)?, seq.parse().ok()?)));
                let (log, seq) = parsed.ok_or_else(|| corrupt(text))?;
                Ok((integer.number()?, log, seq))
            }
            _ => Err(corrupt("half a pair")),
        };
        answer.chunks(2).map(pointer).collect()
    }

    async fn marks(&self, user: &UserId) -> Result<Vec<(LogKey, u64)>, Fault> {
        let answer = self.list("gw1_marks", &self.keys.sequence(user), Args::none()).await?;
        let mut marks = Vec::new();
        for pair in answer.chunks_exact(2) {
            let [log, seq] = pair else { continue };
            let text = log.text()?;
            // What the functions note for themselves has no log's name.
            if text.contains(':') {
                marks.push((parse_log(text).ok_or_else(|| corrupt(text))?, seq.number()?));
            }
        }
        Ok(marks)
    }
}

fn corrupt(what: &str) -> Fault {
    Fault::Corrupt(format!("sequence pointer {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(user: &str, seq: u64) -> Pointer {
        (UserId::parse(user).unwrap(), LogKey::App("a".into()), seq)
    }

    fn places(pointers: &[Pointer], one: bool) -> Vec<Vec<usize>> {
        calls(pointers, one).into_iter().map(|call| call.places).collect()
    }

    #[test]
    fn users_with_the_same_pointers_are_one_call() {
        let both = [pointer("a", 1), pointer("b", 1), pointer("a", 2), pointer("b", 2), pointer("c", 1)];
        assert_eq!(places(&both, true), [vec![0, 2, 1, 3], vec![4]], "c has others");
    }

    #[test]
    fn no_call_is_large_or_leaves_its_partition() {
        let room: Vec<Pointer> = (0..1000).map(|n| pointer(&format!("u{n}"), 7)).collect();
        let mut all: Vec<usize> = places(&room, true).concat();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(places(&room, true).len(), 10);
        for call in calls(&room, false) {
            assert!(call.users.iter().all(|user| user_partition(user) == call.partition));
        }
        let long: Vec<Pointer> = (0..250).map(|seq| pointer("a", seq)).collect();
        assert_eq!(
            places(&long, true),
            [(0..100).collect(), (100..200).collect(), (200..250).collect::<Vec<_>>()]
        );
    }
}
