//! Where the database is, as `postgresql://user:password@host:port/database`.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

const PATIENCE: Duration = Duration::from_secs(5);

/// Reads an address; `name` is what the server shows of the connection, unless the address says another.
///
/// # Errors
/// What is wrong with it; never the address itself, which may hold a password.
pub fn parse(address: &str, name: &str) -> Result<Config, String> {
    let scheme = ["postgresql://", "postgres://"].iter().any(|scheme| address.starts_with(scheme));
    if !scheme {
        return Err("expected postgresql://user:password@host:port/database".to_owned());
    }
    if asks_for_tls(address) {
        return Err(
            "TLS to PostgreSQL is not supported yet: only sslmode=disable is, on a network that is trusted"
                .to_owned(),
        );
    }
    let mut config: Config =
        address.parse().map_err(|_| "expected postgresql://user:password@host:port/database".to_owned())?;
    if config.get_hosts().is_empty() {
        return Err("the address names no host".to_owned());
    }
    config.ssl_mode(SslMode::Disable).keepalives_idle(Duration::from_secs(30));
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    if config.get_application_name().is_none() {
        config.application_name(name);
    }
    Ok(config)
}

fn asks_for_tls(address: &str) -> bool {
    let options = address.split_once('?').map_or("", |(_, options)| options);
    let named = |option: &&str| option.starts_with("sslmode=") || option.starts_with("sslnegotiation=");
    options.split('&').filter(named).any(|option| option != "sslmode=disable")
}

/// Checks an address without opening anything.
///
/// # Errors
/// What is wrong with it.
pub fn check(address: &str) -> Result<(), String> {
    parse(address, "").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_what_is_wrong_is_said_without_them() {
        assert!(check("postgresql://parlance:secret@db.example:5432/chat").is_ok());
        assert!(check("postgres://db/chat?sslmode=disable").is_ok());
        for (bad, why) in [
            ("mysql://hush@db/chat", "expected postgresql://"),
            ("postgresql://hush@db:port/chat", "expected postgresql://"),
            ("postgresql:///chat", "names no host"),
            ("postgresql://hush@db/chat?sslmode=require", "TLS"),
            ("postgresql://hush@db/chat?a=b&sslmode=verify-full", "TLS"),
        ] {
            let line = check(bad).unwrap_err();
            assert!(line.contains(why) && !line.contains("hush"), "{line}");
        }
    }
}
