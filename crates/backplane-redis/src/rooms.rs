//! Who is present in which conversation.
//!
//! Entering takes three steps, as lease and conversation lie in different partitions: the rooms are written down
//! beside the lease, entered under the lease's stamp, and left again when the lease ended meanwhile. Leaving is one
//! step; what is written down beside the lease stays until it ends, and naming a room too much is harmless.
//! Must not know: who may enter.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parlance_backplane::{Entering, Fault, Leaving, Rooms};
use parlance_model::{ConversationId, LogKey, UserId};

use crate::engine::{Args, Node};
use crate::envelope;

impl Node {
    async fn guest(&self, entering: &Entering) -> Result<String, Fault> {
        let args = self.timed().and(&entering.connection).all(&entering.conversations);
        let lease = self.call("gw1_guest", &self.keys.presence(&entering.author.id), args).await?;
        Ok(lease.text()?.to_owned())
    }
}

fn log(id: &ConversationId) -> LogKey {
    LogKey::Conversation(id.clone())
}

#[async_trait]
impl Rooms for Node {
    async fn enter(&self, entering: Entering) -> Result<(), Fault> {
        let lease = self.guest(&entering).await?;
        if lease.is_empty() {
            return Ok(());
        }
        let Entering { conversations, author, connection, explicit } = &entering;
        let shown = envelope::author(author);
        try_join_all(conversations.iter().map(|id| {
            let args = self.timed().and(&author.id).and(connection).and(u8::from(*explicit)).and(&lease);
            let (keys, args) = (self.keys.log(&log(id)), args.bytes(shown.clone()));
            async move { self.call("gw1_enter", &keys, args).await }
        }))
        .await?;
        if self.guest(&entering).await? == lease {
            return Ok(());
        }
        try_join_all(conversations.iter().map(|id| {
            let args = self.timed().and(&author.id).and(connection).and(0).and(&lease).and("");
            let keys = self.keys.log(&log(id));
            async move { self.call("gw1_leave", &keys, args).await }
        }))
        .await
        .map(drop)
    }

    async fn leave(&self, leaving: Leaving) -> Result<(), Fault> {
        let Leaving { conversations, author, connection, explicit } = &leaving;
        let shown = envelope::author(author);
        try_join_all(conversations.iter().map(|id| {
            let args = self.timed().and(&author.id).and(connection).and(u8::from(*explicit)).and("");
            let (keys, args) = (self.keys.log(&log(id)), args.bytes(shown.clone()));
            async move { self.call("gw1_leave", &keys, args).await }
        }))
        .await
        .map(drop)
    }

    async fn present(&self, conversation: &ConversationId) -> Result<Vec<UserId>, Fault> {
        let present = self.on_log("gw1_present", &log(conversation), Args::none()).await?;
        let parse = |text: &str| {
            UserId::parse(text).map_err(|_| Fault::Corrupt(format!("user {text:?} in a conversation")))
        };
        let mut users = present.iter().map(|id| parse(id.text()?)).collect::<Result<Vec<_>, _>>()?;
        users.sort();
        Ok(users)
    }
}
