//! The full-screen client without its terminal: what keys and news do. Pure: events in, actions and lines out.
//!
//! Owns: the input line and the view, and what ties them together. Must not know: the terminal or the client.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind};
use parlance_client::{Dialect, Message, Status, Time, Update};

use super::commands::{Command, HELP, parse};
use super::editor::{Edited, Editor};
use super::styled::{Hue, Line, span};
use super::view::{Place, View};

const PROMPT: &str = "> ";

/// What is to be done with the client.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Send(String),
    Typing,
    TypingStopped,
    Status(Status),
    /// To a message, by its id.
    React {
        message: String,
        kind: String,
        on: bool,
    },
    /// These were read.
    Read(Vec<Message>),
    Quit,
}

/// See the module.
#[derive(Debug)]
pub struct App {
    pub view: View,
    editor: Editor,
    dialect: Dialect,
}

/// A screenful.
#[derive(Debug)]
pub struct Frame {
    pub lines: Vec<Line>,
    /// Of the last line.
    pub cursor_column: usize,
}

impl App {
    /// Before anything was heard or typed.
    pub fn new(place: Place, dialect: Dialect) -> Self {
        Self { view: View::new(place), editor: Editor::default(), dialect }
    }

    /// Takes in what the client tells.
    pub fn update(&mut self, update: Update, now: Time) {
        self.view.update(update, now);
    }

    /// Handles what the terminal tells.
    pub fn event(&mut self, event: &Event, now: Time) -> Option<Action> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key, now),
            Event::Paste(text) => {
                let edited = self.editor.paste(text);
                self.edited(edited, now)
            }
            Event::Mouse(mouse) => {
                match mouse.kind {
                    MouseEventKind::ScrollUp => self.view.scroll(3),
                    MouseEventKind::ScrollDown => self.view.scroll(-3),
                    _ => {}
                }
                None
            }
            _ => None,
        }
    }

    /// A message that could not be taken goes back to the input line.
    pub fn not_sent(&mut self, body: String, why: &str, now: Time) {
        self.view.notice(why, true, now);
        if self.editor.text().is_empty() {
            self.editor.restore(body);
        }
    }

    /// Draws everything into so many columns and rows.
    pub fn render(&mut self, columns: usize, rows: usize) -> Frame {
        let mut lines = self.view.render(columns, rows.saturating_sub(1));
        let prompt = if columns > 10 { PROMPT } else { "" };
        let (text, cursor) = self.editor.visible(columns - prompt.len());
        if rows > 0 {
            lines.push(vec![span(prompt, Hue::Faint), span(text, Hue::Plain)]);
        }
        Frame { lines, cursor_column: prompt.len() + cursor }
    }

    fn key(&mut self, key: &KeyEvent, now: Time) -> Option<Action> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Some(Action::Quit),
            KeyCode::PageUp => self.view.scroll_pages(1),
            KeyCode::PageDown => self.view.scroll_pages(-1),
            KeyCode::Esc => self.view.scroll_to_end(),
            _ => {
                let edited = self.editor.key(key);
                return self.edited(edited, now);
            }
        }
        None
    }

    fn edited(&mut self, edited: Edited, now: Time) -> Option<Action> {
        match edited {
            Edited::Nothing => None,
            Edited::Text if self.editor.text().is_empty() => Some(Action::TypingStopped),
            // Nobody needs to know that a command is being typed.
            Edited::Text if matches!(parse(self.editor.text()), Command::Say(_)) => Some(Action::Typing),
            Edited::Text => Some(Action::TypingStopped),
            Edited::Line(line) => self.command(parse(&line), now),
        }
    }

    fn command(&mut self, command: Command, now: Time) -> Option<Action> {
        let told = match command {
            Command::Say(body) => return Some(Action::Send(body)),
            Command::Quit => return Some(Action::Quit),
            Command::Read => {
                self.view.see_all();
                let seen = self.view.take_seen();
                self.view.notice("everything is marked as read", false, now);
                return Some(Action::Read(seen));
            }
            Command::Status(status) => {
                self.view.set_status(status);
                if self.dialect != Dialect::Socialhub && status != Status::Online {
                    let dialect = self.dialect.as_str();
                    self.view.notice(
                        &format!("{dialect} says at most online or offline: others see no change"),
                        false,
                        now,
                    );
                }
                return Some(Action::Status(status));
            }
            Command::React(kind, on) => match self.view.last_heard() {
                _ if self.dialect != Dialect::Chatgenius => {
                    format!("{} has no reactions", self.dialect.as_str())
                }
                Some(message) => {
                    let message = message.to_owned();
                    return Some(Action::React { message, kind, on });
                }
                None => "there is no message yet to react to".to_owned(),
            },
            Command::Who => self.view.who(),
            Command::History(count) => self.view.history(count),
            Command::Help => HELP.to_owned(),
            Command::Unknown(line) => {
                self.view.notice(&format!("no such command: {line} (see /help)"), true, now);
                return None;
            }
        };
        self.view.scroll_to_end();
        self.view.notice(&told, false, now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::view::plain;
    use jiff::tz::TimeZone;

    const NOW: Time = Time::from_millis(0);

    fn app(dialect: Dialect) -> App {
        let place = Place {
            user: "alice".into(),
            conversation: "demo".into(),
            dialect: dialect.as_str(),
            zone: TimeZone::UTC,
        };
        App::new(place, dialect)
    }

    fn press(app: &mut App, code: KeyCode, modifiers: KeyModifiers) -> Option<Action> {
        app.event(&Event::Key(KeyEvent::new(code, modifiers)), NOW)
    }

    /// Types a line and presses Enter; what came of the last letter and of Enter.
    fn line(app: &mut App, text: &str) -> (Option<Action>, Option<Action>) {
        let mut last = None;
        for c in text.chars() {
            last = press(app, KeyCode::Char(c), KeyModifiers::NONE);
        }
        (last, press(app, KeyCode::Enter, KeyModifiers::NONE))
    }

    fn screen(app: &mut App) -> String {
        app.render(60, 16).lines.iter().map(|line| plain(line) + "\n").collect()
    }

    #[test]
    fn typing_is_told_and_a_line_is_sent() {
        let mut app = app(Dialect::Sechat);
        let (typing, sent) = line(&mut app, "hi");
        assert_eq!((typing, sent), (Some(Action::Typing), Some(Action::Send("hi".into()))));
        press(&mut app, KeyCode::Char('x'), KeyModifiers::NONE);
        let emptied = press(&mut app, KeyCode::Backspace, KeyModifiers::NONE);
        assert_eq!(emptied, Some(Action::TypingStopped));
        assert_eq!(app.event(&Event::Paste("some text".into()), NOW), Some(Action::Typing));
        let frame = app.render(60, 5);
        assert_eq!((plain(&frame.lines[4]).as_str(), frame.cursor_column), ("> some text", 11));
    }

    #[test]
    fn commands_are_not_typing_and_are_done() {
        let mut app = app(Dialect::Socialhub);
        assert_eq!(
            line(&mut app, "/away"),
            (Some(Action::TypingStopped), Some(Action::Status(Status::Away)))
        );
        assert_eq!(line(&mut app, "/read").1, Some(Action::Read(Vec::new())));
        assert_eq!(line(&mut app, "/quit").1, Some(Action::Quit));
        for (command, shown) in [
            ("/who", "alice (you): away"),
            ("/history", "0 of 0 messages"),
            ("/help", "PgUp PgDn"),
            ("/dance", "no such command: /dance"),
        ] {
            assert_eq!(line(&mut app, command).1, None);
            let screen = screen(&mut app);
            assert!(screen.contains(shown), "{command}: {screen}");
        }
    }

    #[test]
    fn a_dialect_without_a_word_for_it_says_so() {
        let mut app = app(Dialect::Sechat);
        line(&mut app, "/busy");
        assert!(screen(&mut app).contains("sechat says at most"));
        line(&mut app, "/react 👍");
        assert!(screen(&mut app).contains("sechat has no reactions"));
    }

    #[test]
    fn a_reaction_is_to_the_last_message() {
        let mut app = app(Dialect::Chatgenius);
        assert_eq!(line(&mut app, "/react 👍").1, None);
        assert!(screen(&mut app).contains("no message yet"));
        for id in ["m1", "m2"] {
            app.update(heard(id), NOW);
        }
        let reacted = |on| Action::React { message: "m2".into(), kind: "👍".into(), on };
        assert_eq!(line(&mut app, "/react 👍").1, Some(reacted(true)));
        assert_eq!(line(&mut app, "/unreact 👍").1, Some(reacted(false)));
        app.update(
            Update::Reaction { message: "m1".into(), kind: "🎉".into(), user: "bob".into(), on: true },
            NOW,
        );
        assert!(screen(&mut app).contains("bob reacted 🎉 to “text of m1”"));
    }

    fn heard(id: &str) -> Update {
        Update::Message(Message {
            conversation: "demo".into(),
            id: id.into(),
            client_id: None,
            from: "bob".into(),
            body: format!("text of {id}"),
            at: None,
            queued: false,
            seq: None,
            local_id: None,
            metadata: None,
        })
    }

    #[test]
    fn control_c_and_d_leave() {
        let mut app = app(Dialect::Sechat);
        for c in ['c', 'd'] {
            assert_eq!(press(&mut app, KeyCode::Char(c), KeyModifiers::CONTROL), Some(Action::Quit));
        }
    }

    #[test]
    fn what_was_not_sent_can_be_sent_again() {
        let mut app = app(Dialect::Sechat);
        app.not_sent("hello".into(), "too many messages wait to be sent", NOW);
        assert!(screen(&mut app).contains("too many messages"));
        assert_eq!(line(&mut app, "!").1, Some(Action::Send("hello!".into())));
    }

    #[test]
    fn no_size_is_too_small() {
        let mut app = app(Dialect::Sechat);
        app.event(&Event::Paste("日本語".into()), NOW);
        for columns in 0..20 {
            for rows in 0..8 {
                let frame = app.render(columns, rows);
                assert_eq!(frame.lines.len(), rows);
                assert!(frame.cursor_column <= columns);
            }
        }
    }
}
