//! Small shared values with a lifetime, in the same durable file.

use std::time::Duration;

use async_trait::async_trait;
use redb::ReadableTable;

use super::Node;
use super::tables::SHARED;
use super::writer::Step;
use crate::{Fault, Over, Shared};

/// Expired values removed per save.
const TRIM: usize = 4;
/// The end of what lasts until it is removed.
const NEVER: u64 = u64::MAX;

#[async_trait]
impl Shared for Node {
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault> {
        self.keep(key, value, ttl, Over::Anything).await.map(drop)
    }

    async fn keep(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        over: Over,
    ) -> Result<bool, Fault> {
        let key = key.to_owned();
        self.engine
            .writer
            .run(move |step| {
                if let Over::This(expected) = &over
                    && standing(step, &key)? != *expected
                {
                    return Ok(false);
                }
                put(step, &key, &value, ttl)?;
                Ok(true)
            })
            .await
    }

    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        let (key, now) = (key.to_owned(), self.engine.now().millis());
        self.engine
            .read(move |txn| {
                let found = txn.open_table(SHARED)?.get(key.as_str())?;
                Ok(found
                    .map(|row| (row.value().0, row.value().1.to_vec()))
                    .filter(|(ends, _)| *ends > now)
                    .map(|(_, value)| value))
            })
            .await
    }

    async fn load_or_save(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let key = key.to_owned();
        let load_or_save = move |step: &mut Step<'_, '_>| {
            let standing = standing(step, &key)?;
            if standing.is_none() {
                put(step, &key, &value, ttl)?;
            }
            Ok(standing)
        };
        self.engine.writer.run(load_or_save).await
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        let key = key.to_owned();
        self.engine.writer.run(move |step| forget(step, &key)).await
    }
}

fn standing(step: &Step<'_, '_>, key: &str) -> Result<Option<Vec<u8>>, Fault> {
    let now = step.now().millis();
    let found = step.read().shared.get(key)?;
    Ok(found.filter(|row| row.value().0 > now).map(|row| row.value().1.to_vec()))
}

fn put(step: &mut Step<'_, '_>, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Fault> {
    let now = step.now();
    let ends = ttl.map_or(NEVER, |ttl| (now + ttl).millis());
    forget(step, key)?;
    let tables = step.write();
    tables.shared.insert(key, (ends, value))?;
    if ends != NEVER {
        tables.shared_ends.insert((ends, key), ())?;
    }
    for _ in 0..TRIM {
        let first = step.read().shared_ends.first()?;
        let Some((ends, key)) = first.map(|(row, _)| (row.value().0, row.value().1.to_owned())) else {
            break;
        };
        if ends > now.millis() {
            break;
        }
        forget(step, &key)?;
    }
    Ok(())
}

fn forget(step: &mut Step<'_, '_>, key: &str) -> Result<(), Fault> {
    let Some(ends) = step.read().shared.get(key)?.map(|row| row.value().0) else { return Ok(()) };
    let tables = step.write();
    tables.shared.remove(key)?;
    tables.shared_ends.remove((ends, key))?;
    Ok(())
}
