//! Where one Redis server is, and how to log in there.

use std::fmt;

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
    #[cfg(test)]
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: false, login: None }
    }

    /// Another server of the same installation: the same login, the same kind of connection.
    #[must_use]
    pub fn beside(&self, host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, ..self.clone() }
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
