//! Where a text is markup: what HTML's own tokenizer takes for anything but text.
//!
//! Owns: the spans of tags, comments and doctypes, and of scripts and styles with all they contain. Must not
//! know: what is done about them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use html5gum::{Emitter, Error, State, Tokenizer};

/// The length of `</>`, which is neither a tag nor text.
const NAMELESS: usize = 3;

/// The markup in a text, in order. `None` if what the tokenizer says cannot be right.
///
/// Elements whose content is text for a browser (`textarea`, `title`, `xmp`, …) are tags like any other here:
/// once they are gone, their content would be markup. Scripts and styles end where a browser says so.
pub(super) fn spans(text: &str) -> Option<Vec<Range<usize>>> {
    // A tokenizer reads CR LF as one character, which would shift everything behind it.
    let plain = if text.contains('\r') { Cow::Owned(text.replace('\r', "\n")) } else { Cow::Borrowed(text) };
    let finder = Finder { length: text.len(), ..Finder::default() };
    let found: Vec<_> = Tokenizer::new_with_emitter(&*plain, finder).collect::<Result<_, _>>().ok()?;
    let in_order = found.windows(2).all(|pair| matches!(pair, [a, b] if a.end <= b.start));
    let is_markup = |span: &Range<usize>| text.get(span.clone()).is_some_and(|s| s.starts_with('<'));
    (in_order && found.iter().all(is_markup)).then_some(found)
}

/// Listens to the tokenizer: notes where markup begins and ends, and forgets what it says.
#[derive(Default)]
struct Finder {
    length: usize,
    /// Behind the last byte read.
    position: usize,
    /// The last `<`.
    opened: usize,
    /// The text ends inside a tag.
    unfinished: bool,
    /// The current tag's name in lower case, and whether the tag is an end tag.
    name: Vec<u8>,
    is_end: bool,
    /// The script or style that is open: its name, and where it began.
    inside: Option<(Vec<u8>, usize)>,
    found: VecDeque<Range<usize>>,
}

impl Finder {
    fn found(&mut self) {
        self.found.push_back(self.opened..self.position);
    }

    fn tag(&mut self) -> Option<State> {
        if let Some((_, start)) = self.inside.take() {
            self.found.push_back(start..self.position);
            return None;
        }
        let state = match &*self.name {
            b"script" if !self.is_end => State::ScriptData,
            b"style" if !self.is_end => State::RawText,
            _ => {
                self.found();
                return None;
            }
        };
        self.inside = Some((std::mem::take(&mut self.name), self.opened));
        Some(state)
    }
}

impl Emitter for Finder {
    type Token = Range<usize>;

    fn move_position(&mut self, offset: isize) {
        self.position = self.position.saturating_add_signed(offset);
    }

    fn start_open_tag(&mut self) {
        self.opened = self.position.saturating_sub(1);
    }

    fn init_start_tag(&mut self) {
        self.name.clear();
        self.is_end = false;
    }

    fn init_end_tag(&mut self) {
        self.name.clear();
        self.is_end = true;
    }

    fn push_tag_name(&mut self, name: &[u8]) {
        self.name.extend_from_slice(name);
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        self.tag()
    }

    fn emit_current_comment(&mut self) {
        self.found();
    }

    fn emit_current_doctype(&mut self) {
        self.found();
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.is_end && self.inside.as_ref().is_some_and(|(name, _)| *name == self.name)
    }

    fn emit_error(&mut self, error: Error) {
        match error {
            Error::EofInTag => self.unfinished = true,
            Error::MissingEndTagName => self.found.push_back(self.opened..self.opened + NAMELESS),
            _ => {}
        }
    }

    fn emit_eof(&mut self) {
        let open = self.inside.take().map(|(_, start)| start);
        if let Some(start) = open.or(self.unfinished.then_some(self.opened)) {
            self.found.push_back(start..self.length);
        }
    }

    fn pop_token(&mut self) -> Option<Range<usize>> {
        self.found.pop_front()
    }

    fn set_last_start_tag(&mut self, _: Option<&[u8]>) {}
    fn emit_string(&mut self, _: &[u8]) {}
    fn init_comment(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn init_attribute(&mut self) {}
    fn push_attribute_name(&mut self, _: &[u8]) {}
    fn push_attribute_value(&mut self, _: &[u8]) {}
    fn set_self_closing(&mut self) {}
    fn set_force_quirks(&mut self) {}
    fn init_doctype(&mut self) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
}
