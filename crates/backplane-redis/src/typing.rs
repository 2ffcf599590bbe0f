//! Typing deadlines.

use async_trait::async_trait;
use parlance_backplane::{Fault, Typing, TypingOutcome};
use parlance_model::{Author, ConversationId, UserId};

use crate::engine::{Node, millis};
use crate::envelope;

#[async_trait]
impl Typing for Node {
    async fn set(
        &self,
        conversation: &ConversationId,
        author: &Author,
        on: bool,
        to: &[UserId],
    ) -> Result<TypingOutcome, Fault> {
        let to: Vec<&str> = to.iter().map(UserId::as_str).collect();
        let args = self
            .timed()
            .and(conversation)
            .and(&author.id)
            .and(u8::from(on))
            .and(millis(self.options.typing_ttl))
            .bytes(envelope::author(author))
            .and(to.join(" "));
        let answer = self.call("gw1_typing", &self.keys.typing(conversation), args).await?;
        Ok(match answer.text()? {
            "published" => TypingOutcome::Published,
            "refreshed" => TypingOutcome::Refreshed,
            _ => TypingOutcome::Ignored,
        })
    }
}
