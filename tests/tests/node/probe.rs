//! `parlance probe`: what a container without a shell asks its node with.

use std::io::Write as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use parlance_tests::gateway::{built_binary, until_status};
use parlance_tests::{Gateway, Options};
use rustix::process::Signal;

fn probe(arguments: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(built_binary()?);
    command.arg("probe").args(arguments).env_clear().envs(env.iter().copied());
    Ok(command.output()?)
}

/// Its exit code, and all it said where people look.
fn said(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ready_is_found_by_its_own_configuration() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    let port = gateway.internal_address().rsplit(':').next().unwrap_or_default().to_owned();
    // Who listens everywhere is asked at the loopback address; secrets are not needed for it.
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "internal_listen = \"0.0.0.0:{port}\"\napi_keys_file = \"/nowhere/keys\"")?;
    let path = file.path().display().to_string();
    let url = format!("http://{}/", gateway.internal_address());
    for (arguments, env) in [
        (vec!["--url", url.as_str()], vec![]),
        (vec!["--config", &path], vec![]),
        (vec![], vec![("PARLANCE_CONFIG", path.as_str())]),
        (vec![], vec![("PARLANCE_INTERNAL_LISTEN", gateway.internal_address())]),
        (vec!["--internal-listen", gateway.internal_address(), "--for", "livez"], vec![]),
        (vec!["--for", "readyz", "--url", &url], vec![("PARLANCE_API_KEY", "whatever")]),
    ] {
        let told = said(&probe(&arguments, &env)?);
        ensure!(told == (Some(0), "ok\n".to_owned()), "{arguments:?} {env:?}: {told:?}");
    }
    // What the public listener has of them.
    let public = format!("http://{}", gateway.address());
    ensure!(said(&probe(&["--url", &public, "--for", "livez"], &[])?).0 == Some(0));
    ensure!(said(&probe(&["--url", &public], &[])?).0 == Some(1), "there is no /readyz for everybody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_ready_or_not_there_is_told_in_one_line() -> Result<()> {
    let mut gateway = Gateway::start(Options::brief().env("PARLANCE_DRAIN_DELAY_MS", "20000")).await?;
    let url = format!("http://{}", gateway.internal_address());
    gateway.signal(Signal::TERM)?;
    until_status(&gateway, "/readyz", 503).await?;
    let (code, line) = said(&probe(&["--url", &url], &[])?);
    ensure!(code == Some(1) && line.lines().count() == 1, "{code:?} {line}");
    ensure!(line.starts_with(&format!("parlance: {url}/readyz: 503: ")), "{line}");
    ensure!(said(&probe(&["--url", &url, "--for", "livez"], &[])?).0 == Some(0), "it lives all the same");
    gateway.kill9()?;
    let (code, line) = said(&probe(&["--url", &url], &[])?);
    ensure!(code == Some(1) && line.lines().count() == 1, "{code:?} {line}");
    ensure!(line.contains("refused"), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_answers_is_not_waited_for() -> Result<()> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let begun = Instant::now();
    let (code, line) = said(&probe(&["--url", &format!("http://{}", silent.local_addr()?)], &[])?);
    ensure!(code == Some(1) && line.contains("no answer within"), "{code:?} {line}");
    ensure!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn what_makes_no_sense_is_an_error_of_the_arguments() -> Result<()> {
    for arguments in [
        &["--url", "https://127.0.0.1"][..],
        &["--url", "127.0.0.1:8083"],
        &["--url", "http://127.0.0.1/path"],
        &["--url", ""],
        &["--for", "metrics"],
        &["--config", "/nowhere/parlance.toml"],
        &["--internal-listen", "nowhere"],
        &["--url", "http://127.0.0.1", "--config", "x"],
        &["--what"],
    ] {
        let (code, line) = said(&probe(arguments, &[])?);
        ensure!(code == Some(2) && line.lines().count() == 1, "{arguments:?}: {code:?} {line}");
    }
    Ok(())
}
