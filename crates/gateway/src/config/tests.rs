//! Layering, refusals and masking.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;

const SECRET: &str = "a-test-secret-of-more-than-32-bytes!";

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(file: &str, vars: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, String> {
    let mut kept = tempfile::NamedTempFile::new().unwrap();
    kept.write_all(file.as_bytes()).unwrap();
    let mut overrides = Overrides::default();
    for (flag, value) in flags {
        overrides.set(flag, Some((*value).to_owned()));
    }
    Config::load(Some(kept.path()), &env(vars), &overrides)
        .map_err(|error| error.to_string().replace(&format!("{}: ", kept.path().display()), ""))
}

/// A configuration that is fine.
fn fine() -> Config {
    Config { auth: Auth { secrets: vec![SECRET.to_owned()], ..Auth::default() }, ..Config::default() }
}

#[test]
fn nothing_given_is_the_default() {
    let loaded = Config::load(None, &BTreeMap::new(), &Overrides::default()).unwrap();
    assert_eq!(loaded, Config::default());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "listen = \"127.0.0.1:1\"\ninternal_listen = \"127.0.0.1:2\"\nack_level = \"memory\"\n";
    let vars = [("PARLANCE_LISTEN", "127.0.0.1:11"), ("PARLANCE_INTERNAL_LISTEN", "127.0.0.1:12")];
    let loaded = load(file, &vars, &[("--listen", "127.0.0.1:21")]).unwrap();
    assert_eq!(loaded.listen.port(), 21);
    assert_eq!(loaded.internal_listen.port(), 12);
    assert_eq!(loaded.ack_level, "memory");
    assert_eq!(loaded.data_dir, Config::default().data_dir);
}

#[test]
fn every_option_has_a_variable() {
    let vars = [
        ("PARLANCE_TIMINGS_TYPING_TTL_MS", "4500"),
        ("PARLANCE_LIMITS_BODY_BYTES", "1000"),
        ("PARLANCE_LIMITS_RATES", "false"),
        ("PARLANCE_AUTH_ISSUER", "me"),
        ("PARLANCE_API_KEY", "one, two,"),
        ("PARLANCE_JWT_SECRET", "first,second"),
        ("PARLANCE_ORIGINS", "https://a.example,https://b.example"),
        ("PARLANCE_ADVERTISE", "10.0.0.1:8083"),
        ("PARLANCE_LOG_LEVEL", "debug"),
        ("PARLANCE_JWKS_URL", ""),
        ("PARLANCE_SESSION_URL", "https://app.example/sessions"),
        ("PARLANCE_AUTH_SESSION_CACHE_MS", "0"),
        ("PARLANCE_AUTH_KEYS", "[{ path = \"a.pem\", algorithm = \"RS256\" }]"),
    ];
    let loaded = load("", &vars, &[]).unwrap();
    assert_eq!(loaded.timings.typing_ttl_ms, 4500);
    assert_eq!(loaded.limits.body_bytes, 1000);
    assert!(!loaded.limits.rates);
    assert_eq!(loaded.auth.issuer.as_deref(), Some("me"));
    assert_eq!(loaded.api_keys, ["one", "two"]);
    assert_eq!(loaded.auth.secrets, ["first", "second"]);
    assert_eq!(loaded.origins.len(), 2);
    assert_eq!(loaded.advertise.as_deref(), Some("10.0.0.1:8083"));
    assert_eq!(loaded.log.level, "debug");
    assert_eq!(loaded.auth.jwks_url, None, "an empty variable is an unset one");
    assert_eq!(loaded.auth.session_url.as_deref(), Some("https://app.example/sessions"));
    assert_eq!(loaded.auth.session_cache_ms, 0);
    assert_eq!(loaded.auth.keys[0].algorithm, "RS256");
    assert_eq!(unknown_variables(&env(&vars)), Vec::<String>::new());
}

#[test]
fn wrong_values_are_named_and_never_shown() {
    let cases: &[(&str, &str)] = &[
        ("listem = \"x\"", "unknown option `listem` (did you mean `listen`?)"),
        ("[limits]\nbody_byte = 1", "unknown option `limits.body_byte` (did you mean `limits.body_bytes`?)"),
        ("[limit]\nrates = true", "unknown option `limit` (did you mean `limits`?)"),
        ("[limits]\nbody_bytes = \"x\"", "limits.body_bytes: expected a whole number"),
        ("[limits]\nbody_bytes = -1", "limits.body_bytes: expected a whole number"),
        ("[limits]\nrates = 1", "limits.rates: expected true or false"),
        ("[auth]\nsecrets = \"hush\"", "auth.secrets: expected a list of texts"),
        ("[[mounts]]\nnamee = \"x\"", "unknown option `mounts.namee` (did you mean `mounts.name`?)"),
        ("[auth]\nsecrets = [\"hush\"", "line 2: "),
        ("a = 1\na = 2", "line 2: duplicate key"),
        ("listen = \"here\"", "invalid socket address"),
    ];
    for (file, expected) in cases {
        let line = load(file, &[], &[]).unwrap_err();
        assert!(line.contains(expected), "{file}: {line}");
        assert!(!line.contains("hush") && !line.contains('\n'), "{line}");
    }
    let vars: &[(&str, &str, &str)] = &[
        ("PARLANCE_LIMITS_BODY_BYTES", "many", "PARLANCE_LIMITS_BODY_BYTES: expected a whole number"),
        ("PARLANCE_NO_LIMITS", "perhaps", "PARLANCE_NO_LIMITS: expected true or false"),
        ("PARLANCE_MOUNTS", "sechat", "PARLANCE_MOUNTS: expected a list of tables"),
        ("PARLANCE_MOUNTS", "[{ nam = \"x\" }]", "unknown option `mounts.nam`"),
        ("PARLANCE_MEMBERSHIP", "closed", "PARLANCE_MEMBERSHIP: expected open, managed or callback"),
    ];
    for (name, value, expected) in vars {
        let line = load("", &[(name, value)], &[]).unwrap_err();
        assert!(line.contains(expected), "{name}: {line}");
    }
    let missing =
        Config::load(Some(std::path::Path::new("/no/such.toml")), &BTreeMap::new(), &Overrides::default());
    assert!(missing.unwrap_err().to_string().starts_with("cannot read /no/such.toml: "));
}

#[test]
fn unknown_variables_are_told_with_the_nearest() {
    let told = unknown_variables(&env(&[("PARLANCE_LISTENS", "x"), ("PARLANCE_CONFIG", "f"), ("PATH", "p")]));
    assert_eq!(told, ["PARLANCE_LISTENS is no option and is ignored (did you mean PARLANCE_LISTEN?)"]);
}

#[test]
fn membership_and_no_limits_reach_every_mount() {
    let loaded = load("", &[("PARLANCE_MEMBERSHIP", "open")], &[("--no-limits", "true")]).unwrap();
    assert!(loaded.mounts.iter().all(|mount| mount.membership == Membership::Open));
    assert!(loaded.mounts.iter().all(|mount| mount.connections_per_user == 0));
    assert!(!loaded.limits.rates);
    assert_eq!(loaded.limits.body_bytes, Config::default().limits.body_bytes);
}

#[test]
fn a_mount_takes_from_the_shipped_one_of_its_dialect() {
    let file =
        "[[mounts]]\nname = \"chat\"\npath = \"/chat\"\ndialect = \"socialhub\"\nping_interval_ms = 9000\n";
    let loaded = load(file, &[], &[]).unwrap();
    let shipped = default_mounts().into_iter().find(|mount| mount.dialect == "socialhub").unwrap();
    let expected =
        Mount { name: "chat".to_owned(), path: "/chat".to_owned(), ping_interval_ms: 9000, ..shipped };
    assert_eq!(loaded.mounts, [expected]);
}

#[test]
fn secrets_are_never_printed() {
    let mut config = fine();
    config.api_keys = vec!["hush-api".to_owned()];
    config.auth.secrets = vec!["hush-secret".to_owned()];
    config.auth.jwks_url = Some("https://me:hush-password@keys.example/set".to_owned());
    config.auth.session_url = Some("https://me:hush-word@app.example/sessions".to_owned());
    config.auth.session_secret = Some("hush-session".to_owned());
    for shown in [config.effective_toml(), format!("{config:?}"), format!("{:?}", config.auth)] {
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(config.effective_toml().contains("api_keys = [\"***\"]"));
    assert!(config.effective_toml().contains("keys.example/set"));
    assert!(config.effective_toml().contains("app.example/sessions"));
    assert!(config.effective_toml().contains("session_secret = \"***\""));
}

#[test]
fn an_ack_level_that_its_engine_cannot_give_is_refused() {
    type Spoil = fn(&mut Config);
    let cases: &[(&str, Spoil)] = &[
        ("ack_level: redis-wait needs Redis", |c| c.ack_level = "redis-wait".into()),
        ("ack_level: redis needs Redis", |c| c.ack_level = "redis".into()),
        ("ack_level: file is of the embedded engine", |c| c.redis_url = Some("redis://h".into())),
        ("ack_level: expected", |c| c.ack_level = "disk".into()),
        ("ack_level: archived needs a PostgreSQL", |c| c.ack_level = "archived".into()),
    ];
    for (expected, spoil) in cases {
        let mut config = fine();
        spoil(&mut config);
        let line = config.validate().map_or_else(|error| error.to_string(), |()| "accepted".to_owned());
        assert!(line.starts_with(expected), "{expected}: {line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    type Spoil = fn(&mut Config);
    let cases: &[(&str, Spoil)] = &[
        ("auth: nothing to verify", |c| c.auth.secrets.clear()),
        ("auth.secrets", |c| c.auth.secrets.push("short".into())),
        ("auth.jwks_url", |c| c.auth.jwks_url = Some("http://keys.example".into())),
        ("auth.session_url", |c| c.auth.session_url = Some("http://app.example".into())),
        ("auth.session_secret", |c| c.auth.session_secret = Some("a-secret-without-a-verifier".into())),
        ("auth.session_timeout_ms", |c| c.auth.session_timeout_ms = 0),
        ("auth.session_max_age_ms", |c| c.auth.session_max_age_ms = 0),
        ("auth.keys", |c| {
            c.auth.keys.push(KeyFile { path: "a".into(), algorithm: "HS256".into(), kid: None });
        }),
        ("redis_url: expected", |c| c.redis_url = Some("https://h".into())),
        ("redis_url: expected", |c| c.redis_url = Some("redis-cluster://".into())),
        ("api_keys", |c| c.api_keys.push(String::new())),
        ("origins", |c| c.origins.push("https://app.example/path".into())),
        ("origins", |c| c.origins.push("app.example".into())),
        ("advertise", |c| c.advertise = Some("10.0.0.1".into())),
        ("limits.outbox_frames", |c| c.limits.outbox_frames = 0),
        ("limits.json_depth", |c| c.limits.json_depth = 500),
        ("limits.http_body_bytes", |c| c.limits.http_body_bytes = 10),
        ("timings.sweep_ms", |c| c.timings.sweep_ms = 0),
        ("timings.presence_refresh_ms", |c| c.timings.presence_refresh_ms = 35_000),
        ("drain.deadline_ms", |c| c.drain.deadline_ms = 0),
        ("retention.entries", |c| c.retention.entries = 0),
        ("retention.dedupe_hours", |c| c.retention.dedupe_hours = 23),
        ("log.level", |c| c.log.level = "inof".into()),
        ("log.format", |c| c.log.format = "xml".into()),
        ("mounts: there must", |c| c.mounts.clear()),
        ("mounts: two are named", |c| c.mounts[1].name = c.mounts[0].name.clone()),
        ("mounts: two are at", |c| c.mounts[1].path = c.mounts[0].path.clone()),
        ("mounts.name", |c| c.mounts[0].name = "a b".into()),
        ("mounts (sechat): path", |c| c.mounts[0].path = "sechat".into()),
        ("mounts (sechat): path", |c| c.mounts[0].path = "/{id}".into()),
        ("mounts (sechat): /livez", |c| c.mounts[0].path = "/livez".into()),
        ("mounts (sechat): host", |c| c.mounts[0].host = Some("a:1".into())),
        ("mounts (sechat): unknown dialect", |c| c.mounts[0].dialect = "klingon".into()),
        ("mounts (sechat): subjects", |c| c.mounts[0].subjects.clear()),
        ("mounts (sechat): ping_interval_ms", |c| c.mounts[0].ping_interval_ms = 0),
        ("mounts (sechat): ping_interval_ms", |c| c.mounts[0].ping_interval_ms = 60_000),
        ("mounts (sechat): messages.window_ms", |c| c.mounts[0].messages.window_ms = 0),
        ("mounts (sechat): polls.window_ms", |c| c.mounts[0].polls.window_ms = 0),
        ("mounts (sechat): max_frame_bytes", |c| c.mounts[0].max_frame_bytes = 100),
    ];
    assert_eq!(fine().validate(), Ok(()));
    for (expected, spoil) in cases {
        let mut config = fine();
        spoil(&mut config);
        let line = config.validate().map_or_else(|error| error.to_string(), |()| "accepted".to_owned());
        assert!(line.starts_with(expected), "{expected}: {line}");
        assert!(!line.contains('\n'));
    }
    let mut same_path_other_host = fine();
    same_path_other_host.mounts[1].path = same_path_other_host.mounts[0].path.clone();
    same_path_other_host.mounts[1].host = Some("b.example".into());
    assert_eq!(same_path_other_host.validate(), Ok(()));
}

#[test]
fn odd_prefixes_and_waits_are_refused_by_name() {
    type Spoil = fn(&mut Config);
    let cases: &[(&str, Spoil)] = &[
        ("redis.prefix", |c| c.redis.prefix = "a{b}:".into()),
        ("redis.channel_prefix", |c| c.redis.channel_prefix = Some(String::new())),
        ("redis.wait_replicas", |c| c.redis.wait_replicas = 0),
        ("redis.wait_ms", |c| c.redis.wait_ms = 60_000),
    ];
    for (expected, spoil) in cases {
        let mut config = fine();
        spoil(&mut config);
        let line = config.validate().map_or_else(|error| error.to_string(), |()| "accepted".to_owned());
        assert!(line.starts_with(expected) && !line.contains('\n'), "{expected}: {line}");
    }
}

#[test]
fn what_is_said_of_expiry_must_have_a_word_and_a_time() {
    let mount = |dialect: &str, more: &str| {
        format!(
            "[[mounts]]\nname = \"m\"\npath = \"/m/\"\ndialect = \"{dialect}\"\non_expiry = \"warn\"\n{more}\n"
        )
    };
    let judged = |file: &str| {
        load(file, &[], &[]).map(|mut config| {
            config.auth = fine().auth;
            config.validate().map_err(|error| error.to_string())
        })
    };
    assert_eq!(judged(&mount("sechat", "")), Ok(Ok(())));
    for (dialect, more, expected) in [
        ("famly", "framing = \"socketio\"", "mounts (m): on_expiry: famly has no word for a warning"),
        ("sechat", "expiry_warning_ms = 0", "mounts (m): expiry_warning_ms must not be 0"),
    ] {
        assert_eq!(judged(&mount(dialect, more)), Ok(Err(expected.to_owned())), "{dialect} {more}");
    }
    let mut config = fine();
    config.auth.jwks_keep_ms = config.auth.jwks_refresh_ms - 1;
    let line = config.validate().unwrap_err().to_string();
    assert_eq!(line, "auth.jwks_keep_ms: must not be below auth.jwks_refresh_ms");
}
