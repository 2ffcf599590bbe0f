//! Where one Redis server is.

use std::fmt;

/// One server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether it is a Sentinel: these have a login of their own.
    pub sentinel: bool,
}

impl Address {
    /// A server without TLS.
    #[cfg(test)]
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: false, sentinel: false }
    }

    /// Another server of the same installation: the same kind of connection.
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
