//! Layers a configuration: what is shipped, then the file, then the environment, then flags.
//!
//! Owns: names of variables and flags, and the errors for wrong ones. Must not know: whether the result makes
//! sense (`validate`), or how a command line is parsed (the binary).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::known::{self, Kind};
use super::{Config, default_mounts, files};

/// A configuration that cannot be used: one line, naming the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// An option everyone needs, with a flag and a short variable of its own.
#[derive(Debug, Clone, Copy)]
pub struct Shortcut {
    /// The flag.
    pub flag: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// The option it sets; one that starts with `+` is no option of the file.
    pub option: &'static str,
}

const fn short(flag: &'static str, variable: &'static str, option: &'static str) -> Shortcut {
    Shortcut { flag, variable, option }
}

/// Flags and short variables.
pub const SHORTCUTS: &[Shortcut] = &[
    short("--listen", "PARLANCE_LISTEN", "listen"),
    short("--internal-listen", "PARLANCE_INTERNAL_LISTEN", "internal_listen"),
    short("--advertise", "PARLANCE_ADVERTISE", "advertise"),
    short("--data-dir", "PARLANCE_DATA_DIR", "data_dir"),
    short("--ack-level", "PARLANCE_ACK_LEVEL", "ack_level"),
    short("--jwt-secret", "PARLANCE_JWT_SECRET", "auth.secrets"),
    short("--jwks-url", "PARLANCE_JWKS_URL", "auth.jwks_url"),
    short("--session-url", "PARLANCE_SESSION_URL", "auth.session_url"),
    short("--api-key", "PARLANCE_API_KEY", "api_keys"),
    short("--origins", "PARLANCE_ORIGINS", "origins"),
    short("--log-level", "PARLANCE_LOG_LEVEL", "log.level"),
    short("--log-format", "PARLANCE_LOG_FORMAT", "log.format"),
    short("--membership", "PARLANCE_MEMBERSHIP", "+membership"),
    short("--no-limits", "PARLANCE_NO_LIMITS", "+no_limits"),
    short("--redis-url", "PARLANCE_REDIS_URL", "redis_url"),
    short("--redis-prefix", "PARLANCE_REDIS_PREFIX", "redis.prefix"),
    short("--redis-channel-prefix", "PARLANCE_REDIS_CHANNEL_PREFIX", "redis.channel_prefix"),
];

/// Variables the binary reads for itself: the file, and the token of `parlance chat`.
const OTHER_VARIABLES: &[&str] = if cfg!(debug_assertions) {
    &["PARLANCE_CONFIG", "PARLANCE_TOKEN", "PARLANCE_FAILPOINTS", "PARLANCE_TEST_CLOCK_SKEW_MS"]
} else {
    &["PARLANCE_CONFIG", "PARLANCE_TOKEN"]
};

/// Values given as flags, by the flag's name (see [`SHORTCUTS`]).
#[derive(Debug, Clone, Default)]
pub struct Overrides(BTreeMap<&'static str, String>);

impl Overrides {
    /// Notes a flag; `None` leaves it unset.
    pub fn set(&mut self, flag: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.0.insert(flag, value);
        }
    }
}

impl Config {
    /// The shipped defaults under file, environment and flags. Not validated yet.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn load(
        path: Option<&Path>,
        env: &BTreeMap<String, String>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        Self::load_over(&Self::default(), path, env, flags)
    }

    /// As [`Self::load`], over defaults of the caller's own.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn load_over(
        base: &Self,
        path: Option<&Path>,
        env: &BTreeMap<String, String>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::load_bare(base, path, env, flags)?;
        files::fill(&mut config, base)?;
        // The default of each engine.
        if config.redis_url.is_some() && config.ack_level == base.ack_level {
            "redis".clone_into(&mut config.ack_level);
        }
        Ok(config)
    }

    /// As [`Self::load_over`], without what lies in files of its own: for whoever only asks for addresses, and may not be
    /// allowed to read secrets.
    ///
    /// # Errors
    /// One line naming the option.
    pub fn load_bare(
        base: &Self,
        path: Option<&Path>,
        env: &BTreeMap<String, String>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::try_from(base).map_err(|error| ConfigError(one_line(&error.to_string())))?;
        if let Some(path) = path {
            merge(&mut table, read(path)?);
        }
        for (variable, option, kind) in variables() {
            if let Some(text) = given(env, &variable) {
                put(&mut table, &option, parse(&variable, kind, text)?);
            }
        }
        for shortcut in SHORTCUTS {
            if let Some(text) = given(env, shortcut.variable) {
                shortcut.apply(&mut table, shortcut.variable, text)?;
            }
        }
        for shortcut in SHORTCUTS {
            if let Some(text) = flags.0.get(shortcut.flag) {
                shortcut.apply(&mut table, shortcut.flag, text)?;
            }
        }
        inherit(&mut table);
        let mut config =
            Self::deserialize(table).map_err(|error| ConfigError(one_line(&error.to_string())))?;
        config.auth.allow_short_secrets = base.auth.allow_short_secrets;
        Ok(config)
    }
}

impl Shortcut {
    fn apply(&self, table: &mut Table, source: &str, text: &str) -> Result<(), ConfigError> {
        match self.option {
            "+membership" => set_membership(table, source, text),
            "+no_limits" => {
                if parse(source, Kind::Switch, text)?.as_bool() == Some(true) {
                    lift_limits(table);
                }
                Ok(())
            }
            option => {
                let kind = known::options().into_iter().find(|(path, _)| path == option);
                let kind = kind.map_or(Kind::Text, |(_, kind)| kind);
                put(table, option, parse(source, kind, text)?);
                Ok(())
            }
        }
    }
}

/// Variables that look like an option but are none, each with the nearest that is one.
pub fn unknown_variables(env: &BTreeMap<String, String>) -> Vec<String> {
    let mut all: Vec<String> = variables().map(|(variable, ..)| variable).collect();
    all.extend(SHORTCUTS.iter().map(|shortcut| shortcut.variable.to_owned()));
    all.extend(OTHER_VARIABLES.iter().map(|name| (*name).to_owned()));
    env.keys()
        .filter(|name| name.starts_with("PARLANCE_") && !all.contains(name))
        .map(|name| {
            let nearest = known::nearest(name, all.iter().map(String::as_str)).unwrap_or_default();
            format!("{name} is no option and is ignored (did you mean {nearest}?)")
        })
        .collect()
}

/// The generic variable of every option: `limits.body_bytes` is `PARLANCE_LIMITS_BODY_BYTES`.
fn variables() -> impl Iterator<Item = (String, String, Kind)> {
    let options = known::options();
    let lists: Vec<String> = options
        .iter()
        .filter(|(_, kind)| *kind == Kind::Tables)
        .map(|(path, _)| format!("{path}."))
        .collect();
    options
        .into_iter()
        .filter(move |(path, kind)| {
            *kind != Kind::Section && !lists.iter().any(|list| path.starts_with(list.as_str()))
        })
        .map(|(path, kind)| (variable_of(&path), path, kind))
}

pub(super) fn variable_of(option: &str) -> String {
    format!("PARLANCE_{}", option.replace('.', "_").to_uppercase())
}

/// An empty variable counts as unset: compose files pass those for what nobody filled in.
fn given<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("cannot read {shown}: {error}")))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        // The library's own rendering quotes the line, and the line may hold a secret.
        let line = error
            .span()
            .map_or(0, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        ConfigError(format!("{shown}: line {line}: {}", one_line(error.message())))
    })?;
    check("", &table, &known::options()).map_err(|line| ConfigError(format!("{shown}: {line}")))?;
    Ok(table)
}

/// Every key must be an option and hold what the option takes. Done here and not left to deserialization,
/// whose errors quote the value: it may be a secret.
fn check(under: &str, table: &Table, options: &[(String, Kind)]) -> Result<(), String> {
    for (key, value) in table {
        let path = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
        let Some((_, kind)) = options.iter().find(|(known, _)| *known == path) else {
            let nearest = known::nearest(&path, options.iter().map(|(known, _)| known.as_str()));
            return Err(format!("unknown option `{path}` (did you mean `{}`?)", nearest.unwrap_or_default()));
        };
        if !kind.fits(value) {
            return Err(format!("{path}: expected {}", kind.expected()));
        }
        match value {
            Value::Table(inside) => check(&path, inside, options)?,
            Value::Array(list) => {
                for inside in list.iter().filter_map(Value::as_table) {
                    check(&path, inside, options)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn put(table: &mut Table, option: &str, value: Value) {
    match option.split_once('.') {
        None => {
            table.insert(option.to_owned(), value);
        }
        Some((section, rest)) => {
            let inside = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::default()));
            if let Value::Table(inside) = inside {
                put(inside, rest, value);
            }
        }
    }
}

fn parse(source: &str, kind: Kind, text: &str) -> Result<Value, ConfigError> {
    let value = match kind {
        Kind::Switch => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Kind::Number => text.trim().parse().ok().filter(|n: &i64| *n >= 0).map(Value::Integer),
        Kind::Text => Some(Value::String(text.to_owned())),
        Kind::Texts => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Some(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        Kind::Tables | Kind::Section => {
            let value = format!("value = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
            let value = value.filter(|value| kind.fits(value));
            if let Some(value) = &value {
                let option = known::options().into_iter().find(|(path, _)| variable_of(path) == source);
                let inside = Table::from_iter([("value".to_owned(), value.clone())]);
                let renamed = option.map(|(path, _)| renamed(&path, inside)).unwrap_or_default();
                check("", &renamed, &known::options())
                    .map_err(|line| ConfigError(format!("{source}: {line}")))?;
            }
            value
        }
    };
    value.ok_or_else(|| ConfigError(format!("{source}: expected {}", kind.expected())))
}

/// `{value: …}` as the nested table that `path` names.
fn renamed(path: &str, mut inside: Table) -> Table {
    let mut table = Table::default();
    if let Some(value) = inside.remove("value") {
        put(&mut table, path, value);
    }
    table
}

fn mounts(table: &mut Table) -> impl Iterator<Item = &mut Table> {
    let list = table.get_mut("mounts").and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_table_mut)
}

fn set_membership(table: &mut Table, source: &str, word: &str) -> Result<(), ConfigError> {
    match word {
        "open" | "managed" | "callback" => {}
        _ => return Err(ConfigError(format!("{source}: expected open, managed or callback"))),
    }
    for mount in mounts(table) {
        mount.insert("membership".to_owned(), Value::String(word.to_owned()));
    }
    Ok(())
}

/// Rates and counts go; sizes stay, they guard this process and no load test needs them gone.
fn lift_limits(table: &mut Table) {
    put(table, "limits.rates", Value::Boolean(false));
    put(table, "limits.frames_per_second", Value::Integer(i64::from(u32::MAX)));
    put(table, "limits.connections", Value::Integer(0));
    put(table, "limits.connections_per_ip", Value::Integer(0));
    for mount in mounts(table) {
        mount.insert("connections_per_user".to_owned(), Value::Integer(0));
    }
}

/// What a mount does not say it takes from the shipped mount of its dialect (and framing, when it names one).
fn inherit(table: &mut Table) {
    let shipped: Vec<Table> =
        default_mounts().iter().filter_map(|mount| Table::try_from(mount).ok()).collect();
    for mount in mounts(table) {
        let same = |model: &&Table, key: &str| model.get(key) == mount.get(key);
        let mut models = shipped.iter().filter(|model| same(model, "dialect"));
        let model = match mount.get("framing") {
            Some(_) => models.find(|model| same(model, "framing")),
            None => models.next(),
        };
        for (key, value) in model.into_iter().flatten() {
            if !matches!(key.as_str(), "name" | "path" | "namespace") && !mount.contains_key(key) {
                mount.insert(key.clone(), value.clone());
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
