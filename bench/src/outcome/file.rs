//! Outcomes in files.
//!
//! Owns: reading and writing them. Must not know: what is in them, but for the version.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Outcome, VERSION};

/// Reads an outcome.
///
/// # Errors
/// When the file cannot be read, is none, or is of another version.
pub fn read(path: &Path) -> Result<Outcome> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is not an outcome of this program", path.display()))
}

fn parse(text: &[u8]) -> Result<Outcome> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // Read on its own first: another version's fields would only be reported as missing.
    let Versioned { version } = serde_json::from_slice(text)?;
    ensure!(version == VERSION, "it is of version {version}, and this program reads version {VERSION}");
    Ok(serde_json::from_slice(text)?)
}

/// Writes an outcome, one field a line.
///
/// # Errors
/// When the file cannot be written.
pub fn write(outcome: &Outcome, path: &Path) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(outcome)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{parse, read, write};
    use crate::outcome::sample;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let outcome = sample::outcome();
        write(&outcome, &path).unwrap();
        assert_eq!(read(&path).unwrap(), outcome);
    }

    #[test]
    fn another_version_is_named() {
        let error = parse(br#"{"version":7}"#).unwrap_err();
        assert!(error.to_string().contains("version 7"), "{error}");
        assert!(parse(b"{}").is_err());
    }
}
