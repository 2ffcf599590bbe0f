//! People in a room of one node, and two people with many conversations: who says something, who waits until everybody
//! has heard it, and what that cost the node.
//!
//! Must not know: what is compared with what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use parlance_tests::{Gateway, Ws};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::spent;

/// Connections opened at once.
const AT_ONCE: usize = 20;
/// Messages before the first measurement: everything is opened and cached then.
const FIRST: usize = 10;
/// All members enter with the first message, beside whatever else there is to do on the machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn words(conversation: &str, number: usize, text: &str) -> serde_json::Value {
    json!({
        "type": "message:send", "messageId": format!("{conversation}-{number}"), "conversationId": conversation,
        "toUserIds": [], "body": text,
    })
}

/// About the bytes that one member gets of a message.
pub fn frame(text: &str) -> usize {
    text.len() + 250
}

/// How many have heard of all that was said.
#[derive(Default)]
struct Heard {
    count: AtomicUsize,
    moved: Notify,
    expected: AtomicUsize,
}

impl Heard {
    fn one(&self) {
        // Only the last one wakes whoever waits.
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.expected.load(Ordering::SeqCst) {
            self.moved.notify_one();
        }
    }

    async fn all(&self) -> Result<()> {
        let expected = self.expected.load(Ordering::SeqCst);
        let all = async {
            while self.count.load(Ordering::SeqCst) < expected {
                self.moved.notified().await;
            }
        };
        let heard = || format!("{} of {expected} have heard it", self.count.load(Ordering::SeqCst));
        timeout(PATIENCE, all).await.with_context(heard)
    }
}

/// A room and its members.
pub struct Crowd<'a> {
    node: &'a Gateway,
    name: String,
    sender: Ws,
    members: usize,
    said: usize,
    heard: Arc<Heard>,
    _readers: JoinSet<()>,
}

async fn read(mut member: Ws, heard: Arc<Heard>) {
    loop {
        match member.line_or_end().await {
            Ok(Some(line)) if line.contains("\"message:received\"") => heard.one(),
            Ok(None) => return,
            // Something else, or a long silence while others are measured.
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

impl<'a> Crowd<'a> {
    /// Connects so many members and one who speaks.
    pub async fn gather(node: &'a Gateway, name: &str, members: usize) -> Result<Self> {
        let mut names: Vec<String> = (0..members).map(|index| format!("{name}-{index}")).collect();
        let connected = stream::iter(&names).map(|member| node.connect("/sechat", member));
        let connected: Vec<Ws> = connected.buffer_unordered(AT_ONCE).try_collect().await?;
        let speaker = format!("{name}-speaker");
        let sender = node.connect("/sechat", &speaker).await?;
        names.push(speaker);
        // Now, and not before: nobody is told of all those who come.
        node.conversation(name, &names).await?;
        let (heard, mut readers) = (Arc::new(Heard::default()), JoinSet::new());
        for member in connected {
            readers.spawn(read(member, heard.clone()));
        }
        let name = name.to_owned();
        let mut crowd = Self { node, name, sender, members, said: 0, heard, _readers: readers };
        crowd.cost(FIRST, "hello").await?;
        Ok(crowd)
    }

    /// The processor time of the node for one message that everybody hears before the next one is said.
    pub async fn cost(&mut self, messages: usize, text: &str) -> Result<Duration> {
        let before = spent(self.node)?;
        for _ in 0..messages {
            self.heard.expected.fetch_add(self.members, Ordering::SeqCst);
            self.said += 1;
            self.sender.send(&words(&self.name, self.said, text)).await?;
            self.sender.expect("message:acked").await?;
            self.heard.all().await?;
        }
        Ok(spent(self.node)?.since(&before) / u32::try_from(messages)?)
    }
}

/// Two people and their conversations.
pub struct Pair<'a> {
    node: &'a Gateway,
    speaker: Ws,
    listener: Ws,
    conversations: usize,
    said: usize,
}

/// Two people who have so many conversations.
pub async fn pair(node: &Gateway, conversations: usize) -> Result<Pair<'_>> {
    let names: Vec<String> = (0..conversations).map(|number| format!("pair-{number}")).collect();
    let made = stream::iter(&names).map(|name| node.conversation(name, &["speaker", "listener"]));
    made.buffer_unordered(AT_ONCE).try_collect::<Vec<u64>>().await?;
    let speaker = node.connect("/sechat", "speaker").await?;
    let listener = node.connect("/sechat", "listener").await?;
    let mut pair = Pair { node, speaker, listener, conversations, said: 0 };
    pair.cost(conversations).await?;
    Ok(pair)
}

impl Pair<'_> {
    /// The processor time of the node for one message that is heard before the next one is said.
    pub async fn cost(&mut self, messages: usize) -> Result<Duration> {
        let before = spent(self.node)?;
        for _ in 0..messages {
            self.said += 1;
            let name = format!("pair-{}", self.said % self.conversations);
            let message = words(&name, self.said, "hello");
            self.speaker.send(&message).await?;
            self.speaker.expect("message:acked").await?;
            let heard = self.listener.expect("message:received").await?;
            ensure!(heard["messageId"] == message["messageId"], "another message: {heard}");
        }
        Ok(spent(self.node)?.since(&before) / u32::try_from(messages)?)
    }
}
