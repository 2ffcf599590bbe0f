//! Publishing what an application wrote down.

use std::fmt;
use std::path::PathBuf;

use parlance_model::is_house_id;
use serde::{Deserialize, Serialize};

use super::redis::SCHEMES;
use super::validate::{Checked, not_zero, refuse};

/// With what is added to it a key may have 128 characters.
const LONGEST_STREAM: usize = 64;

/// Publishing what an application wrote down. Times in milliseconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// The application's PostgreSQL; absent: it writes to no table.
    pub url: Option<String>,
    /// The same from a file.
    pub url_file: Option<PathBuf>,
    /// The stream that the application writes to; absent: none.
    pub stream: Option<String>,
    /// The Redis where it is; absent: that of the nodes.
    pub redis_url: Option<String>,
    /// The same from a file.
    pub redis_url_file: Option<PathBuf>,
    /// Whether this node publishes, or leaves that to others.
    pub run: bool,
    /// Events that are read together at most.
    pub batch: usize,
    /// Between two looks for something.
    pub poll_ms: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            stream: None,
            redis_url: None,
            redis_url_file: None,
            run: true,
            batch: 100,
            poll_ms: 100,
        }
    }
}

impl Outbox {
    /// Whether there is one.
    pub const fn is_there(&self) -> bool {
        self.url.is_some() || self.stream.is_some()
    }

    /// What is behind the addresses is checked by whoever connects there; `nodes` is the Redis that they share.
    pub(super) fn validate(&self, nodes: Option<&str>) -> Checked {
        let starts = |url: &String, schemes: &[&str]| schemes.iter().any(|scheme| url.starts_with(scheme));
        if self.url.as_ref().is_some_and(|url| !starts(url, &["postgresql://", "postgres://"])) {
            return refuse("outbox.url: expected postgresql://user:password@host:port/database");
        }
        if let Some(stream) = &self.stream {
            if !is_house_id(stream) || stream.len() > LONGEST_STREAM {
                return refuse(format!(
                    "outbox.stream: expected 1 to {LONGEST_STREAM} characters of A-Z a-z 0-9 _ : . @ -"
                ));
            }
            if self.redis_url.is_none() && nodes.is_none() {
                return refuse("outbox.stream: needs a Redis; set outbox.redis_url or redis_url");
            }
        } else if self.redis_url.is_some() {
            return refuse("outbox.redis_url: is of no use without outbox.stream");
        }
        if self.redis_url.as_ref().is_some_and(|url| !starts(url, &SCHEMES)) {
            return refuse("outbox.redis_url: expected redis://, redis-sentinel:// or redis-cluster://");
        }
        if self.batch > 1_000 {
            return refuse("outbox.batch: at most 1000");
        }
        if self.poll_ms > 60_000 {
            return refuse("outbox.poll_ms: at most 60000");
        }
        not_zero("outbox", &[("batch", self.batch as u64), ("poll_ms", self.poll_ms)])
    }
}

/// Never shows an address: it may hold a password.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("stream", &self.stream).field("run", &self.run).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        let stream = Outbox { stream: text("outbox"), ..Outbox::default() };
        assert!(Outbox::default().validate(None).is_ok() && !Outbox::default().is_there());
        assert!(stream.validate(Some("redis://h")).is_ok() && stream.is_there());
        for (wrong, why) in [
            (stream.clone(), "outbox.stream: needs a Redis"),
            (Outbox { redis_url: text("http://hush@h"), ..stream.clone() }, "outbox.redis_url: expected"),
            (Outbox { redis_url: text("redis://h"), ..Outbox::default() }, "outbox.redis_url: is of no use"),
            (Outbox { stream: text("{out}box"), ..Outbox::default() }, "outbox.stream: expected"),
            (Outbox { url: text("mysql://hush@h"), ..Outbox::default() }, "outbox.url: expected"),
            (Outbox { batch: 1_001, ..Outbox::default() }, "outbox.batch: at most"),
            (Outbox { poll_ms: 0, ..Outbox::default() }, "outbox.poll_ms"),
        ] {
            let line = wrong.validate(None).unwrap_err().0;
            assert!(line.starts_with(why) && !line.contains("hush"), "{line}");
            assert!(!format!("{wrong:?}").contains("hush"));
        }
    }
}
