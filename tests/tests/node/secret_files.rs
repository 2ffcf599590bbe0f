//! Secrets in files of their own: rotated while clients are connected, by a signal or by themselves, and never shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Kind, Server, Setup};
use parlance_tests::gateway::built_binary;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, PATIENCE, Ws};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const OLD: &str = "the-old-secret-of-at-least-32-bytes";
const NEW: &str = "the-new-secret-of-at-least-32-bytes";

/// A folder as Kubernetes mounts a Secret: links into a folder that is exchanged as a whole.
struct Mounted {
    folder: TempDir,
    turn: u32,
}

impl Mounted {
    fn new(files: &[(&str, &str)]) -> Result<Self> {
        let mut mounted = Self { folder: tempfile::tempdir()?, turn: 0 };
        mounted.turn(files)?;
        for (name, _) in files {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mounted.path(name))?;
        }
        Ok(mounted)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Exchanges them all at once.
    fn turn(&mut self, files: &[(&str, &str)]) -> Result<()> {
        self.turn += 1;
        let name = format!("..{}", self.turn);
        fs::create_dir(self.path(&name))?;
        for (file, holds) in files {
            fs::write(self.path(&name).join(file), holds)?;
        }
        std::os::unix::fs::symlink(&name, self.path("..new"))?;
        fs::rename(self.path("..new"), self.path("..data"))?;
        Ok(())
    }
}

fn options(mounted: &Mounted, check_ms: &str) -> Options {
    Options::brief()
        .env("PARLANCE_JWT_SECRET", "")
        .env("PARLANCE_API_KEY", "")
        .env("PARLANCE_AUTH_SECRETS_FILE", &mounted.shown("jwt"))
        .env("PARLANCE_API_KEYS_FILE", &mounted.shown("api"))
        .env("PARLANCE_SECRETS_CHECK_MS", check_ms)
}

async fn accepts(gateway: &Gateway, secret: &str) -> Result<bool> {
    let exp = expiry(Duration::from_secs(3600));
    let token = sign(&json!({ "sub": "alice", "user_id": "alice", "exp": exp }), secret)?;
    Ok(Ws::open(&gateway.url(&format!("/sechat?token={token}")), &[]).await?.is_ok())
}

async fn opens(gateway: &Gateway, key: &str) -> Result<bool> {
    Ok(gateway.internal("GET", "/api/v1/nodes", Some(key), None).await?.status == 200)
}

async fn logged(gateway: &Gateway, words: &str, count: usize) -> Result<()> {
    let seen = async {
        while gateway.log().matches(words).count() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, seen).await.with_context(|| format!("{words}: {}", gateway.log()))
}

fn shows_nothing(gateway: &Gateway) -> Result<()> {
    let log = gateway.log();
    ensure!(![OLD, NEW, "old-api-key", "new-api-key"].iter().any(|secret| log.contains(secret)), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_rotated_secret_is_taken_at_a_signal_and_a_bad_one_is_not() -> Result<()> {
    let mut mounted = Mounted::new(&[("jwt", &format!("{OLD}\n")), ("api", "old-api-key\n")])?;
    let gateway = Gateway::start(options(&mounted, "0")).await?;
    ensure!(accepts(&gateway, OLD).await? && opens(&gateway, "old-api-key").await?);

    mounted.turn(&[("jwt", &format!("{NEW}\n{OLD}\n")), ("api", "new-api-key,old-api-key")])?;
    gateway.signal(Signal::HUP)?;
    logged(&gateway, "configuration reloaded", 1).await?;
    for (secret, key) in [(OLD, "old-api-key"), (NEW, "new-api-key")] {
        ensure!(accepts(&gateway, secret).await? && opens(&gateway, key).await?, "{key}");
    }
    mounted.turn(&[("jwt", NEW), ("api", "new-api-key")])?;
    gateway.signal(Signal::HUP)?;
    logged(&gateway, "configuration reloaded", 2).await?;
    ensure!(!accepts(&gateway, OLD).await? && !opens(&gateway, "old-api-key").await?);

    let mut times = 0;
    let whys = ["is empty", "cannot read", "at least 32 bytes", "white space"];
    for (files, why) in [
        (&[("jwt", "\n"), ("api", "new-api-key")][..], whys[0]),
        (&[("api", "new-api-key")], whys[1]),
        (&[("jwt", "short"), ("api", "new-api-key")], whys[2]),
        (&[("jwt", NEW), ("api", "new api-key")], whys[3]),
    ] {
        mounted.turn(files)?;
        gateway.signal(Signal::HUP)?;
        times += 1;
        logged(&gateway, "the configuration is not reloaded", times).await?;
        ensure!(gateway.log().contains(why), "{why}: {}", gateway.log());
        ensure!(accepts(&gateway, NEW).await? && opens(&gateway, "new-api-key").await?, "{why}");
    }
    shows_nothing(&gateway)
}

#[tokio::test]
async fn a_rotated_secret_is_noticed_without_a_signal() -> Result<()> {
    let mut mounted = Mounted::new(&[("jwt", OLD), ("api", "old-api-key")])?;
    let gateway = Gateway::start(options(&mounted, "500")).await?;
    ensure!(accepts(&gateway, OLD).await?);
    mounted.turn(&[("jwt", "\n"), ("api", "old-api-key")])?;
    logged(&gateway, "the configuration is not reloaded", 1).await?;
    ensure!(accepts(&gateway, OLD).await?, "what cannot be used changes nothing");
    mounted.turn(&[("jwt", NEW), ("api", "new-api-key")])?;
    logged(&gateway, "configuration reloaded", 1).await?;
    ensure!(accepts(&gateway, NEW).await? && !accepts(&gateway, OLD).await?);
    ensure!(opens(&gateway, "new-api-key").await? && !opens(&gateway, "old-api-key").await?);
    ensure!(gateway.log().matches("a file of keys or secrets has changed").count() == 2, "{}", gateway.log());
    shows_nothing(&gateway)
}

#[test]
fn what_cannot_be_read_at_the_start_is_an_error_of_the_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let empty = folder.path().join("empty");
    fs::write(&empty, "")?;
    let (empty, missing) = (empty.display().to_string(), folder.path().join("missing").display().to_string());
    let redis = ("PARLANCE_REDIS_URL", "rediss://127.0.0.1:1");
    for (env, names) in [
        (vec![("PARLANCE_AUTH_SECRETS_FILE", missing.as_str())], "auth.secrets_file: cannot read"),
        (vec![("PARLANCE_API_KEYS_FILE", empty.as_str())], "api_keys_file: "),
        (vec![("PARLANCE_REDIS_PASSWORD_FILE", missing.as_str()), redis], "redis.password_file: cannot read"),
        (vec![("PARLANCE_REDIS_URL_FILE", empty.as_str())], "redis_url_file: "),
        (vec![("PARLANCE_REDIS_CA_FILE", missing.as_str()), redis], "missing"),
        (vec![("PARLANCE_REDIS_CERT_FILE", missing.as_str()), redis], "redis.key_file"),
        (
            vec![
                ("PARLANCE_REDIS_CERT_FILE", missing.as_str()),
                ("PARLANCE_REDIS_KEY_FILE", &missing),
                redis,
            ],
            "missing",
        ),
    ] {
        let mut command = Command::new(built_binary()?);
        command.arg("serve").env_clear().env("PARLANCE_LISTEN", "127.0.0.1:0");
        if !env.iter().any(|(name, _)| *name == "PARLANCE_AUTH_SECRETS_FILE") {
            command.env("PARLANCE_JWT_SECRET", NEW);
        }
        let output = command.current_dir(folder.path()).envs(env.iter().copied()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.lines().count() == 1, "{env:?}: {said}");
        ensure!(said.contains(names) && !said.contains(NEW), "{env:?}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_password_of_redis_is_a_file_too_and_is_rotated() -> Result<()> {
    let server = Server::start(Setup::new(Kind::Plain)).await?;
    let user = ["ACL", "SETUSER", "gateway", "on", ">an old p@ss/word", "~*", "&*", "+@all"];
    server.command(&user).await?;
    let mut mounted = Mounted::new(&[("redis", "an old p@ss/word\n")])?;
    let options = Options::default()
        .env("PARLANCE_REDIS_URL", &server.url())
        .env("PARLANCE_REDIS_USERNAME", "gateway")
        .env("PARLANCE_REDIS_PASSWORD_FILE", &mounted.shown("redis"))
        .env("PARLANCE_SECRETS_CHECK_MS", "0");
    let gateway = Gateway::start(options).await?;
    let clients = server.command(&["CLIENT", "LIST"]).await?;
    ensure!(clients.contains("user=gateway"), "{clients}");

    server.command(&["ACL", "SETUSER", "gateway", "resetpass", ">a new one"]).await?;
    mounted.turn(&[("redis", "a new one")])?;
    gateway.signal(Signal::HUP)?;
    logged(&gateway, "configuration reloaded", 1).await?;
    server.command(&["CLIENT", "KILL", "USER", "gateway"]).await?;
    let sent = async {
        let body = json!({ "id": "c1", "type": "group", "members": ["alice", "bob"] });
        while gateway.api("POST", "/api/v1/conversations", Some(&body)).await?.0 >= 500 {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, sent).await.context("nobody logs in with the new password")??;
    ensure!(!gateway.log().contains("p@ss") && !gateway.log().contains("a new one"), "{}", gateway.log());
    Ok(())
}
