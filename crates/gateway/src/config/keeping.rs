//! How long the archive keeps what.

use serde::{Deserialize, Serialize};

use super::validate::{Checked, refuse};

/// How long the archive keeps some conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRule {
    /// An id, or the beginning of some with `*` behind it.
    pub conversations: String,
    /// Days; 0: for ever, as where it is not said.
    #[serde(default)]
    pub days: u64,
}

/// A hundred years.
const MOST_DAYS: u64 = 36_500;

impl ArchiveRule {
    pub(super) fn validate(&self) -> Checked {
        let ids = self.conversations.strip_suffix('*').unwrap_or(&self.conversations);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.@-".contains(&byte);
        if self.conversations.is_empty() || ids.len() > 128 || !ids.bytes().all(fits) {
            return refuse(
                "archive.retention.conversations: a conversation's id, or the beginning of some and `*`",
            );
        }
        check_days("archive.retention.days", self.days)
    }
}

pub(super) fn check_days(option: &str, days: u64) -> Checked {
    if days > MOST_DAYS { refuse(format!("{option}: at most {MOST_DAYS}; 0 is for ever")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_an_id_or_about_a_beginning() {
        let check = |conversations: &str, days| {
            ArchiveRule { conversations: conversations.to_owned(), days }.validate()
        };
        for good in ["*", "support-*", "room", "a:b@c.d_e"] {
            assert!(check(good, 30).is_ok() && check(good, 0).is_ok(), "{good}");
        }
        for bad in ["", "*-support", "a*b", "a b", "**", "é*"] {
            assert!(check(bad, 30).unwrap_err().0.starts_with("archive.retention.conversations"), "{bad}");
        }
        assert!(check("*", 40_000).unwrap_err().0.starts_with("archive.retention.days"));
    }
}
