//! A client that only has HTTP: reads history, lists its conversations, says how far it has read.
//!
//! Owns: paging, and what every page must keep to. Must not know: which nodes there are.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::Request;
use crate::{Gateway, PATIENCE, Response, token};

/// A user at some nodes, of which each call goes to another one.
pub struct Reader<'a> {
    nodes: &'a [&'a Gateway],
    next: usize,
    user: String,
    token: String,
}

impl<'a> Reader<'a> {
    /// A user with a token of the tests.
    ///
    /// # Errors
    /// When there is no token.
    pub fn new(nodes: &'a [&'a Gateway], user: &str) -> Result<Self> {
        Ok(Self { nodes, next: 0, user: user.to_owned(), token: token(user)? })
    }

    /// Calls the next node.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let node = self.nodes.get(self.next % self.nodes.len()).context("no nodes")?;
        self.next += 1;
        Request { address: node.address(), method, path, bearer: Some(&self.token), body }.send().await
    }

    /// What is at an address.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.call("GET", path, None).await?;
        ensure!(answer.status == 200, "{} at {path}: {} {}", self.user, answer.status, answer.body);
        answer.json()
    }

    /// Says how far it has read; the conversation as it is listed then.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn mark(&mut self, conversation: &str, body: &Value) -> Result<Value> {
        let answer =
            self.call("PUT", &format!("/api/v1/conversations/{conversation}/read"), Some(body)).await?;
        ensure!(answer.status == 200, "{body}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// One of its conversations, as it is listed.
    ///
    /// # Errors
    /// When it is not listed.
    pub async fn listed(&mut self, conversation: &str) -> Result<Value> {
        let all = self.list(200).await?;
        let found = all.iter().find(|listed| listed["id"] == conversation);
        found.cloned().with_context(|| format!("{conversation} is not among {all:?}"))
    }

    /// All its conversations, so many a page; each once, by id.
    ///
    /// # Errors
    /// When a page is not as documented.
    pub async fn list(&mut self, limit: usize) -> Result<Vec<Value>> {
        let (mut all, mut path) = (Vec::new(), format!("/api/v1/conversations?limit={limit}"));
        loop {
            let page = self.get(&path).await?;
            ensure!(page["unavailable"] == json!([]), "{page}");
            let found = page["conversations"].as_array().context("no conversations")?;
            ensure!(found.len() <= limit, "{} are more than {limit}", found.len());
            all.extend(found.iter().cloned());
            ensure!(page["has_more"] == !page["next"].is_null(), "{page}");
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/v1/conversations?limit={limit}&after={next}");
        }
        let ids: Vec<&str> = all.iter().filter_map(|listed| listed["id"].as_str()).collect();
        ensure!(ids.len() == all.len() && ids.windows(2).all(|pair| pair[0] < pair[1]), "not by id: {ids:?}");
        Ok(all)
    }

    /// Waits until so much is unread.
    ///
    /// # Errors
    /// When it is not within the patience of the tests.
    pub async fn until_unread(&mut self, conversation: &str, unread: u64) -> Result<Value> {
        let mut last = Value::Null;
        let waited = timeout(PATIENCE, async {
            loop {
                last = self.listed(conversation).await?;
                if last["unread"] == unread {
                    return Ok::<_, anyhow::Error>(last.clone());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        match waited.await {
            Ok(found) => found,
            Err(_) => bail!("{}: never {unread} unread in {conversation}: {last}", self.user),
        }
    }

    /// A page of a history, and whether there is more.
    ///
    /// # Errors
    /// When it is not as documented.
    pub async fn page(&mut self, conversation: &str, query: &str) -> Result<(Vec<Value>, bool)> {
        let page = self.get(&format!("/api/v1/conversations/{conversation}/messages?{query}")).await?;
        ensure!(page["truncated"] == false, "nothing is gone: {page}");
        let found = page["messages"].as_array().context("no messages")?.clone();
        ensure!(dense(&found), "a page with holes for {query}: {page}");
        Ok((found, page["has_more"].as_bool().context("no has_more")?))
    }
}

/// The sequence of a message.
///
/// # Panics
/// Never: what has none is 0.
pub fn seq(message: &Value) -> u64 {
    message["seq"].as_u64().unwrap_or_default()
}

/// Whether messages follow each other without hole and repetition.
pub fn dense(messages: &[Value]) -> bool {
    messages.windows(2).all(|pair| seq(&pair[1]) == seq(&pair[0]) + 1)
}
