//! What each update looks like as a line of text. Pure.

use std::collections::HashMap;

use parlance_client::{MessageState, Update};

/// Remembers the texts of own messages, so that news about them can name them.
#[derive(Default)]
pub struct Lines {
    own: HashMap<String, (String, MessageState)>,
    heard: Option<String>,
}

impl Lines {
    /// A message of ours was handed to the client.
    pub fn sent(&mut self, local_id: String, body: String) {
        self.own.insert(local_id, (body, MessageState::LocalQueued));
    }

    /// The last message of others, by its id.
    pub fn last_heard(&self) -> Option<&str> {
        self.heard.as_deref()
    }

    /// Whether the server has answered for everything we sent.
    pub fn all_settled(&self) -> bool {
        self.own.values().all(|(_, state)| state.is_settled())
    }

    /// How many messages have failed.
    pub fn failed(&self) -> usize {
        self.own.values().filter(|(_, state)| *state == MessageState::Failed).count()
    }

    /// How many messages the server has not answered for.
    pub fn unsettled(&self) -> usize {
        self.own.values().filter(|(_, state)| !state.is_settled()).count()
    }

    /// The line for an update; `None` when there is nothing to show.
    pub fn line(&mut self, update: &Update) -> Option<String> {
        Some(match update {
            // Our own words are on the screen already.
            Update::Message(message) if message.local_id.is_some() => return None,
            Update::Message(message) => {
                self.heard = Some(message.id.clone());
                format!("{}: {}", clean(&message.from), clean(&message.body))
            }
            Update::State { local_id, state } => {
                let (body, known) = self.own.get_mut(local_id)?;
                if !known.advance(*state) {
                    return None;
                }
                format!("{} {}", tick(*state)?, clean(body))
            }
            Update::Typing { user, on: true, .. } => format!("* {} is typing", clean(user)),
            Update::Typing { .. } => return None,
            Update::Reaction { kind, user, on, .. } => {
                let did = if *on { "reacted" } else { "no longer reacts" };
                format!("* {} {did} {}", clean(user), clean(kind))
            }
            Update::Member { user, joined, .. } => {
                format!("* {} {}", clean(user), if *joined { "came in" } else { "left" })
            }
            Update::Presence { user, status } => format!("* {} is {}", clean(user), status.as_str()),
            Update::Disconnected { reason, .. } => {
                format!("* connection lost, trying again ({})", clean(reason))
            }
            Update::Maintenance { message } => format!("* maintenance: {}", clean(message)),
            Update::Error { code, message, .. } => format!("! {}: {}", clean(code), clean(message)),
            _ => return None,
        })
    }
}

fn tick(state: MessageState) -> Option<&'static str> {
    match state {
        MessageState::ServerAcked => Some("✓"),
        MessageState::Delivered => Some("✓✓"),
        MessageState::Read => Some("✓✓ read"),
        MessageState::Failed => Some("✗"),
        MessageState::LocalQueued | MessageState::SocketSent => None,
    }
}

/// Text from others without control characters: it must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_client::Message;

    fn message(body: &str, local_id: Option<&str>) -> Update {
        Update::Message(Message {
            conversation: "c".into(),
            id: "m".into(),
            client_id: None,
            from: "alice".into(),
            body: body.into(),
            at: None,
            queued: false,
            seq: None,
            local_id: local_id.map(str::to_owned),
            metadata: None,
        })
    }

    fn state(state: MessageState) -> Update {
        Update::State { local_id: "1".into(), state }
    }

    #[test]
    fn messages_are_shown_unless_they_are_our_own_echo() {
        let mut lines = Lines::default();
        assert_eq!(lines.line(&message("hello", None)).as_deref(), Some("alice: hello"));
        assert_eq!(lines.line(&message("hello", Some("1"))), None);
    }

    #[test]
    fn nobody_steers_our_terminal() {
        let mut lines = Lines::default();
        assert_eq!(lines.line(&message("a\u{1b}[2Jb\nc", None)).as_deref(), Some("alice: a [2Jb c"));
    }

    #[test]
    fn ticks_follow_the_state() {
        let mut lines = Lines::default();
        lines.sent("1".into(), "hello".into());
        assert_eq!(lines.line(&state(MessageState::SocketSent)), None);
        assert!(!lines.all_settled());
        assert_eq!(lines.line(&state(MessageState::ServerAcked)).as_deref(), Some("✓ hello"));
        assert!(lines.all_settled());
        assert_eq!(lines.line(&state(MessageState::Delivered)).as_deref(), Some("✓✓ hello"));
        assert_eq!(lines.line(&state(MessageState::Read)).as_deref(), Some("✓✓ read hello"));
        assert_eq!(lines.failed(), 0);
    }
}
