//! What is on the screen: a header, messages that scroll, a status line. Pure: updates in, lines out.
//!
//! Owns: what is shown and what of it has been seen. Must not know: the terminal, the input line, sockets.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use parlance_client::{Message, MessageState, Status, Time, Update};

use super::roster::Roster;
use super::styled::{Hue, Line, Span, clean, cut, span, width, wrap};

/// Entries kept for scrolling back; older ones are let go.
const KEPT: usize = 5000;
/// The columns of a time and the space behind it.
const INDENT: usize = 6;

/// The connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    Connecting,
    Up,
    Lost(String),
}

/// Who and where we are.
#[derive(Clone, Debug)]
pub struct Place {
    pub user: String,
    pub conversation: String,
    pub dialect: &'static str,
    pub zone: TimeZone,
}

/// A line of the conversation, or something said about it.
#[derive(Debug)]
enum Entry {
    Message(Shown),
    Notice { at: Time, text: String, bad: bool },
}

#[derive(Debug)]
struct Shown {
    at: Time,
    /// As the dialect names it; of own messages it is known once they have come back.
    id: Option<String>,
    /// Another conversation than the one we are in.
    elsewhere: Option<String>,
    from: String,
    body: String,
    own: Option<(String, MessageState)>,
    /// Not on the screen yet.
    unseen: Option<Box<Message>>,
}

/// See the module.
#[derive(Debug)]
pub struct View {
    place: Place,
    link: Link,
    status: Status,
    roster: Roster,
    entries: VecDeque<Entry>,
    /// In the order they were first heard of: so neighbours never share a colour.
    users: Vec<String>,
    /// Rows below the window.
    scrolled: usize,
    /// Of the last rendering.
    columns: usize,
    rows: usize,
    seen: Vec<Message>,
}

impl View {
    /// Nothing said yet.
    pub fn new(place: Place) -> Self {
        Self {
            users: vec![place.user.clone()],
            place,
            link: Link::Connecting,
            status: Status::Online,
            roster: Roster::default(),
            entries: VecDeque::new(),
            scrolled: 0,
            columns: 80,
            rows: 20,
            seen: Vec::new(),
        }
    }

    /// Takes in what the client tells.
    pub fn update(&mut self, update: Update, now: Time) {
        match update {
            Update::Connected => self.link = Link::Up,
            Update::Disconnected { reason, .. } => {
                self.link = Link::Lost(clean(&reason, false));
                self.roster.forget();
            }
            Update::Message(message) => self.message(message, now),
            Update::State { local_id, state } => self.advance(&local_id, state),
            Update::Typing { conversation, user, on } => {
                let here = conversation.is_empty() || conversation == self.place.conversation;
                if here && user != self.place.user {
                    self.roster.typing(&user, on);
                }
            }
            Update::Presence { user, status } if user != self.place.user => {
                self.roster.presence(&user, status);
            }
            Update::Receipt { by: Some(user), .. } if user != self.place.user => {
                self.roster.heard_from(&user)
            }
            Update::Reaction { message, kind, user, on } => self.reaction(&message, (&user, &kind), on, now),
            Update::Member { user, joined, .. } if user != self.place.user => {
                let news = if joined { "came in" } else { "left" };
                self.notice(&format!("{user} {news}"), false, now);
            }
            Update::Maintenance { message } => {
                self.notice(&format!("maintenance: {message}"), true, now);
            }
            Update::Error { code, message, .. } => self.notice(&format!("{code}: {message}"), true, now),
            _ => {}
        }
    }

    /// A message of ours was handed to the client.
    pub fn sent(&mut self, local_id: String, body: &str, now: Time) {
        let from = self.place.user.clone();
        let own = Some((local_id, MessageState::LocalQueued));
        self.scrolled = 0;
        self.push(Entry::Message(Shown {
            at: now,
            id: None,
            elsewhere: None,
            from,
            body: clean(body, true),
            own,
            unseen: None,
        }));
    }

    /// The last message of others here, by its id.
    pub fn last_heard(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Message(Shown { own: None, elsewhere: None, id, .. }) => id.as_deref(),
            _ => None,
        })
    }

    fn reaction(&mut self, message: &str, (user, kind): (&str, &str), on: bool, now: Time) {
        let body = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Message(shown) if shown.id.as_deref() == Some(message) => Some(quoted(&shown.body)),
            _ => None,
        });
        let what = body.unwrap_or_else(|| "a message".to_owned());
        let news = if on {
            format!("{user} reacted {kind} to {what}")
        } else {
            format!("{user} took {kind} back from {what}")
        };
        self.notice(&news, false, now);
    }

    /// Says something that is no message.
    pub fn notice(&mut self, text: &str, bad: bool, now: Time) {
        self.push(Entry::Notice { at: now, text: clean(text, true), bad });
    }

    /// Our own status, as the header shows it.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Who is here, one line each.
    pub fn who(&self) -> String {
        let others = self.roster.everybody().map(|(user, status)| format!("\n  {user}: {}", status.as_str()));
        let us = format!("  {} (you): {}", self.place.user, self.status.as_str());
        format!("heard of since the connection was made:\n{us}{}", others.collect::<String>())
    }

    /// The last messages of this session, as text.
    pub fn history(&self, count: usize) -> String {
        let shown = self.entries.iter().filter_map(|entry| match entry {
            Entry::Message(shown) => {
                Some(format!("\n{} {}: {}", self.clock(shown.at), shown.from, shown.body))
            }
            Entry::Notice { .. } => None,
        });
        let all: Vec<String> = shown.collect();
        let last = &all[all.len().saturating_sub(count)..];
        format!("{} of {} messages of this session:{}", last.len(), all.len(), last.concat())
    }

    /// Moves the window up (positive) or down by so many windows.
    pub fn scroll_pages(&mut self, pages: isize) {
        let rows = self.rows.saturating_sub(1).max(1);
        self.scroll(pages * isize::try_from(rows).unwrap_or(isize::MAX));
    }

    /// Moves the window up (positive) or down by so many rows; rendering stops it at the ends.
    pub fn scroll(&mut self, rows: isize) {
        self.scrolled = self.scrolled.saturating_add_signed(rows);
    }

    /// Back to the newest.
    pub fn scroll_to_end(&mut self) {
        self.scrolled = 0;
    }

    /// Messages that have come into sight since the last call.
    pub fn take_seen(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.seen)
    }

    /// Counts everything as seen, in sight or not.
    pub fn see_all(&mut self) {
        for entry in &mut self.entries {
            if let Entry::Message(shown) = entry {
                self.seen.extend(shown.unseen.take().map(|message| *message));
            }
        }
    }

    /// Own messages the server has not answered for.
    pub fn unsettled(&self) -> usize {
        let own = self.entries.iter().filter_map(|entry| match entry {
            Entry::Message(Shown { own: Some((_, state)), .. }) => Some(state),
            _ => None,
        });
        own.filter(|state| !state.is_settled()).count()
    }

    /// Everything but the input line: `rows` lines of at most `columns`.
    pub fn render(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        let (header, footer) = (usize::from(rows > 2), usize::from(rows > 1));
        self.columns = columns;
        self.rows = rows - header - footer.min(rows);
        let mut lines = Vec::with_capacity(rows);
        if header == 1 {
            lines.push(bar(self.header(), columns));
        }
        let below = {
            let window = self.window();
            lines.extend((window.len()..self.rows).map(|_| Line::new()));
            lines.extend(window);
            self.scrolled
        };
        if footer == 1 {
            let mut line = self.roster.line();
            if below > 0 {
                line.insert(0, span(format!(" ↓ {below} more rows (Esc)"), Hue::Bar));
            }
            lines.push(bar(line, columns));
        }
        lines
    }

    /// The rows in sight, which thereby are seen.
    fn window(&mut self) -> Vec<Line> {
        let wanted = self.rows + self.scrolled;
        let mut rows: Vec<(usize, Line)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate().rev() {
            if rows.len() >= wanted {
                break;
            }
            rows.extend(self.lines_of(entry).into_iter().rev().map(|line| (index, line)));
        }
        self.scrolled = self.scrolled.min(rows.len().saturating_sub(self.rows));
        let mut window: Vec<_> = rows.into_iter().skip(self.scrolled).take(self.rows).collect();
        window.reverse();
        for (index, _) in &window {
            if let Some(Entry::Message(shown)) = self.entries.get_mut(*index) {
                self.seen.extend(shown.unseen.take().map(|message| *message));
            }
        }
        window.into_iter().map(|(_, line)| line).collect()
    }

    fn lines_of(&self, entry: &Entry) -> Vec<Line> {
        let spans = match entry {
            Entry::Notice { at, text, bad } => {
                let hue = if *bad { Hue::Bad } else { Hue::Faint };
                vec![span(format!("{} ", self.clock(*at)), Hue::Faint), span(text.clone(), hue)]
            }
            Entry::Message(shown) => self.message_spans(shown),
        };
        wrap(&spans, self.columns, INDENT)
    }

    fn message_spans(&self, shown: &Shown) -> Vec<Span> {
        let hue = Hue::User(self.users.iter().position(|user| *user == shown.from).unwrap_or_default());
        let mut spans = vec![span(format!("{} ", self.clock(shown.at)), Hue::Faint)];
        if let Some(conversation) = &shown.elsewhere {
            spans.push(span(format!("[{conversation}] "), Hue::Faint));
        }
        spans.push(span(clean(&shown.from, false), hue));
        spans.push(span(format!(": {}", shown.body), Hue::Plain));
        if let Some((text, hue)) = shown.own.as_ref().and_then(|(_, state)| tick(*state)) {
            spans.push(span(format!(" {text}"), hue));
        }
        spans
    }

    fn header(&self) -> Line {
        let (text, hue) = match &self.link {
            Link::Connecting => ("connecting…".to_owned(), Hue::Bar),
            Link::Up => ("connected".to_owned(), Hue::Bar),
            Link::Lost(reason) if reason.is_empty() => ("reconnecting…".to_owned(), Hue::Bad),
            Link::Lost(reason) => (format!("reconnecting… ({reason})"), Hue::Bad),
        };
        let Place { user, conversation, dialect, .. } = &self.place;
        let us = match self.status {
            Status::Online => user.clone(),
            other => format!("{user} ({})", other.as_str()),
        };
        vec![span(format!(" {conversation} · {us} · {dialect} · "), Hue::Bar), span(text, hue)]
    }

    fn message(&mut self, message: Message, now: Time) {
        // Our own words are on the screen already; those of our other devices are not.
        if let Some(local_id) = &message.local_id {
            if let Some(shown) = self.own(local_id) {
                shown.id = Some(message.id);
            }
            return;
        }
        let is_own = message.from == self.place.user;
        if !is_own {
            self.roster.typing(&message.from, false);
            if !message.queued && message.at.is_none_or(|at| now.since(at).as_secs() < 35) {
                self.roster.heard_from(&message.from);
            }
        }
        if !self.users.contains(&message.from) && self.users.len() < KEPT {
            self.users.push(message.from.clone());
        }
        let here = message.conversation == self.place.conversation;
        self.push(Entry::Message(Shown {
            at: message.at.unwrap_or(now),
            id: Some(message.id.clone()),
            elsewhere: (!here).then(|| clean(&message.conversation, false)),
            from: message.from.clone(),
            body: clean(&message.body, true),
            own: None,
            unseen: (!is_own).then(|| Box::new(message)),
        }));
    }

    fn advance(&mut self, id: &str, next: MessageState) {
        if let Some((_, state)) = self.own(id).and_then(|shown| shown.own.as_mut()) {
            state.advance(next);
        }
    }

    fn own(&mut self, id: &str) -> Option<&mut Shown> {
        self.entries.iter_mut().rev().find_map(|entry| match entry {
            Entry::Message(shown) if shown.own.as_ref().is_some_and(|(own, _)| own == id) => Some(shown),
            _ => None,
        })
    }

    fn push(&mut self, entry: Entry) {
        if self.scrolled > 0 {
            // Who reads what is further up goes on seeing it.
            self.scrolled += self.lines_of(&entry).len();
        }
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The time of day, where the terminal is.
    fn clock(&self, at: Time) -> String {
        let stamp = i64::try_from(at.millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let local = stamp.unwrap_or_default().to_zoned(self.place.zone.clone());
        format!("{:02}:{:02}", local.hour(), local.minute())
    }
}

fn tick(state: MessageState) -> Option<(&'static str, Hue)> {
    match state {
        MessageState::LocalQueued | MessageState::SocketSent => None,
        MessageState::ServerAcked => Some(("✓", Hue::Faint)),
        MessageState::Delivered => Some(("✓✓", Hue::Faint)),
        MessageState::Read => Some(("✓✓", Hue::Good)),
        MessageState::Failed => Some(("✗", Hue::Bad)),
    }
}

/// The beginning of a text, to name it by.
fn quoted(body: &str) -> String {
    const CHARS: usize = 24;
    let line = body.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(CHARS).collect();
    let more = if cut.len() < body.len() { "…" } else { "" };
    format!("“{cut}{more}”")
}

/// Fills a bar to the width of the screen.
fn bar(line: Line, columns: usize) -> Line {
    let mut room = columns;
    let mut filled = Line::new();
    for part in line {
        let text = cut(&part.text, room);
        room -= width(text);
        filled.push(span(text, part.hue));
    }
    filled.push(span(" ".repeat(room), Hue::Bar));
    filled
}

/// A line without its colours.
#[cfg(test)]
pub fn plain(line: &Line) -> String {
    line.iter().map(|span| span.text.as_str()).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
