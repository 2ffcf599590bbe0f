//! `parlance archive`: tables ahead of time, what is in them, and a process of its own that writes.

use std::process::{Child, Command, Stdio};

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Postgres, SECRET, built_binary};

use super::{are_whole, kept_in};
use crate::webhooks::{connect, say};

pub fn command(what: &str, environment: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(built_binary()?);
    command.arg("archive").args(what.split(' ')).env("PARLANCE_JWT_SECRET", SECRET);
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    Ok(command)
}

/// What it says, when it succeeds.
pub fn said(what: &str, environment: &[(&str, &str)]) -> Result<String> {
    let (came, line) = outcome(what, environment)?;
    ensure!(came, "{line}");
    Ok(line)
}

/// Whether it succeeds, and what it says then, or why not.
pub fn outcome(what: &str, environment: &[(&str, &str)]) -> Result<(bool, String)> {
    let output = command(what, environment)?.output()?;
    let came = output.status.success();
    Ok((came, String::from_utf8(if came { output.stdout } else { output.stderr })?))
}

/// Dropped, it is killed.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_process_of_its_own_writes_what_nodes_leave_to_it() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let (url, redis_url) = (postgres.url(), redis.url());
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str()), ("PARLANCE_REDIS_URL", redis_url.as_str())];
    let before = said("status", &environment)?;
    ensure!(before.contains("migrations: none") && before.contains("missing: 0001 tables"), "{before}");
    let migrated = said("migrate", &environment)?;
    ensure!(migrated.starts_with("applied 0001 tables\n") && migrated.ends_with("\ndone\n"), "{migrated}");
    ensure!(said("migrate", &environment)? == "nothing to do\n");
    let options = kept_in(&postgres, "run = false").env("PARLANCE_REDIS_URL", &redis_url);
    let gateway = Gateway::start(options).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for n in 0..20 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages").await? == 0, "nobody writes yet");
    let writer = command("run", &environment)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let _writer = Writer(writer);
    are_whole(&postgres, 20).await?;
    let after = said("status", &environment)?;
    ensure!(
        after.contains("migrations: 0001 ") && !after.contains("missing") && after.contains("messages: 20\n"),
        "{after}"
    );
    ensure!(after.contains("waiting: 0") && after.contains("put aside: 0"), "{after}");
    Ok(())
}

#[test]
fn what_cannot_be_is_said() -> Result<()> {
    let refused = |environment: &[(&str, &str)], what: &str| -> Result<String> {
        let output = command(what, environment)?.output()?;
        ensure!(output.status.code() == Some(2), "{:?}", output.status);
        Ok(String::from_utf8(output.stderr)?)
    };
    ensure!(refused(&[], "migrate")?.contains("archive.url: is not set"));
    let tls = refused(&[("PARLANCE_ARCHIVE_URL", "postgresql://me:hush@db/chat?sslmode=allow")], "status")?;
    ensure!(tls.contains("archive.url: sslmode: disable, prefer, require") && !tls.contains("hush"), "{tls}");
    let alone = refused(&[("PARLANCE_ARCHIVE_URL", "postgresql://db/chat")], "run")?;
    ensure!(alone.contains("redis_url: the embedded engine is of one process"), "{alone}");
    Ok(())
}
