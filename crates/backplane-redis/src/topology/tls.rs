//! How a connection to Redis is opened: TCP, and TLS over it where the address says so.
//!
//! Owns: whom TLS trusts. Must not know: what is said over the connection.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parlance_backplane::Fault;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Address;

/// A byte stream in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// An open connection.
pub type Stream = Box<dyn Socket>;

/// Opens connections. Cheap to clone; the default one has no TLS.
#[derive(Clone, Default)]
pub struct Dialer {
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() { "Dialer (TLS)" } else { "Dialer" })
    }
}

fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let all = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in all {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

impl Dialer {
    /// One that can speak TLS. It trusts the certificates in the PEM file, or, without one, what browsers trust.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the file cannot be used.
    pub fn with_tls(ca_file: Option<&Path>) -> Result<Self, Fault> {
        let roots = trusted(ca_file).map_err(|why| {
            let path = ca_file.unwrap_or(Path::new("")).display();
            Fault::Unavailable(format!("the certificates Redis is trusted by, {path}: {why}"))
        })?;
        // Named here and not taken from the process: a library does not choose for everybody.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::Unavailable(format!("TLS: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(Arc::new(config)) })
    }

    /// What TLS connections are made with.
    pub fn connector(&self) -> Option<TlsConnector> {
        self.tls.clone().map(TlsConnector::from)
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
        let connector = self.connector().ok_or_else(|| io::Error::other("TLS is not set up"))?;
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}
