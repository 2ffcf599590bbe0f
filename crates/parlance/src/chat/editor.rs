//! The input line: text, cursor and what was typed before. Pure: keys in, changes out.
//!
//! Owns: editing. Must not know: what becomes of the text.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::styled::{clean, cut, width};

/// Lines remembered.
const MEMORY: usize = 200;
/// Bytes a line may have; the gateway takes no larger message either.
const LARGEST: usize = 64 * 1024;

/// What a key did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Edited {
    /// The text is another.
    Text,
    /// Only the cursor has moved, or nothing has.
    Nothing,
    /// The line is finished; the editor is empty.
    Line(String),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Editor {
    text: String,
    /// A byte offset, always between two graphemes.
    cursor: usize,
    earlier: Vec<String>,
    /// Which of the earlier lines is shown.
    browsing: Option<usize>,
    /// What was being typed when browsing began.
    draft: String,
}

impl Editor {
    /// The text as it stands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts a line back that could not be used.
    pub fn restore(&mut self, text: String) {
        self.replace(text);
    }

    /// Inserts what was pasted.
    pub fn paste(&mut self, text: &str) -> Edited {
        self.insert(&clean(&text.replace("\r\n", "\n").replace('\r', "\n"), true))
    }

    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Edited {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char(c) if control => return self.control(c),
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::ALT) => {
                return self.insert(c.encode_utf8(&mut [0; 4]));
            }
            KeyCode::Enter if key.modifiers.contains(KeyModifiers::ALT) => return self.insert("\n"),
            KeyCode::Enter => return self.finish(),
            KeyCode::Backspace => return self.remove(self.before(), self.cursor),
            KeyCode::Delete => return self.remove(self.cursor, self.after()),
            KeyCode::Left if control => self.cursor = self.word_before(),
            KeyCode::Right if control => self.cursor = self.word_after(),
            KeyCode::Left => self.cursor = self.before(),
            KeyCode::Right => self.cursor = self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Up => return self.browse(true),
            KeyCode::Down => return self.browse(false),
            _ => {}
        }
        Edited::Nothing
    }

    /// What of the text fits into `columns`, and the column of the cursor in it.
    pub fn visible(&self, columns: usize) -> (String, usize) {
        let shown = |text: &str| text.replace('\n', "↵");
        // The cursor has a column too, also behind the last character.
        let room = columns.saturating_sub(1);
        let before = shown(&self.text[..self.cursor]);
        let mut rest = before.as_str();
        while width(rest) > room {
            let step = rest.graphemes(true).next().map_or(rest.len(), str::len);
            rest = &rest[step..];
        }
        let line = format!("{rest}{}", shown(&self.text[self.cursor..]));
        (cut(&line, columns).to_owned(), width(rest))
    }

    fn control(&mut self, c: char) -> Edited {
        match c {
            'a' => self.cursor = 0,
            'e' => self.cursor = self.text.len(),
            'b' => self.cursor = self.before(),
            'f' => self.cursor = self.after(),
            'h' => return self.remove(self.before(), self.cursor),
            'u' => return self.remove(0, self.cursor),
            'k' => return self.remove(self.cursor, self.text.len()),
            'w' => return self.remove(self.word_before(), self.cursor),
            'j' => return self.insert("\n"),
            'p' => return self.browse(true),
            'n' => return self.browse(false),
            _ => {}
        }
        Edited::Nothing
    }

    fn insert(&mut self, text: &str) -> Edited {
        if text.is_empty() || self.text.len() + text.len() > LARGEST {
            return Edited::Nothing;
        }
        self.text.insert_str(self.cursor, text);
        // What was typed may join what follows, as a combining mark does: stay between graphemes.
        self.cursor = boundary(&self.text, self.cursor + text.len());
        Edited::Text
    }

    fn remove(&mut self, from: usize, to: usize) -> Edited {
        if from == to {
            return Edited::Nothing;
        }
        self.text.replace_range(from..to, "");
        self.cursor = boundary(&self.text, from);
        Edited::Text
    }

    fn replace(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    fn finish(&mut self) -> Edited {
        let line = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.browsing = None;
        if line.trim().is_empty() {
            return Edited::Text;
        }
        if self.earlier.last() != Some(&line) {
            self.earlier.push(line.clone());
        }
        if self.earlier.len() > MEMORY {
            self.earlier.remove(0);
        }
        Edited::Line(line)
    }

    fn browse(&mut self, back: bool) -> Edited {
        let next = match (self.browsing, back) {
            (None, true) => self.earlier.len().checked_sub(1),
            (Some(at), true) => Some(at.saturating_sub(1)),
            (Some(at), false) if at + 1 < self.earlier.len() => Some(at + 1),
            (Some(_), false) => {
                self.browsing = None;
                let draft = std::mem::take(&mut self.draft);
                self.replace(draft);
                return Edited::Nothing;
            }
            (None, false) => None,
        };
        if let Some(at) = next {
            if self.browsing.is_none() {
                self.draft = std::mem::take(&mut self.text);
            }
            self.browsing = Some(at);
            self.replace(self.earlier[at].clone());
        }
        Edited::Nothing
    }

    fn before(&self) -> usize {
        let last = self.text[..self.cursor].grapheme_indices(true).next_back();
        last.map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let next = self.text[self.cursor..].graphemes(true).next();
        self.cursor + next.map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let text = self.text[..self.cursor].trim_end();
        text.rfind(char::is_whitespace)
            .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8))
    }

    fn word_after(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let blank = rest.len() - rest.trim_start().len();
        let word = rest[blank..].find(char::is_whitespace).unwrap_or(rest.len() - blank);
        self.cursor + blank + word
    }
}

/// The first place at or behind `at` that is between two graphemes.
fn boundary(text: &str, at: usize) -> usize {
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    match cursor.is_boundary(text, 0) {
        Ok(false) => cursor.next_boundary(text, 0).ok().flatten().unwrap_or(text.len()),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, code: KeyCode) -> Edited {
        editor.key(&KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn control(editor: &mut Editor, c: char) -> Edited {
        editor.key(&KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
    }

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        for c in text.chars() {
            assert_eq!(press(&mut editor, KeyCode::Char(c)), Edited::Text);
        }
        editor
    }

    #[test]
    fn typing_moving_and_removing() {
        let mut editor = typed("helo");
        press(&mut editor, KeyCode::Left);
        press(&mut editor, KeyCode::Char('l'));
        assert_eq!(editor.text(), "hello");
        press(&mut editor, KeyCode::Home);
        assert_eq!(press(&mut editor, KeyCode::Backspace), Edited::Nothing);
        assert_eq!(press(&mut editor, KeyCode::Delete), Edited::Text);
        press(&mut editor, KeyCode::End);
        press(&mut editor, KeyCode::Backspace);
        assert_eq!(editor.text(), "ell");
        assert_eq!(press(&mut editor, KeyCode::Delete), Edited::Nothing);
    }

    #[test]
    fn a_wide_or_joined_character_is_one_step() {
        let mut editor = typed("a日👨‍👩‍👧e\u{301}");
        assert_eq!(editor.visible(20), ("a日👨‍👩‍👧e\u{301}".to_owned(), 6));
        press(&mut editor, KeyCode::Backspace);
        assert_eq!(editor.text(), "a日👨‍👩‍👧");
        press(&mut editor, KeyCode::Left);
        assert_eq!(editor.visible(20).1, 3);
        press(&mut editor, KeyCode::Left);
        assert_eq!(editor.visible(20).1, 1);
        press(&mut editor, KeyCode::Delete);
        assert_eq!(editor.text(), "a👨‍👩‍👧");
    }

    #[test]
    fn removing_what_stood_between_leaves_the_cursor_between_graphemes() {
        let mut editor = typed("ex\u{301}");
        press(&mut editor, KeyCode::Home);
        press(&mut editor, KeyCode::Right);
        editor.insert("y");
        press(&mut editor, KeyCode::Backspace);
        press(&mut editor, KeyCode::Delete);
        assert_eq!(editor.text(), "e");
        let mut editor = typed("\u{301}");
        press(&mut editor, KeyCode::Home);
        press(&mut editor, KeyCode::Char('e'));
        assert_eq!(editor.cursor, editor.text().len(), "the two became one");
    }

    #[test]
    fn words_and_lines_are_removed_at_once() {
        let mut editor = typed("one two  ");
        control(&mut editor, 'w');
        assert_eq!(editor.text(), "one ");
        control(&mut editor, 'w');
        assert_eq!(editor.text(), "");
        let mut editor = typed("one two");
        editor.key(&KeyEvent::new(KeyCode::Left, KeyModifiers::CONTROL));
        control(&mut editor, 'u');
        assert_eq!(editor.text(), "two");
        editor.key(&KeyEvent::new(KeyCode::Right, KeyModifiers::CONTROL));
        assert_eq!(editor.cursor, 3);
        control(&mut editor, 'a');
        control(&mut editor, 'k');
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn earlier_lines_come_back_and_so_does_the_draft() {
        let mut editor = typed("one");
        assert_eq!(press(&mut editor, KeyCode::Enter), Edited::Line("one".into()));
        assert_eq!(editor.text(), "");
        "two".chars().for_each(|c| drop(press(&mut editor, KeyCode::Char(c))));
        press(&mut editor, KeyCode::Enter);
        "dra".chars().for_each(|c| drop(press(&mut editor, KeyCode::Char(c))));
        for shown in ["two", "one", "one"] {
            press(&mut editor, KeyCode::Up);
            assert_eq!(editor.text(), shown);
        }
        for shown in ["two", "dra", "dra"] {
            press(&mut editor, KeyCode::Down);
            assert_eq!(editor.text(), shown);
        }
        editor = typed("  ");
        assert_eq!(press(&mut editor, KeyCode::Enter), Edited::Text, "blank lines are not sent");
    }

    #[test]
    fn what_is_pasted_keeps_its_lines_and_loses_its_controls() {
        let mut editor = typed("<>");
        press(&mut editor, KeyCode::Left);
        editor.paste("a\r\nb\u{1b}[31m");
        assert_eq!(editor.text(), "<a\nb [31m>");
        assert_eq!(editor.visible(30), ("<a↵b [31m>".to_owned(), 9));
        assert_eq!(editor.paste(&"x".repeat(LARGEST)), Edited::Nothing);
    }

    #[test]
    fn a_long_line_scrolls_so_that_the_cursor_is_seen() {
        let mut editor = typed("0123456789");
        assert_eq!(editor.visible(6), ("56789".to_owned(), 5));
        press(&mut editor, KeyCode::Home);
        assert_eq!(editor.visible(6), ("012345".to_owned(), 0));
        let editor = typed("日本語日本語");
        let (shown, column) = editor.visible(6);
        assert_eq!((shown.as_str(), column), ("本語", 4));
        assert_eq!(editor.visible(0), (String::new(), 0));
    }
}
