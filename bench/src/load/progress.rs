//! A line on a terminal that says how far a run is.
//!
//! Must not know: what is done.

use std::io::{IsTerminal, Write, stderr};

const WIDE: usize = 24;

/// Says how far a run is; silent where nobody reads it.
#[derive(Debug, Clone)]
pub struct Progress {
    on: bool,
}

impl Progress {
    /// Silent when `quiet`, or when stderr is no terminal.
    pub fn new(quiet: bool) -> Self {
        Self { on: !quiet && stderr().is_terminal() }
    }

    /// Shows a bar for `done` of `all`, and a text behind it.
    pub fn show(&self, what: &str, done: f64, text: &str) {
        if self.on {
            let filled = ((done.clamp(0.0, 1.0) * WIDE as f64) as usize).min(WIDE);
            let bar: String = "█".repeat(filled) + &"░".repeat(WIDE - filled);
            // A terminal that is gone stops nothing.
            let _ = write!(stderr().lock(), "\r\x1b[2K{what:<10} {bar} {text}");
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.on {
            let _ = write!(stderr().lock(), "\r\x1b[2K");
        }
    }
}
