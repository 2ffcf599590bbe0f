//! How a connection to Redis is opened: TCP, TLS over it where the address says so, and with which login.
//!
//! Owns: what new connections go by, which may change. Must not know: what is said over the connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use parlance_backplane::Fault;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Address;
use super::url::Logins;
use crate::access::{Access, Client, Login};

/// A byte stream in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// An open connection.
pub type Stream = Box<dyn Socket>;

/// Opens connections. Cheap to clone, and clones go by the same; the default one has neither TLS nor login.
#[derive(Clone, Default)]
pub struct Dialer(Arc<RwLock<Terms>>);

/// What connections are made by.
#[derive(Default)]
struct Terms {
    tls: Option<Client>,
    server_name: Option<String>,
    logins: Logins,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.read().tls.is_some() { "Dialer (TLS)" } else { "Dialer" })
    }
}

impl Dialer {
    /// One for an installation whose address says `logins`, and whether TLS is spoken.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when a file cannot be used.
    pub fn new(speaks_tls: bool, logins: Logins, access: &Access) -> Result<Self, Fault> {
        let tls = speaks_tls.then(|| access.tls.client()).transpose()?;
        let logins = Logins {
            server: access.login.clone().or(logins.server),
            sentinel: access.sentinel_login.clone().or(logins.sentinel),
        };
        let server_name = access.tls.server_name.clone();
        Ok(Self(Arc::new(RwLock::new(Terms { tls, server_name, logins }))))
    }

    /// Has this one, and its clones, go by what another one does.
    pub fn become_like(&self, other: Self) {
        if Arc::ptr_eq(&self.0, &other.0) {
            return;
        }
        let terms = std::mem::take(&mut *other.0.write());
        *self.0.write() = terms;
    }

    /// Why a connection broke before its first answer. A server that asks for a certificate ends the connection of whoever
    /// shows none, and may do so before it is heard saying why.
    pub fn explained(&self, address: &Address, error: &io::Error) -> String {
        let terms = self.0.read();
        let asked = address.tls && terms.tls.as_ref().is_some_and(Client::was_asked_in_vain);
        let hint = if asked { "; it asks for a client certificate, and there is none" } else { "" };
        format!("Redis: {error}{hint}")
    }

    /// Who one is there.
    pub fn login(&self, address: &Address) -> Option<Login> {
        let terms = self.0.read();
        if address.sentinel { terms.logins.sentinel.clone() } else { terms.logins.server.clone() }
    }

    /// Opens a connection. Takes as long as the network does: callers bound it.
    ///
    /// # Errors
    /// When nobody answers there, or who answers is not trusted.
    pub async fn dial(&self, address: &Address) -> io::Result<Stream> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        if !address.tls {
            return Ok(Box::new(stream));
        }
        let (tls, name) = {
            let terms = self.0.read();
            (terms.tls.as_ref().map(|client| client.config.clone()), terms.server_name.clone())
        };
        let connector = tls.map(TlsConnector::from).ok_or_else(|| io::Error::other("TLS is not set up"))?;
        let name = ServerName::try_from(name.unwrap_or_else(|| address.host.clone()));
        Ok(Box::new(connector.connect(name.map_err(io::Error::other)?, stream).await?))
    }
}
