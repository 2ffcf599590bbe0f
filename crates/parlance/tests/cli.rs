//! The real binary: what it prints, what it refuses, and its exit codes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
        parlance(&[command, "--redis-url", "http://h"], &good).refused("redis_url: expected redis://");
        parlance(&[command, "--ack-level", "memory"], &[good[0], ("PARLANCE_REDIS_URL", "redis://h")])
            .refused("ack_level: memory is of the embedded engine");
        parlance(&[command, "--redis-url", "redis://h", "--redis-prefix", "a b"], &good)
            .refused("redis.prefix");
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

/// A gateway process; killed when a test ends early.
struct Gateway(std::process::Child);

impl Gateway {
    /// Starts one on free ports and returns it with its `ready` line.
    fn start(command: &str, data: &Path, env: &[(&str, &str)]) -> (Self, String) {
        let mut gateway = Self(
            Command::new(env!("CARGO_BIN_EXE_parlance"))
                .args([command, "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", "--data-dir"])
                .arg(data)
                .env_clear()
                .envs(env.iter().copied())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let out = BufReader::new(gateway.0.stdout.take().unwrap());
        let ready = out.lines().map(Result::unwrap).find(|line| line.starts_with("ready "));
        (gateway, ready.expect("it ended before it was ready"))
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; the exit code and what it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut logged = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut logged).unwrap();
        (self.0.wait().unwrap().code(), logged)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serve_says_where_it_is_and_stops_cleanly_on_a_signal() {
    for name in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let (gateway, ready) = Gateway::start("serve", folder.path(), &[("PARLANCE_JWT_SECRET", SECRET)]);
        let (public, internal) =
            ready.strip_prefix("ready public=").unwrap().split_once(" internal=").unwrap();
        for address in [public, internal] {
            assert!(std::net::TcpStream::connect(address).is_ok(), "{address}");
        }
        gateway.signal(name);
        let (code, logged) = gateway.end();
        assert_eq!(code, Some(0), "{logged}");
        assert!(!logged.contains(SECRET));
        assert!(logged.lines().all(|line| line.starts_with('{')), "no terminal, so JSON: {logged}");
    }
}

#[test]
fn an_unusable_reload_leaves_the_node_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &format!("[auth]\nsecrets = [\"{SECRET}\"]\n"));
    let env = [("PARLANCE_CONFIG", path.to_str().unwrap())];
    let (mut gateway, ready) = Gateway::start("serve", folder.path(), &env);
    let mut log = BufReader::new(gateway.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut told = |part: &str| log.find(|line| line.contains(part)).unwrap();

    file(folder.path(), "listem = \"x\"\n");
    gateway.signal("HUP");
    assert!(told("the configuration is not reloaded").contains("did you mean `listen`?"));
    let public = ready.split_once("public=").unwrap().1.split_once(' ').unwrap().0;
    assert!(std::net::TcpStream::connect(public).is_ok());

    file(folder.path(), &format!("[auth]\nsecrets = [\"{SECRET}\"]\n[log]\nlevel = \"info\"\n"));
    gateway.signal("HUP");
    told("configuration reloaded");
}

#[test]
fn dev_shows_what_to_paste_and_lists_its_node() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, ready) = Gateway::start("dev", folder.path(), &[]);
    let internal = ready.split_once("internal=").unwrap().1;
    let run = parlance(&["nodes", "--url", &format!("http://{internal}")], &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("ID ") && run.stdout.contains("node-"), "{}", run.stdout);
    let wrong = parlance(&["nodes", "--url", &format!("http://{internal}"), "--api-key", "guess"], &[]);
    assert_eq!(wrong.code, Some(1));
    gateway.signal("TERM");
    assert_eq!(gateway.end().0, Some(0));
}

#[test]
fn an_address_in_use_ends_with_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().to_str().unwrap();
    let args = ["serve", "--listen", &address, "--internal-listen", "127.0.0.1:0", "--data-dir", data];
    let run = parlance(&args, &[("PARLANCE_JWT_SECRET", SECRET)]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("cannot listen on {address}")), "{}", run.stderr);
}
