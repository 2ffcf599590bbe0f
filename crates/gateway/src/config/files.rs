//! Secrets that lie in files of their own, so that a mounted Secret can be rotated without touching anything else.
//!
//! Owns: which options have such a file, and how it is read. Must not know: when it is read again.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError};

/// A key, a password, an address: whatever is larger is something else.
const LARGEST: u64 = 64 * 1024;

/// Takes the secrets from their files. A file replaces what `base` says, and stands beside nothing else: of two values one
/// would be the wrong one.
pub(super) fn fill(config: &mut Config, base: &Config) -> Result<(), ConfigError> {
    let (auth, redis) = (&mut config.auth, &mut config.redis);
    let (authoriser, webhooks) = (&mut config.authoriser, &mut config.webhooks);
    several("auth.secrets", auth.secrets_file.as_deref(), &mut auth.secrets, &base.auth.secrets)?;
    several("api_keys", config.api_keys_file.as_deref(), &mut config.api_keys, &base.api_keys)?;
    one("auth.session_secret", auth.session_secret_file.as_deref(), &mut auth.session_secret)?;
    one("authoriser.secret", authoriser.secret_file.as_deref(), &mut authoriser.secret)?;
    one("webhooks.secret", webhooks.secret_file.as_deref(), &mut webhooks.secret)?;
    one("archive.url", config.archive.url_file.as_deref(), &mut config.archive.url)?;
    let outbox = &mut config.outbox;
    one("outbox.url", outbox.url_file.as_deref(), &mut outbox.url)?;
    one("outbox.redis_url", outbox.redis_url_file.as_deref(), &mut outbox.redis_url)?;
    one("redis_url", config.redis_url_file.as_deref(), &mut config.redis_url)?;
    one("redis.password", redis.password_file.as_deref(), &mut redis.password)?;
    one("redis.sentinel_password", redis.sentinel_password_file.as_deref(), &mut redis.sentinel_password)
}

fn one(option: &str, file: Option<&Path>, value: &mut Option<String>) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    if value.is_some() {
        return Err(both(option));
    }
    let text = read(option, path)?;
    if text.contains(['\n', '\r']) {
        return Err(ConfigError(format!("{option}_file: {} holds more than one line", path.display())));
    }
    *value = Some(text);
    Ok(())
}

fn several(
    option: &str,
    file: Option<&Path>,
    values: &mut Vec<String>,
    base: &[String],
) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    if values != base {
        return Err(both(option));
    }
    let text = read(option, path)?;
    let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
    *values = parts.map(str::to_owned).collect();
    if values.is_empty() { Err(empty(option, path)) } else { Ok(()) }
}

fn both(option: &str) -> ConfigError {
    ConfigError(format!("{option}_file: {option} is set as well; only one of them may be"))
}

fn empty(option: &str, path: &Path) -> ConfigError {
    ConfigError(format!("{option}_file: {} is empty", path.display()))
}

/// What a file says, without the end of its last line.
fn read(option: &str, path: &Path) -> Result<String, ConfigError> {
    let bad = |why: &str| ConfigError(format!("{option}_file: cannot read {}: {why}", path.display()));
    let file = File::open(path).map_err(|error| bad(&error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| bad(&error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(bad("it is too large for a secret"));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("it is no text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() { Err(empty(option, path)) } else { Ok(text.to_owned()) }
}

impl Config {
    /// The files that keys, secrets and certificates are read from.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let (auth, redis) = (&self.auth, &self.redis);
        let mut all: Vec<PathBuf> = auth.keys.iter().map(|key| key.path.clone()).collect();
        let named = [
            &auth.secrets_file,
            &auth.session_secret_file,
            &self.authoriser.secret_file,
            &self.webhooks.secret_file,
            &self.archive.url_file,
            &self.outbox.url_file,
            &self.outbox.redis_url_file,
            &self.api_keys_file,
            &self.redis_url_file,
            &redis.password_file,
            &redis.sentinel_password_file,
            &redis.ca_file,
            &redis.cert_file,
            &redis.key_file,
        ];
        all.extend(named.into_iter().flatten().cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Overrides;
    use super::*;

    const LONG: &str = "a-secret-of-at-least-thirty-two-bytes";

    /// A configuration that names a file with this in it, for an option; loaded.
    fn loaded(option: &str, holds: &[u8]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, holds).unwrap();
        let variable = format!("PARLANCE_{}_FILE", option.replace('.', "_").to_uppercase());
        let env = BTreeMap::from([(variable, path.display().to_string())]);
        Config::load(None, &env, &Overrides::default())
    }

    #[test]
    fn what_a_file_says_is_the_value() {
        let auth = |text: &str| loaded("auth.secrets", text.as_bytes()).unwrap().auth.secrets;
        assert_eq!(auth(&format!("{LONG}\n")), [LONG]);
        assert_eq!(auth(&format!("{LONG},b\r\n c \n\n")), [LONG, "b", "c"]);
        assert_eq!(loaded("api_keys", b"k1\nk2").unwrap().api_keys, ["k1", "k2"]);
        let password = |text: &[u8]| loaded("redis.password", text).unwrap().redis.password;
        assert_eq!(
            password(b"a b@,/ \r\n").as_deref(),
            Some("a b@,/ "),
            "nothing but the end of the line goes"
        );
        let url = loaded("redis_url", b"redis://:hush@h:1\n").unwrap();
        assert_eq!((url.redis_url.as_deref(), url.ack_level.as_str()), (Some("redis://:hush@h:1"), "redis"));
        assert!(!format!("{url:?}").contains("hush"), "{url:?}");
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_by_name_and_not_shown() {
        for option in [
            "auth.secrets",
            "auth.session_secret",
            "authoriser.secret",
            "webhooks.secret",
            "archive.url",
            "outbox.url",
            "outbox.redis_url",
            "api_keys",
            "redis_url",
            "redis.password",
            "redis.sentinel_password",
        ] {
            for (holds, why) in [
                (&b""[..], "is empty"),
                (b"\n", "is empty"),
                (b" \t\n", "is empty"),
                (b"\xff\xfe", "no text"),
                (&[b'x'; 70_000], "too large"),
            ] {
                let line = loaded(option, holds).unwrap_err().0;
                assert!(line.starts_with(&format!("{option}_file: ")) && line.contains(why), "{line}");
                assert!(!line.contains("xxx") && !line.contains('\n'), "{line}");
            }
        }
        let line = loaded("redis.password", b"hush\nhush").unwrap_err().0;
        assert!(line.contains("more than one line") && !line.contains("hush"), "{line}");
        let env = BTreeMap::from([("PARLANCE_API_KEYS_FILE".to_owned(), "/nowhere/key".to_owned())]);
        let line = Config::load(None, &env, &Overrides::default()).unwrap_err().0;
        assert!(line.starts_with("api_keys_file: cannot read /nowhere/key: "), "{line}");
    }

    #[test]
    fn a_file_stands_beside_no_value_but_that_of_the_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LONG).unwrap();
        let mut env =
            BTreeMap::from([("PARLANCE_AUTH_SECRETS_FILE".to_owned(), file.path().display().to_string())]);
        let mut base = Config::default();
        base.auth.secrets = vec!["of the defaults".to_owned()];
        let config = Config::load_over(&base, None, &env, &Overrides::default()).unwrap();
        assert_eq!(config.auth.secrets, [LONG]);
        env.insert("PARLANCE_JWT_SECRET".to_owned(), "another".to_owned());
        let line = Config::load_over(&base, None, &env, &Overrides::default()).unwrap_err().0;
        assert!(line.contains("auth.secrets is set as well") && !line.contains("another"), "{line}");
    }
}
