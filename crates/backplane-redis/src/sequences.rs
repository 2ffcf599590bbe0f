//! The per-user integer sequence, in the user's partition.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parlance_backplane::{Fault, Sequences};
use parlance_model::{LogKey, UserId};
use rustc_hash::FxHashMap;

use crate::engine::{Args, Node, millis};
use crate::keys::{log_text, parse_log};
use crate::link::Reply;

/// Pointers kept per user; beyond, the oldest are forgotten.
const POINTERS: u64 = 10_000;
/// Pointers assigned by one call: Lua hands over a bounded number of arguments.
const CHUNK: usize = 500;

impl Node {
    /// Milliseconds until a user's pointers are collected to whom nothing was told: what they point at is gone by then.
    fn pointer_life(&self) -> u64 {
        millis(self.options.retention).max(1)
    }
}

#[async_trait]
impl Sequences for Node {
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Result<Vec<u64>, Fault> {
        let mut by_user: FxHashMap<&UserId, Vec<usize>> = FxHashMap::default();
        for (index, (user, ..)) in pointers.iter().enumerate() {
            by_user.entry(user).or_default().push(index);
        }
        let chunks: Vec<(&UserId, &[usize])> = by_user
            .iter()
            .flat_map(|(user, indexes)| indexes.chunks(CHUNK).map(|chunk| (*user, chunk)))
            .collect();
        let assign = |(user, chunk): &(&UserId, &[usize])| {
            let args =
                Args::none().and(POINTERS).and(self.pointer_life()).all(chunk.iter().flat_map(|index| {
                    let pointer = pointers.get(*index);
                    pointer.map(|(_, log, seq)| [log_text(log), seq.to_string()]).into_iter().flatten()
                }));
            let keys = self.keys.sequence(user);
            async move { self.list("gw1_assign", &keys, args).await }
        };
        let answers = try_join_all(chunks.iter().map(assign)).await?;
        let mut integers = vec![0; pointers.len()];
        for ((_, chunk), answer) in chunks.iter().zip(answers) {
            for (index, integer) in chunk.iter().zip(answer) {
                if let Some(place) = integers.get_mut(*index) {
                    *place = integer.number()?;
                }
            }
        }
        Ok(integers)
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
            // The field without a name has the newest integer.
            if !log.text()?.is_empty() {
                let text = log.text()?;
                marks.push((parse_log(text).ok_or_else(|| corrupt(text))?, seq.number()?));
            }
        }
        Ok(marks)
    }
}

fn corrupt(what: &str) -> Fault {
    Fault::Corrupt(format!("sequence pointer {what:?}"))
}
