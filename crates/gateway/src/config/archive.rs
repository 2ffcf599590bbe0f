//! Keeping what happened in PostgreSQL.

use std::fmt;
use std::path::PathBuf;

use parlance_backplane::trail::Kinds;
use serde::{Deserialize, Serialize};

use super::keeping::{ArchiveRule, check_days};
use super::validate::{Checked, not_zero, refuse};

/// Keeping what happened in PostgreSQL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// Where it is; absent: nowhere.
    pub url: Option<String>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// Whether this node writes to it, or leaves that to others.
    pub run: bool,
    /// Steps in a transaction at most.
    pub batch: usize,
    /// Days that messages are kept there; 0: for ever.
    pub days: u64,
    /// Days after which a deleted conversation goes; 0: as if it had not been deleted.
    pub deleted_days: u64,
    /// Other days for some conversations; the first that is about one counts.
    pub retention: Vec<ArchiveRule>,
    /// Whether logs are read on there where they were trimmed.
    pub read: bool,
    /// Connections that read at most.
    pub read_connections: usize,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            run: true,
            batch: 500,
            days: 0,
            deleted_days: 0,
            retention: Vec::new(),
            read: true,
            read_connections: 4,
        }
    }
}

impl Archive {
    /// The name that it consumes under.
    pub const GROUP: &'static str = "archive";

    /// What has to be written down for it: also at a node that leaves the writing to others.
    pub fn kinds(&self) -> Kinds {
        let wanted = self.url.is_some();
        Kinds { entries: wanted, cursors: wanted, ..Kinds::default() }
    }

    /// What is behind the address is checked by whoever connects there.
    pub(super) fn validate(&self) -> Checked {
        let Some(url) = &self.url else { return Ok(()) };
        if !["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme)) {
            return refuse("archive.url: expected postgresql://user:password@host:port/database");
        }
        if self.batch > 10_000 {
            return refuse("archive.batch: at most 10000");
        }
        check_days("archive.days", self.days)?;
        check_days("archive.deleted_days", self.deleted_days)?;
        self.retention.iter().try_for_each(ArchiveRule::validate)?;
        if self.read_connections > 100 {
            return refuse("archive.read_connections: at most 100");
        }
        let counts = [("batch", self.batch as u64), ("read_connections", self.read_connections as u64)];
        not_zero("archive", &counts)
    }
}

/// The address with `mask` in place of the password; one that cannot be read, without all of it.
pub(super) fn without_password(address: &str, mask: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else { return mask.to_owned() };
    let asked = url.query().is_some_and(|query| query.contains("password"));
    let hidden = url.password().is_none() || url.set_password(Some(mask)).is_ok();
    if asked || !hidden { mask.to_owned() } else { url.into() }
}

/// Never shows the address: it may hold a password.
impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Archive");
        shown.field("run", &self.run).field("batch", &self.batch).field("read", &self.read);
        shown.field("read_connections", &self.read_connections).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let shown = |url| without_password(url, "***");
        assert_eq!(shown("postgresql://me:hush@db:1/chat"), "postgresql://me:***@db:1/chat");
        assert_eq!(shown("postgresql://me@db/chat"), "postgresql://me@db/chat");
        assert_eq!(shown("postgresql://db/chat?user=me&password=hush"), "***");
        assert_eq!(shown("postgresql://me:hush@a:1,b:2/chat"), "***");
        let archive = Archive { url: Some("postgresql://me:hush@db/chat".to_owned()), ..Archive::default() };
        assert!(!format!("{archive:?}").contains("hush"));
        assert!(archive.validate().is_ok() && !archive.kinds().is_empty());
        let other = Archive { url: Some("mysql://hush@db".to_owned()), ..Archive::default() };
        let line = other.validate().unwrap_err().0;
        assert!(line.starts_with("archive.url") && !line.contains("hush"), "{line}");
        assert!(Archive::default().kinds().is_empty());
    }
}
