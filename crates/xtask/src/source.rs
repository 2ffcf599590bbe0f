//! Measures Rust source files: which lines are tests, and how long functions are.
//!
//! Owns: a reading of Rust that is just good enough to count by (comments, strings, braces). Must not know:
//! which limits the project sets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::chores::LONGEST_FUNCTION;

/// A source file of the workspace.
pub struct Source {
    /// Its path below the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// Lines outside tests.
    pub code: usize,
    /// Lines of tests.
    pub tests: usize,
    /// Functions with a body, outside tests.
    pub functions: usize,
    /// Functions, outside tests, that are too long.
    pub long: usize,
}

impl Measures {
    /// Adds another file's counts.
    pub fn add(&mut self, other: &Self) {
        self.code += other.code;
        self.tests += other.tests;
        self.functions += other.functions;
        self.long += other.long;
    }
}

/// Every `.rs` file of the workspace members, sorted.
///
/// # Errors
/// When a folder cannot be read.
pub fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("bench"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target" && name != "node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(root: &Path, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        Ok(Self { path, text })
    }

    /// The folder of the workspace member the file belongs to.
    pub fn member(&self) -> &str {
        let parts = if self.path.starts_with("crates/") { 2 } else { 1 };
        self.path.match_indices('/').nth(parts - 1).map_or(self.path.as_str(), |(end, _)| &self.path[..end])
    }

    /// Whether the whole file is tests: it lies in a `tests` or `benches` folder, or is a module named `tests`.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
    }

    /// How many lines come before the `#[cfg(test)]` module that closes the file.
    pub fn lines_without_tests(&self) -> usize {
        if self.is_test() { 0 } else { self.code_lines().len() }
    }

    /// Counts lines and functions.
    pub fn measure(&self) -> Measures {
        let all = self.text.lines().count();
        let code = self.lines_without_tests();
        let functions = if code == 0 { Vec::new() } else { function_lengths(&self.code_lines().join("\n")) };
        let long = functions.iter().filter(|length| **length > LONGEST_FUNCTION).count();
        Measures { code, tests: all - code, functions: functions.len(), long }
    }

    fn code_lines(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_module = |line: &&str| line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{');
        let start = (0..lines.len()).find(|&at| {
            lines[at].trim() == "#[cfg(test)]"
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.trim_start().starts_with("#["))
                    .is_some_and(is_module)
        });
        lines[..start.unwrap_or(lines.len())].to_vec()
    }
}

/// The lengths of all function bodies in lines of code: blank lines and comments do not count.
pub fn function_lengths(text: &str) -> Vec<usize> {
    let text = blank(text);
    let mut lengths = Vec::new();
    for (at, _) in text.match_indices("fn ") {
        let before = text[..at].chars().next_back();
        let named = text[at + 3..].starts_with(|c: char| c.is_alphabetic() || c == '_');
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || !named {
            continue;
        }
        if let Some(body) = body(&text[at..]) {
            lengths.push(body.lines().filter(|line| !line.trim().is_empty()).count().saturating_sub(2));
        }
    }
    lengths
}

/// The text from a function's opening brace to its closing one; `None` when it has no body.
fn body(text: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut brackets = 0usize;
    let mut start = None;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => {
                start = start.or(Some(at));
                depth += 1;
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return text.get(start?..=at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces comments, and what stands in strings and character literals, by blanks; lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, keep) = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => (line_end(&chars, at), ' '),
            '/' if chars.get(at + 1) == Some(&'*') => (block_end(&chars, at), ' '),
            '"' => (string_end(&chars, at), '"'),
            'r' if raw_hashes(&chars, at).is_some() => (raw_end(&chars, at), '"'),
            '\'' => (character_end(&chars, at), '\''),
            c => {
                out.push(c);
                at += 1;
                continue;
            }
        };
        out.push(keep);
        out.extend(chars[at + 1..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |length| at + length)
}

fn block_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0usize;
    let mut here = at;
    while here + 1 < chars.len() {
        match (chars[here], chars[here + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') if depth == 1 => return here + 2,
            ('*', '/') => depth -= 1,
            _ => {
                here += 1;
                continue;
            }
        }
        here += 2;
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut here = at + 1;
    while here < chars.len() {
        match chars[here] {
            '\\' => here += 2,
            '"' => return here + 1,
            _ => here += 1,
        }
    }
    chars.len()
}

/// How many `#` open the raw string at `at`; `None` when there is none.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b';
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (!in_word && chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).unwrap_or(0);
    let mut here = at + hashes + 2;
    while here < chars.len() {
        let closes = chars[here] == '"'
            && chars.len() - here > hashes
            && chars[here + 1..=here + hashes].iter().all(|c| *c == '#');
        if closes {
            return here + hashes + 1;
        }
        here += 1;
    }
    chars.len()
}

/// The end of a character literal; a lifetime is passed over by its quote alone.
fn character_end(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars[(at + 3).min(chars.len())..].iter().position(|c| *c == '\'');
        return close.map_or(chars.len(), |length| at + 3 + length + 1);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use super::{Measures, Source, function_lengths};

    #[test]
    fn braces_in_strings_comments_and_literals_do_not_count() {
        let text = r##"
fn one<'a>(x: &'a str) -> usize {
    let _ = ("}", r#"}"}"#, '}', '\'', b'{'); // }
    /* } /* } */ */

    1
}
trait T { fn none(&self) -> [u8; 2]; fn two() { a(); } }
const F: fn (u8) = f;
"##;
        assert_eq!(function_lengths(text), [2, 0]);
    }

    #[test]
    fn the_closing_test_module_is_not_code() {
        let text =
            "//! Doc.\nfn a() {\n}\n#[cfg(test)]\nuse x;\n\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n}\n";
        let source = Source { path: "crates/wire/src/a.rs".to_owned(), text: text.to_owned() };
        assert_eq!(source.lines_without_tests(), 6);
        assert_eq!(source.measure(), Measures { code: 6, tests: 4, functions: 1, long: 0 });
        assert_eq!(source.member(), "crates/wire");
        let outside = Source { path: "tests/src/lib.rs".to_owned(), text: text.to_owned() };
        assert!(outside.is_test());
        assert_eq!(outside.member(), "tests");
    }

    #[test]
    fn a_function_of_more_than_sixty_lines_is_long() {
        let of = |lines: usize| format!("fn f() {{\n{}}}\n", "    a();\n".repeat(lines));
        let measure = |text: String| Source { path: "bench/src/a.rs".to_owned(), text }.measure().long;
        assert_eq!(measure(of(60)), 0);
        assert_eq!(measure(of(61)), 1);
    }
}
