//! Webhooks: what happened reaches the application's backend, whoever is away meanwhile.

mod aside;
mod examples;
mod faults;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use parlance_tests::{Gateway, Options, PATIENCE, Ws};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::backend::{Backend, http};

/// Signs the calls.
pub const SECRET: &str = "the-secret-of-the-webhooks-of-32-bytes";

/// A backend that knows every event that it took, by id, in the order it came first.
#[derive(Clone)]
pub struct Listener {
    backend: Backend,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
pub struct Taken {
    /// Id to how often it came.
    pub times: BTreeMap<String, usize>,
    /// In the order in which each came first.
    pub events: Vec<Value>,
}

impl Listener {
    /// Takes everything.
    pub async fn start() -> Result<Self> {
        Self::deciding(|_, _| Some(200)).await
    }

    /// Answers with what `status` says of a call, by how many there were before; `None`: not at all.
    pub async fn deciding(
        status: impl Fn(usize, &Value) -> Option<u16> + Send + Sync + 'static,
    ) -> Result<Self> {
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let (kept, calls) = (taken.clone(), Mutex::new(0_usize));
        let backend = Backend::start(move |call| {
            let before = {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                *calls += 1;
                *calls - 1
            };
            let status = status(before, call)?;
            if status < 300 {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                for event in call["events"].as_array().into_iter().flatten() {
                    let id = event["id"].as_str().unwrap_or_default().to_owned();
                    let times = kept.times.entry(id).or_default();
                    *times += 1;
                    if *times == 1 {
                        kept.events.push(event.clone());
                    }
                }
            }
            http(status, "{}")
        });
        Ok(Self { backend: backend.await?, taken })
    }

    /// The calls, as they came.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// A node's options that tell it, with further options of the section.
    pub fn told_by(&self, more: &str) -> Options {
        let url = self.backend.url();
        let toml = format!(
            "[webhooks]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nbackoff_ms = 20\nbackoff_max_ms = 100\n{more}\n"
        );
        Options::default().config(&toml).env("PARLANCE_LIMITS_RATES", "false")
    }

    /// Every event so far, the first time it came.
    pub fn events(&self) -> Vec<Value> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// How often each came.
    pub fn times(&self) -> BTreeMap<String, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).times.clone()
    }

    /// Those of one type.
    pub fn of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["type"] == kind).collect()
    }

    /// Waits until what has come is so.
    pub async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) -> Result<()> {
        let so = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE * 3, so)
            .await
            .with_context(|| format!("{what}; there came {:?}", self.events().len()))
    }
}

/// Says something, and hears that it was acknowledged.
pub async fn say(socket: &mut Ws, id: &str, place: &str, to: &[&str]) -> Result<()> {
    let message = json!({ "type": "message:send", "messageId": id, "conversationId": place, "toUserIds": to, "body": id });
    socket.send(&message).await?;
    socket.expect("message:acked").await?;
    Ok(())
}

/// Bodies of the messages that were told, of one conversation.
pub fn bodies(events: &[Value], place: &str) -> Vec<String> {
    let of =
        events.iter().filter(|e| e["type"] == "message.accepted" && e["data"]["conversationId"] == place);
    of.filter_map(|event| event["data"]["body"].as_str().map(str::to_owned)).collect()
}

/// A connection in sechat.
pub async fn connect(gateway: &Gateway, user: &str) -> Result<Ws> {
    gateway.connect("/sechat", user).await
}
