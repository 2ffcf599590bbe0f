//! Which options exist and of what kind, read off the configuration types themselves.
//!
//! Owns: the list of option paths. Must not know: where a value comes from.

use std::path::PathBuf;

use serde_json::Value;

use super::{ArchiveRule, Config, KeyFile};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Number,
    Text,
    Texts,
    /// A list of tables (`mounts`, `auth.keys`, `archive.retention`).
    Tables,
    /// A table inside (`limits`, `mounts.messages`).
    Section,
}

impl Kind {
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Number => "a whole number",
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::Tables => "a list of tables",
            Self::Section => "a table",
        }
    }

    pub(super) fn fits(self, value: &toml::Value) -> bool {
        let all = |test: fn(&toml::Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(test));
        match self {
            Self::Switch => value.is_bool(),
            Self::Number => value.as_integer().is_some_and(|number| number >= 0),
            Self::Text => value.is_str(),
            Self::Texts => all(toml::Value::is_str),
            Self::Tables => all(toml::Value::is_table),
            Self::Section => value.is_table(),
        }
    }
}

/// Every option with its path, sections included; elements of lists of tables go by the list's path.
pub(super) fn options() -> Vec<(String, Kind)> {
    let mut found = Vec::new();
    if let Ok(Value::Object(sections)) = serde_json::to_value(sample()) {
        collect("", &sections, &mut found);
    }
    found
}

/// The options that hold a value.
#[cfg(test)]
pub(super) fn leaves() -> impl Iterator<Item = (String, Kind)> {
    options().into_iter().filter(|(_, kind)| !matches!(kind, Kind::Section | Kind::Tables))
}

fn collect(under: &str, table: &serde_json::Map<String, Value>, found: &mut Vec<(String, Kind)>) {
    for (key, value) in table {
        let path = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
        let (kind, inside) = match value {
            Value::Bool(_) => (Kind::Switch, None),
            Value::Number(_) => (Kind::Number, None),
            Value::String(_) | Value::Null => (Kind::Text, None),
            Value::Object(inside) => (Kind::Section, Some(inside)),
            Value::Array(list) => match list.first() {
                Some(Value::Object(inside)) => (Kind::Tables, Some(inside)),
                _ => (Kind::Texts, None),
            },
        };
        found.push((path.clone(), kind));
        if let Some(inside) = inside {
            collect(&path, inside, found);
        }
    }
}

/// A configuration in which no list of tables is empty.
fn sample() -> Config {
    let mut config = Config::default();
    config.auth.keys =
        vec![KeyFile { path: PathBuf::from("key.pem"), algorithm: "RS256".to_owned(), kid: None }];
    config.archive.retention = vec![ArchiveRule { conversations: "support-*".to_owned(), days: 30 }];
    config
}

/// The candidate that looks most like `text`.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| strsim::damerau_levenshtein(text, candidate))
}
