//! The state at the end: what the server API says of every conversation.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::catchup::{Item, Reader};
use super::outside::Seen;
use super::rig::Rig;
use crate::API_KEY;

/// How long the history may take to be read at the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that is in the logs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// Messages by conversation, oldest first.
    pub logs: BTreeMap<String, Vec<Item>>,
    /// Who is a member of what, at the end.
    pub members: BTreeMap<String, Vec<String>>,
    /// What the archive and the backend have, where there are such.
    #[serde(default)]
    pub outside: Option<Seen>,
}

impl Dump {
    /// Reads it from a node.
    ///
    /// # Errors
    /// When no node gives it in time.
    pub async fn read(rig: &Rig, members: &BTreeMap<String, Vec<String>>) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::once(rig, members).await {
                Ok(dump) => return Ok(dump),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context("the history cannot be read at the end"));
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn once(rig: &Rig, members: &BTreeMap<String, Vec<String>>) -> Result<Self> {
        let address = rig.any()?.internal_address().to_owned();
        let reader = Reader { address: &address, bearer: API_KEY };
        let mut logs = BTreeMap::new();
        for id in members.keys() {
            logs.insert(id.clone(), reader.all(id, None).await?.items);
        }
        Ok(Self { logs, members: members.clone(), outside: None })
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)?)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }
}
