//! What an error of PostgreSQL means. Pure.

use tokio_postgres::error::DbError;

/// Why PostgreSQL did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is out of reach, or cannot do it now, or something about it has to be put right: worth a retry.
    #[error("{0}")]
    Away(String),
    /// It does not take what it was given.
    #[error("{0}")]
    Content(String),
}

impl Refused {
    /// It took too long.
    pub fn late() -> Self {
        Self::Away("no answer in time".to_owned())
    }
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if is_of_content(db.code().code()) => Self::Content(line(db)),
            Some(db) => Self::Away(line(db)),
            // Why is in its source: which address, which system call.
            None => Self::Away(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
            ),
        }
    }
}

/// Never the detail, which quotes rows.
fn line(error: &DbError) -> String {
    format!("{} ({})", error.message(), error.code().code())
}

/// Data that does not fit (class 22), that breaks a rule (23, but for a key that somebody else took a moment ago), or is too large
/// (54). Anything else is about the server, the schema or rights, and whoever runs them can put it right.
fn is_of_content(code: &str) -> bool {
    code != "23505" && ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_content_is_refused_for_it() {
        for (code, of_content) in [
            ("22021", true),
            ("22P02", true),
            ("23502", true),
            ("23505", false),
            ("54000", true),
            ("42P01", false),
            ("42501", false),
            ("53100", false),
            ("57P01", false),
            ("25006", false),
        ] {
            assert_eq!(is_of_content(code), of_content, "{code}");
        }
    }
}
