//! How one gets to Redis besides knowing where it is: logins, and what TLS shows and trusts.
//!
//! Owns: reading certificates and keys. Must not know: addresses, what is said over a connection.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parlance_backplane::Fault;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

/// A user and a password, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The ACL user.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.user)
    }
}

/// What may change while the engine runs: connections that are made from then on go by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// At the servers; absent: as the address says.
    pub login: Option<Login>,
    /// At the Sentinels; absent: as the address says.
    pub sentinel_login: Option<Login>,
    /// How TLS is spoken, where it is.
    pub tls: Tls,
}

/// What TLS trusts and shows, as PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates that are trusted; absent: those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate, and those between it and its authority.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The name that servers' certificates must be for; absent: the host they are reached at.
    pub server_name: Option<String>,
}

fn unusable(what: &str, path: &Path, why: &str) -> Fault {
    Fault::Unavailable(format!("{what}, {}: {why}", path.display()))
}

/// Why a file of PEM cannot be used. What it holds is not told: it may be a key.
fn reason(error: &PemError) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => "it holds nothing of the kind".to_owned(),
        _ => "it is no PEM".to_owned(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| reason(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| reason(&error))?;
    if all.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(all) }
}

const TRUSTED: &str = "the certificates Redis is trusted by";
const CERT: &str = "the client certificate for Redis";
const KEY: &str = "the key of the client certificate for Redis";

fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in certificates(path).map_err(|why| unusable(TRUSTED, path, &why))? {
        roots.add(certificate).map_err(|error| unusable(TRUSTED, path, &error.to_string()))?;
    }
    Ok(roots)
}

/// What TLS connections are made with.
pub struct Client {
    pub config: Arc<ClientConfig>,
    /// Where nothing is shown: whether somebody asked.
    nothing: Option<Arc<Nothing>>,
}

/// Shows no certificate, and remembers whether one was asked for.
#[derive(Debug, Default)]
struct Nothing(AtomicBool);

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl Client {
    /// Whether a server asked for a certificate and there is none to show.
    pub fn was_asked_in_vain(&self) -> bool {
        self.nothing.as_ref().is_some_and(|nothing| nothing.0.load(Ordering::Relaxed))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] that names the file that cannot be used.
    pub fn check(&self) -> Result<(), Fault> {
        self.client().map(drop)
    }

    /// What TLS connections are made with.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] that names the file that cannot be used.
    pub(crate) fn client(&self) -> Result<Client, Fault> {
        // Named here and not taken from the process: a library does not choose for everybody.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::Unavailable(format!("TLS: {error}")))?
            .with_root_certificates(trusted(self.ca_file.as_deref())?);
        let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) else {
            let nothing = Arc::<Nothing>::default();
            let config = Arc::new(builder.with_client_cert_resolver(nothing.clone()));
            return Ok(Client { config, nothing: Some(nothing) });
        };
        let chain = certificates(cert).map_err(|why| unusable(CERT, cert, &why))?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(KEY, key, &reason(&error)))?;
        let config = builder.with_client_auth_cert(chain, private);
        let config = config.map_err(|error| unusable(KEY, key, &error.to_string()))?;
        Ok(Client { config: Arc::new(config), nothing: None })
    }
}
