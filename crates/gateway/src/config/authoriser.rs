//! Whom the application's backend is asked about.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::validate::{Checked, not_zero, refuse};
use crate::{auth, authoriser};

/// What may be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Connecting, and polling.
    Connect,
    /// Entering a conversation's room, and subscribing to it.
    Join,
    /// Writing a message.
    Send,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Join, Self::Send];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Join => "join",
            Self::Send => "send",
        }
    }
}

/// What holds while there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nobody may.
    #[default]
    Deny,
    /// Whoever could without an authoriser may.
    Allow,
}

/// Asking the application's backend. Times in milliseconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authoriser {
    /// Where it is asked; absent: nobody is.
    pub url: Option<String>,
    /// What it is asked about.
    pub actions: Vec<Action>,
    /// How long a question may take.
    pub timeout_ms: u64,
    /// Questions under way at once.
    pub max_in_flight: usize,
    /// Answers remembered; 0 = none.
    pub cache_entries: usize,
    /// How long a yes is good, at most.
    pub cache_ms: u64,
    /// How long a no is good, at most.
    pub negative_ms: u64,
    /// What holds while there is no answer.
    pub on_failure: OnFailure,
    /// After so many questions in a row without an answer none is asked for a while.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_open_ms: u64,
    /// Signs the questions, when set.
    pub secret: Option<String>,
    /// The same from a file.
    pub secret_file: Option<PathBuf>,
    /// Claims of the token that are told.
    pub claims: Vec<String>,
}

impl Default for Authoriser {
    fn default() -> Self {
        Self {
            url: None,
            actions: Action::ALL.to_vec(),
            timeout_ms: 1_000,
            max_in_flight: 64,
            cache_entries: 10_000,
            cache_ms: 30_000,
            negative_ms: 5_000,
            on_failure: OnFailure::default(),
            breaker_failures: 5,
            breaker_open_ms: 5_000,
            secret: None,
            secret_file: None,
            claims: Vec::new(),
        }
    }
}

impl Authoriser {
    pub(super) fn validate(&self) -> Checked {
        if self.url.is_none() && self.secret.is_some() {
            return refuse("authoriser.secret: is of no use without authoriser.url");
        }
        if let Some(url) = &self.url {
            authoriser::check_url(url).map_err(super::ConfigError)?;
        }
        if self.secret.as_ref().is_some_and(|secret| secret.len() < auth::SHORTEST_SECRET) {
            return refuse(format!(
                "authoriser.secret: a secret must have at least {} bytes",
                auth::SHORTEST_SECRET
            ));
        }
        if self.claims.iter().any(String::is_empty) {
            return refuse("authoriser.claims: a name must not be empty");
        }
        not_zero(
            "authoriser",
            &[
                ("timeout_ms", self.timeout_ms),
                ("max_in_flight", self.max_in_flight as u64),
                ("breaker_failures", u64::from(self.breaker_failures)),
                ("breaker_open_ms", self.breaker_open_ms),
            ],
        )
    }
}

/// Never shows the secret.
impl fmt::Debug for Authoriser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authoriser").field("actions", &self.actions).finish_non_exhaustive()
    }
}
