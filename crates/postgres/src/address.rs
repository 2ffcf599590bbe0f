//! Where the database is, as `postgresql://user:password@host:port/database`.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;

use crate::tls::Tls;

const EXPECTED: &str = "expected postgresql://user:password@host:port/database";
const PATIENCE: Duration = Duration::from_secs(5);

/// An address, read.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to get there.
    pub config: Config,
    /// How TLS is spoken there.
    pub tls: Tls,
}

/// Reads an address; `name` is what the server shows of the connection, unless the address says another.
///
/// # Errors
/// What is wrong with it; never the address itself, which may hold a password.
pub fn parse(address: &str, name: &str) -> Result<Target, String> {
    let scheme = ["postgresql://", "postgres://"].iter().any(|scheme| address.starts_with(scheme));
    if !scheme {
        return Err(EXPECTED.to_owned());
    }
    let (address, tls) = without_tls(address)?;
    let mut config: Config = address.parse().map_err(|_| EXPECTED.to_owned())?;
    if config.get_hosts().is_empty() {
        return Err("the address names no host".to_owned());
    }
    config.ssl_mode(tls.ssl_mode()).keepalives_idle(Duration::from_secs(30));
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    if config.get_application_name().is_none() {
        config.application_name(name);
    }
    Ok(Target { config, tls })
}

/// The address without its options of TLS, of which tokio-postgres knows few; and those.
fn without_tls(address: &str) -> Result<(String, Tls), String> {
    let mut tls = Tls::default();
    // A password may hold a question mark.
    let login = address.find('@').unwrap_or_default();
    let Some(at) = address[login..].find('?').map(|at| login + at) else {
        return Ok((address.to_owned(), tls));
    };
    let (place, options) = (&address[..at], &address[at + 1..]);
    let mut others = Vec::new();
    for option in options.split('&') {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| EXPECTED.to_owned())?;
        if !tls.take(key, value.into_owned())? {
            others.push(option);
        }
    }
    tls.check()?;
    let others = others.join("&");
    Ok((if others.is_empty() { place.to_owned() } else { format!("{place}?{others}") }, tls))
}

/// Checks an address without opening a connection; files that it names are read.
///
/// # Errors
/// What is wrong with it.
pub fn check(address: &str) -> Result<(), String> {
    parse(address, "")?.tls.connector().map(drop)
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn addresses_are_understood_and_what_is_wrong_is_said_without_them() {
        assert!(check("postgresql://parlance:secret@db.example:5432/chat").is_ok());
        assert!(check("postgres://db/chat?sslmode=disable").is_ok());
        for (bad, why) in [
            ("mysql://hush@db/chat", "expected postgresql://"),
            ("postgresql://hush@db:port/chat", "expected postgresql://"),
            ("postgresql:///chat", "names no host"),
            ("postgresql://hush@db/chat?sslmode=allow", "sslmode: disable, prefer"),
            ("postgresql://hush@db/chat?sslcrl=hush", "sslcrl: only"),
            ("postgresql://hush@db/chat?sslnegotiation=direct", "sslnegotiation: only"),
            ("postgresql://hush@db/chat?sslcert=/etc/cert.pem", "one needs the other"),
            ("postgresql://hush@db/chat?sslmode=verify-ca", "verify-ca needs sslrootcert"),
            (
                "postgresql://hush@db/chat?sslrootcert=/not/there.pem",
                "sslrootcert, /not/there.pem: No such file",
            ),
            ("postgresql://hush@db/chat?unheard=of", "expected postgresql://"),
        ] {
            let line = check(bad).unwrap_err();
            assert!(line.contains(why) && !line.contains("hush"), "{line}");
        }
    }
    #[test]
    fn what_is_about_tls_is_taken_out_and_the_rest_is_left() {
        let read = |options: &str| parse(&format!("postgresql://me@db/chat{options}"), "test").unwrap();
        for (options, mode) in [
            ("", SslMode::Prefer),
            ("?sslmode=disable", SslMode::Disable),
            ("?sslmode=prefer", SslMode::Prefer),
            ("?sslmode=require&sslrootcert=system", SslMode::Require),
            ("?sslnegotiation=postgres&sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(read(options).config.get_ssl_mode(), mode, "{options}");
            assert!(read(options).tls.connector().is_ok(), "{options}");
        }
        assert_eq!(
            parse("postgresql://me:a?sslb@db/chat", "test").unwrap().config.get_password(),
            Some(&b"a?sslb"[..])
        );
        let target = read("?sslmode=verify-full&application_name=mine&sslrootcert=%2Fa%20folder/ca.pem");
        assert_eq!(target.config.get_application_name(), Some("mine"));
        let why = target.tls.connector().err().unwrap();
        assert!(why.starts_with("sslrootcert, /a folder/ca.pem: "), "{why}");
    }
}
