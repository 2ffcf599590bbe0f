//! What a client does, in the arguments of each dialect. The words themselves are in the table.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Device;

/// Something to do.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Nothing anybody hears of, but it is answered.
    Nothing,
    /// Enter the room, or leave it.
    Room,
    /// Send a message; dialects that need an id of the client's use `id`, the others none.
    Send {
        /// The text.
        body: &'a str,
        /// The client's own id.
        id: &'a str,
    },
    /// Send a message that has no text, which no dialect allows.
    Textless {
        /// The client's own id.
        id: &'a str,
    },
    /// A receipt of a message of that author, under the id this client was told.
    Receipt {
        /// As told.
        message: &'a Value,
        /// Who wrote it.
        author: &'a str,
    },
    /// Start or stop typing.
    Typing(bool),
    /// A reaction to a message, under the id this client was told.
    React {
        /// As told.
        message: &'a Value,
        /// Which.
        kind: &'a str,
    },
}

impl Device {
    /// Does it in conversation `place`, with the table's `word`; it has been carried out when this returns.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn act(&mut self, action: Action<'_>, place: &str, word: Option<&str>) -> Result<Value> {
        let answer = self.attempt(action, place, word).await?;
        ensure!(!refused(&answer), "{} may not {action:?}: {answer}", self.user);
        Ok(answer)
    }

    /// Tries to do it, and returns the answer even if it is a refusal.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn attempt(&mut self, action: Action<'_>, place: &str, word: Option<&str>) -> Result<Value> {
        let (harmless, args) = self.spell(action, place);
        self.say(word.or(harmless).context("no word for it")?, &args).await
    }

    /// Enters a conversation's room, where the dialect has a word for that.
    ///
    /// # Errors
    /// When it may not.
    pub async fn enter(&mut self, place: &str) -> Result<()> {
        let word = match self.vocabulary() {
            "lingochat" => "conversation:join",
            "lingochat-room" | "famly" => "room:join",
            "socialhub" => "subscribe",
            _ => return Ok(()),
        };
        self.act(Action::Room, place, Some(word)).await.map(drop)
    }

    /// The arguments, and for [`Action::Nothing`] the word.
    fn spell(&self, action: Action<'_>, place: &str) -> (Option<&'static str>, Vec<Value>) {
        match self.vocabulary() {
            "sechat" => (Some("presence:ping"), vec![self.sechat(action, place)]),
            "lingochat" | "lingochat-room" => (Some("typing:stop"), lingochat(action, place)),
            "famly" => (Some("presence:ping"), vec![famly(action, place)]),
            "chatgenius" => (Some("typing:stop"), vec![chatgenius(action, place)]),
            _ => (Some("connect"), vec![socialhub(action, place)]),
        }
    }

    fn sechat(&self, action: Action<'_>, place: &str) -> Value {
        let me = &self.user;
        match action {
            Action::Nothing | Action::Room | Action::React { .. } => json!({ "sessionId": me }),
            Action::Send { body, id } => {
                json!({ "messageId": id, "conversationId": place, "fromUserId": me, "body": body })
            }
            Action::Textless { id } => {
                json!({ "messageId": id, "conversationId": place, "fromUserId": me })
            }
            Action::Receipt { message, author } => {
                json!({ "messageId": message, "fromUserId": me, "toUserId": author })
            }
            Action::Typing(on) => json!({ "conversationId": place, "fromUserId": me, "isTyping": on }),
        }
    }
}

fn lingochat(action: Action<'_>, place: &str) -> Vec<Value> {
    match action {
        Action::Nothing | Action::Room | Action::Typing(_) => vec![json!(place)],
        Action::Send { body, .. } => vec![json!(place), json!({ "text": body })],
        Action::Textless { .. } => vec![json!(place), json!({})],
        Action::Receipt { message, .. } | Action::React { message, .. } => vec![message.clone()],
    }
}

fn famly(action: Action<'_>, place: &str) -> Value {
    match action {
        Action::Nothing => json!({}),
        Action::Room | Action::Typing(_) => json!({ "chatId": place }),
        Action::Send { body, id } => json!({ "chatId": place, "body": body, "clientId": id }),
        Action::Textless { id } => json!({ "chatId": place, "clientId": id }),
        Action::Receipt { message, .. } | Action::React { message, .. } => {
            json!({ "chatId": place, "messageId": message })
        }
    }
}

fn chatgenius(action: Action<'_>, place: &str) -> Value {
    match action {
        Action::Nothing | Action::Room | Action::Typing(_) => json!({ "channelId": place }),
        Action::Send { body, .. } => json!({ "channelId": place, "content": body }),
        Action::Textless { .. } => json!({ "channelId": place }),
        Action::Receipt { message, .. } => json!({ "messageId": message }),
        Action::React { message, kind } => json!({ "messageId": message, "type": kind }),
    }
}

fn socialhub(action: Action<'_>, place: &str) -> Value {
    let channel = format!("conversation:{place}");
    match action {
        Action::Nothing => json!({}),
        Action::Room => json!({ "payload": { "channel": channel } }),
        Action::Typing(_) => json!({ "payload": { "conversation_id": place } }),
        Action::Send { body, .. } => json!({ "channel": channel, "payload": { "content": body } }),
        Action::Textless { .. } => json!({ "channel": channel, "payload": {} }),
        Action::Receipt { message, .. } | Action::React { message, .. } => {
            json!({ "payload": { "conversation_id": place, "message_ids": [message] } })
        }
    }
}

/// Whether an answer says no, in any dialect.
pub(super) fn refused(answer: &Value) -> bool {
    ["ok", "success"].iter().any(|name| answer[name] == false)
        || answer["status"] == "error"
        || answer["type"] == "error"
}
