//! Where one Redis server is, and how to log in there.

use std::fmt;

use parlance_backplane::Fault;

/// One server. Its password is not shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl Address {
    /// One without login and TLS.
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: false, login: None }
    }

    /// Another server of the same installation: the same login, the same kind of connection.
    #[must_use]
    pub fn beside(&self, host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, ..self.clone() }
    }

    /// Reads `redis://[user:password@]host[:port]`, or `rediss://` for TLS.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when it is something else.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let bad = || Fault::Unavailable("a Redis address is redis://[user:password@]host[:port]".to_owned());
        let (tls, rest) = match url.strip_prefix("rediss://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("redis://").ok_or_else(bad)?),
        };
        let rest = rest.split('/').next().unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let login = login.map(|login| login.split_once(':').unwrap_or((login, "")));
        let login = login.map(|(user, password)| {
            let user = if user.is_empty() { "default" } else { user };
            (user.to_owned(), password.to_owned())
        });
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
            _ => (place, 6379),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() { Err(bad()) } else { Ok(Self { host, port, tls, login }) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
