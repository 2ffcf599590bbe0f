//! TLS to PostgreSQL: who is believed, and what is said of those who are not.

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Postgres};

use super::are_whole;
use super::command::{outcome, said};
use crate::webhooks::{connect, say};

/// What is said of an address at which nothing may be had.
fn refused(url: &str) -> Result<String> {
    let (came, line) = outcome("status", &[("PARLANCE_ARCHIVE_URL", url)])?;
    ensure!(!came, "{url}");
    Ok(line)
}

#[tokio::test]
async fn only_whom_the_address_trusts_is_believed() -> Result<()> {
    let postgres = Postgres::start_with_tls().await?;
    let (ca, stranger) = (postgres.paper("ca.pem"), postgres.paper("stranger.pem"));
    let at = |host: &str, options: &str| postgres.url_as("parlance", host, options);
    for (host, options) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("localhost", format!("sslmode=require&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=disable".to_owned()),
    ] {
        let line = said("status", &[("PARLANCE_ARCHIVE_URL", &at(host, &options))])?;
        ensure!(line.contains("migrations: none"), "{line}");
    }
    for (host, options, why) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), "not valid for name"),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ca}"), "not valid for name"),
        ("localhost", "sslmode=require".to_owned(), "UnknownIssuer"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={stranger}"), "invalid peer certificate"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={stranger}"), "invalid peer certificate"),
        ("localhost", format!("sslmode=prefer&sslrootcert={stranger}"), "invalid peer certificate"),
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert=/not/there.pem".to_owned(),
            "sslrootcert, /not/there.pem: No such",
        ),
    ] {
        let line = refused(&at(host, &options))?;
        ensure!(line.contains(why), "{options}: {line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_asked_for() -> Result<()> {
    let postgres = Postgres::start().await?;
    let at = |mode: &str| postgres.url_as("parlance", "localhost", &format!("sslmode={mode}"));
    for mode in ["require", "verify-full"] {
        let line = refused(&at(mode))?;
        ensure!(line.contains("server does not support TLS"), "{mode}: {line}");
    }
    ensure!(said("status", &[("PARLANCE_ARCHIVE_URL", &at("prefer"))])?.contains("migrations: none"));
    Ok(())
}

#[tokio::test]
async fn a_client_shows_its_certificate() -> Result<()> {
    let postgres = Postgres::start_with_tls().await?;
    postgres.rows("CREATE ROLE certified LOGIN SUPERUSER").await?;
    let full = format!("sslmode=verify-full&sslrootcert={}", postgres.paper("ca.pem"));
    let without = refused(&postgres.url_as("certified", "localhost", &full))?;
    ensure!(without.contains("requires a valid client certificate"), "{without}");
    let (cert, key) = (postgres.paper("client.pem"), postgres.paper("client.key"));
    let with = postgres.url_as("certified", "localhost", &format!("{full}&sslcert={cert}&sslkey={key}"));
    ensure!(said("migrate", &[("PARLANCE_ARCHIVE_URL", &with)])?.ends_with("done\n"));
    Ok(())
}

#[tokio::test]
async fn a_node_writes_over_tls_and_without_it_as_the_address_says() -> Result<()> {
    let postgres = Postgres::start_with_tls().await?;
    let full = format!("sslmode=verify-full&sslrootcert={}", postgres.paper("ca.pem"));
    for (messages, options, over_tls) in
        [(1, full.as_str(), true), (2, "sslmode=prefer", true), (3, "sslmode=disable", false)]
    {
        let url = postgres.url_as("parlance", "localhost", options);
        let gateway = Gateway::start(Options::default().env("PARLANCE_ARCHIVE_URL", &url)).await?;
        say(
            &mut connect(&gateway, "alice").await?,
            &format!("m-{messages}"),
            &format!("c-{messages}"),
            &["bob"],
        )
        .await?;
        are_whole(&postgres, messages).await?;
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'parlance-archive' AND ssl";
        ensure!((postgres.number(encrypted).await? > 0) == over_tls, "{options}");
    }
    Ok(())
}
