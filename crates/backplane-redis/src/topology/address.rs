//! Where one Redis server is, and how to log in there.

use std::fmt;

use parlance_backplane::Fault;

use super::Place;

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
        match Place::parse(url)? {
            Place::Standalone(address) => Ok(address),
            Place::Sentinel { .. } | Place::Cluster(_) => {
                Err(Fault::Unavailable("a Redis address is redis://[user:password@]host[:port]".to_owned()))
            }
        }
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
