//! What a backend asks of a node over the server API, and what it waits to be told.
//!
//! Must not know: any dialect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Gateway, PATIENCE, token};

impl Gateway {
    /// Calls the server API, which must do it; the answer.
    ///
    /// # Errors
    /// When it does not.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.api(method, path, body).await?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// Creates a conversation; its number.
    ///
    /// # Errors
    /// When it is not created.
    pub async fn conversation(&self, id: &str, members: &[impl Serialize]) -> Result<u64> {
        let body = json!({ "id": id, "type": "group", "members": members });
        let (status, answer) = self.api("POST", "/api/v1/conversations", Some(&body)).await?;
        ensure!(status == 201, "creating {id}: {status} {answer}");
        answer["number"].as_u64().with_context(|| format!("no number: {answer}"))
    }

    /// What a user reads at an address of the public listener.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn read(&self, user: &str, path: &str) -> Result<Value> {
        let answer = self.public("GET", path, Some(&token(user)?)).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// Waits until this is said of a user's presence.
    ///
    /// # Errors
    /// When it is not within the patience of the tests.
    pub async fn until_presence(&self, user: &str, field: &str, expected: impl Into<Value>) -> Result<()> {
        let (path, expected) = (format!("/api/v1/users/{user}/presence"), expected.into());
        let asked = async {
            while self.call("GET", &path, None).await?[field] != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, asked).await.with_context(|| format!("{user}: {field} never {expected}"))?
    }

    /// Waits until the node has let go of all of a user's connections.
    ///
    /// # Errors
    /// As [`Self::until_presence`].
    pub async fn until_gone(&self, user: &str) -> Result<()> {
        self.until_presence(user, "status", "offline").await
    }
}
