//! The real binary: what it prints, what it refuses, and its exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SECRET: &str = "a-test-secret-of-more-than-32-bytes!";

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Exit code 2 and exactly one line on stderr, which holds `part`.
    fn refused(&self, part: &str) {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.contains(part), "{part}: {}", self.stderr);
        assert_eq!(self.stdout, "");
    }
}

/// Runs it with these variables and no others.
fn parlance(args: &[&str], env: &[(&str, &str)]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap();
    Run {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("parlance.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn token_prints_a_token_and_nothing_else() {
    let run = parlance(&["token", "--user", "alice", "--name", "Alice", "--ttl", "30m"], &[]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(run.stdout.lines().count(), 1);
    assert_eq!(run.stdout.trim().split('.').count(), 3);
    assert!(run.stdout.starts_with("eyJ"));
}

#[test]
fn token_signs_with_the_secret_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &format!("[auth]\nsecrets = [\"{SECRET}\"]\n"));
    let config = path.to_str().unwrap();
    // Signatures are deterministic; only the second in which it was signed may differ.
    let signed = |args: &[&str], env: &[(&str, &str)]| {
        let mut all = vec!["token", "--user", "alice"];
        all.extend(args);
        parlance(&all, env).stdout
    };
    let same = |one: &dyn Fn() -> String, other: &dyn Fn() -> String| (0..5).any(|_| one() == other());
    let given = || signed(&["--secret", SECRET], &[]);
    assert!(same(&given, &|| signed(&[], &[("PARLANCE_JWT_SECRET", SECRET)])));
    assert!(same(&given, &|| signed(&["--config", config], &[])));
    assert!(!same(&given, &|| signed(&[], &[])), "without any it is the development secret");
}

#[test]
fn token_refuses_what_is_no_user_or_span() {
    parlance(&["token", "--user", "no spaces"], &[]).refused("--user");
    parlance(&["token", "--user", "a", "--ttl", "soon"], &[]).refused("--ttl");
    parlance(&["token"], &[]).refused("--user");
}

#[test]
fn check_config_shows_the_effective_one_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "listen = \"127.0.0.1:1\"\napi_keys = [\"hush-key\"]\n");
    let run = parlance(
        &["check-config", "--config", path.to_str().unwrap(), "--listen", "127.0.0.1:3"],
        &[
            ("PARLANCE_LISTEN", "127.0.0.1:2"),
            ("PARLANCE_JWT_SECRET", SECRET),
            ("PARLANCE_LIMITS_BODY_BYTES", "777"),
            ("PARLANCE_LIMITS_BODY_BYTE", "1"),
        ],
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("listen = \"127.0.0.1:3\"") && run.stdout.contains("body_bytes = 777"));
    assert!(run.stderr.contains("PARLANCE_LIMITS_BODY_BYTE is no option"), "{}", run.stderr);
    for secret in ["hush-key", SECRET] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret));
    }
}

#[test]
fn the_default_file_is_a_configuration() {
    let run = parlance(&["default-config"], &[]);
    assert_eq!(run.code, Some(0));
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &run.stdout);
    let check = |args: &[&str]| parlance(args, &[("PARLANCE_JWT_SECRET", SECRET)]);
    let with = check(&["check-config", "--config", path.to_str().unwrap()]);
    let without = check(&["check-config"]);
    assert_eq!((with.code, with.stdout), (Some(0), without.stdout));
    let page = parlance(&["default-config", "--markdown"], &[]);
    assert!(page.stdout.starts_with("# Configuration\n"));
}

#[test]
fn bad_configuration_ends_with_two_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "listem = \"127.0.0.1:1\"\n");
    let good = [("PARLANCE_JWT_SECRET", SECRET)];
    for command in ["serve", "check-config"] {
        parlance(&[command, "--config", path.to_str().unwrap()], &good).refused("did you mean `listen`?");
        parlance(&[command, "--config", "/no/such/file.toml"], &good).refused("/no/such/file.toml");
        parlance(&[command], &[]).refused("auth: nothing to verify tokens with");
        parlance(&[command, "--jwt-secret", "hush"], &[]).refused("at least 32 bytes");
        parlance(&[command, "--ack-level", "redis"], &good).refused("ack_level: redis needs Redis");
        parlance(&[command, "--redis-url", "redis://h"], &good).refused("--redis-url: this build");
        parlance(&[command], &[good[0], ("PARLANCE_REDIS_URL", "redis://h")]).refused("PARLANCE_REDIS_URL");
        parlance(&[command, "--listen", "here"], &good).refused("listen");
        parlance(&[command, "--log-level", "loud"], &good).refused("log.level");
        parlance(&[command], &[good[0], ("PARLANCE_TIMINGS_SWEEP_MS", "x")])
            .refused("PARLANCE_TIMINGS_SWEEP_MS");
        let keys = "[{ path = \"/no/key.pem\", algorithm = \"RS256\" }]";
        parlance(&[command], &[("PARLANCE_AUTH_KEYS", keys)]).refused("auth.keys: cannot read /no/key.pem");
    }
    parlance(&["serve", "--listne", "x"], &good).refused("--listne");
    parlance(&["sevre"], &good).refused("sevre");
    parlance(&[], &[]).refused("");
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let run = parlance(args, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(!run.stdout.is_empty());
    }
}

#[test]
fn nodes_says_when_nobody_is_there() {
    let run = parlance(&["nodes", "--url", "http://127.0.0.1:1"], &[]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    parlance(&["nodes", "--url", "nonsense"], &[]).refused("--url");
}
