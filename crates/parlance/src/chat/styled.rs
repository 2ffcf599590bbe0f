//! Text with colours, cut to the width of a terminal. Pure: knows nothing of how a terminal is steered.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// What a piece of text is, not which colour that has: that is the terminal's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hue {
    /// As the terminal has it.
    #[default]
    Plain,
    /// One of the colours users are told apart by.
    User(usize),
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Of little importance.
    Faint,
    /// The bars above and below the messages.
    Bar,
}

/// A piece of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub text: String,
    pub hue: Hue,
}

/// A line, not wider than the screen.
pub type Line = Vec<Span>;

/// A span of a hue.
pub fn span(text: impl Into<String>, hue: Hue) -> Span {
    Span { text: text.into(), hue }
}

/// How many columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Text without control characters, so that nobody steers our terminal; line breaks stay if asked for.
pub fn clean(text: &str, keep_breaks: bool) -> String {
    let text = text.replace("\r\n", "\n");
    let keep = |c: char| !is_control(c) || (keep_breaks && c == '\n');
    text.chars().map(|c| if keep(c) { c } else { ' ' }).collect()
}

/// Control characters, and those that turn the direction of what follows.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text from its start that fits into `columns`.
pub fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        used += width(grapheme);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// Breaks spans into lines of `columns`, at spaces where there are any; every line but the first is indented.
pub fn wrap(spans: &[Span], columns: usize, indent: usize) -> Vec<Line> {
    let columns = columns.max(1);
    let indent = if indent + 8 > columns { 0 } else { indent };
    let mut wrapping = Wrapping { columns, indent, lines: vec![Vec::new()], used: 0, is_empty: true };
    for part in spans {
        for piece in part.text.split_inclusive('\n') {
            let text = piece.strip_suffix('\n').unwrap_or(piece);
            words(text).for_each(|word| wrapping.word(word, part.hue));
            if text.len() < piece.len() {
                wrapping.line_break();
            }
        }
    }
    wrapping.lines
}

/// Runs of spaces and of anything else, in turn.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let blank = rest.starts_with(' ');
        let end = rest.find(|c: char| (c == ' ') != blank).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

struct Wrapping {
    columns: usize,
    indent: usize,
    lines: Vec<Line>,
    used: usize,
    /// Nothing but the indent is on the last line.
    is_empty: bool,
}

impl Wrapping {
    fn word(&mut self, word: &str, hue: Hue) {
        if self.used + width(word) > self.columns {
            if word.trim().is_empty() {
                // A space that does not fit is what the line breaks at.
                return;
            }
            if !self.is_empty && self.indent + width(word) <= self.columns {
                self.line_break();
            }
        } else if word.trim().is_empty() && self.is_empty && self.lines.len() > 1 {
            return;
        }
        for grapheme in word.graphemes(true) {
            let wide = width(grapheme);
            if self.used + wide > self.columns && !self.is_empty {
                self.line_break();
            }
            self.push(grapheme, hue);
            self.used += wide;
            self.is_empty = false;
        }
    }

    fn line_break(&mut self) {
        let indent = (self.indent > 0).then(|| span(" ".repeat(self.indent), Hue::Plain));
        self.lines.push(indent.into_iter().collect());
        self.used = self.indent;
        self.is_empty = true;
    }

    fn push(&mut self, text: &str, hue: Hue) {
        let Some(line) = self.lines.last_mut() else { return };
        match line.last_mut() {
            Some(last) if last.hue == hue => last.text.push_str(text),
            _ => line.push(span(text, hue)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::view::plain;

    fn wrapped(text: &str, columns: usize, indent: usize) -> Vec<String> {
        wrap(&[span(text, Hue::Plain)], columns, indent).iter().map(plain).collect()
    }

    #[test]
    fn lines_break_at_spaces_and_are_indented() {
        assert_eq!(wrapped("12:00 the quick brown fox", 16, 6), ["12:00 the quick ", "      brown fox"]);
        assert_eq!(wrapped("short", 16, 6), ["short"]);
        assert_eq!(wrapped("", 16, 6), [""]);
    }

    #[test]
    fn a_word_that_is_too_long_is_cut() {
        assert_eq!(wrapped("abcdefghij", 4, 0), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("x abcdefghij", 4, 0), ["x ab", "cdef", "ghij"]);
    }

    #[test]
    fn wide_characters_take_two_columns_and_are_not_torn() {
        assert_eq!(wrapped("日本語", 5, 0), ["日本", "語"]);
        assert_eq!(wrapped("ab👨‍👩‍👧cd", 4, 0), ["ab👨‍👩‍👧", "cd"]);
        for columns in 1..20 {
            for line in wrapped("a 日本語 is written 👍🏽 here", columns, 0) {
                assert!(width(&line) <= columns.max(2), "{line:?} in {columns}");
            }
        }
    }

    #[test]
    fn line_breaks_are_kept() {
        assert_eq!(wrapped("one\n\ntwo", 10, 0), ["one", "", "two"]);
    }

    #[test]
    fn cutting_and_cleaning() {
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(clean("a\u{1b}[2J\r\nb\u{202e}c", true), "a [2J\nb c");
        assert_eq!(clean("a\nb", false), "a b");
    }
}
