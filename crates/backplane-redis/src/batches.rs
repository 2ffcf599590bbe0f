//! Many small questions as few calls: those of one partition together, all partitions at once.
//!
//! Must not know: what is asked.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use parlance_backplane::Fault;

/// Questions handed to one call at most.
const CHUNK: usize = 300;

/// Asks about all of `items`, those of one partition (`of`) in one call, and returns the answers in their order. A call that fails
/// fails its own questions only.
pub async fn ask_all<'a, K, T, F>(
    items: &'a [K],
    of: impl Fn(&K) -> usize,
    ask: impl Fn(Vec<&'a K>) -> F,
) -> Vec<Result<T, Fault>>
where
    F: Future<Output = Result<Vec<T>, Fault>>,
{
    let mut groups: BTreeMap<usize, Vec<(usize, &K)>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        groups.entry(of(item)).or_default().push((index, item));
    }
    let chunks: Vec<&[(usize, &K)]> = groups.values().flat_map(|group| group.chunks(CHUNK)).collect();
    let answers =
        join_all(chunks.iter().map(|chunk| ask(chunk.iter().map(|(_, item)| *item).collect()))).await;
    let missing = || Err(Fault::Corrupt("an answer is missing in an answer to several questions".to_owned()));
    let mut all: Vec<Result<T, Fault>> = items.iter().map(|_| missing()).collect();
    for (chunk, answer) in chunks.into_iter().zip(answers) {
        let mut told = answer.map(Vec::into_iter);
        for (index, _) in chunk {
            let Some(place) = all.get_mut(*index) else { continue };
            *place = match &mut told {
                Ok(told) => told.next().map_or_else(missing, Ok),
                Err(fault) => Err(fault.clone()),
            };
        }
    }
    all
}
