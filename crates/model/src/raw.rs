//! JSON carried through unread: client metadata and application payloads.

use std::fmt;
use std::sync::Arc;

/// A JSON value kept as its text, already checked to be well-formed and shallow enough by whoever made it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Arc<str>);

/// Why a text cannot be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RawJsonError {
    /// Arrays and objects nested deeper than allowed.
    #[error("JSON is nested too deeply")]
    TooDeep,
}

impl RawJson {
    /// Wraps the text of one well-formed JSON value, at most `max_depth` containers deep.
    ///
    /// # Errors
    /// [`RawJsonError::TooDeep`] beyond `max_depth`.
    pub fn new(text: &str, max_depth: usize) -> Result<Self, RawJsonError> {
        if depth(text) > max_depth { Err(RawJsonError::TooDeep) } else { Ok(Self(text.into())) }
    }

    /// Wraps text that is known to be a shallow JSON value (made by this program, or read from its log).
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How deep the containers of a JSON text nest; strings are skipped. Never panics, also on garbage.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut max, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                max = max.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    max
}

impl RawJson {
    /// How deep the containers of a JSON text nest (see [`RawJson::new`]).
    pub fn depth_of(text: &str) -> usize {
        depth(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_containers_outside_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth("{\"a\":[1,{}]}"), 3);
        assert_eq!(depth("\"[[[[\\\"[[\""), 0);
        assert_eq!(depth("]]]["), 1);
        assert_eq!(RawJson::new(&"[".repeat(33), 32), Err(RawJsonError::TooDeep));
        assert!(RawJson::new("[[]]", 2).is_ok());
    }
}
