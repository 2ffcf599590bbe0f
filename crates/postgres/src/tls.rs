//! Who is believed to be the database, and what it is shown: the `ssl…` options of an address.
//!
//! Owns: what each `sslmode` checks, reading certificates and keys. Must not know: what is asked of the database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// No TLS.
    Disable,
    /// TLS where it has it, with anybody: who listens only is kept out, who can answer in its place is not.
    #[default]
    Prefer,
    /// TLS with a certificate that a trusted authority signed, for whichever name.
    Chain,
    /// TLS with a certificate for the host that it is reached at.
    Full,
}

/// The options of an address that are about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    mode: Mode,
    /// Authorities that are trusted; absent: those that browsers trust.
    root: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Tls {
    /// Takes an option, when it is one of its own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, option: &str, value: String) -> Result<bool, String> {
        match (option, value.as_str()) {
            ("sslmode", mode) => self.mode = understood(mode)?,
            ("sslnegotiation", "postgres") => {}
            ("sslrootcert", "" | "system") => self.root = None,
            ("sslrootcert", _) => self.root = Some(value.into()),
            ("sslcert", _) => self.cert = Some(value.into()),
            ("sslkey", _) => self.key = Some(value.into()),
            (other, _) if other.starts_with("ssl") => {
                return Err(format!("{other}: only sslmode, sslrootcert, sslcert and sslkey are understood"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether they go together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Chain && self.root.is_none() {
            // Everybody can have a certificate for some name of theirs.
            return Err("sslmode=verify-ca needs sslrootcert; verify-full does not".to_owned());
        }
        if self.cert.is_some() == self.key.is_some() {
            return Ok(());
        }
        Err("sslcert and sslkey: one needs the other".to_owned())
    }

    /// What tokio-postgres has to know.
    pub const fn ssl_mode(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Chain | Mode::Full => SslMode::Require,
        }
    }

    /// What connections are made with. The files are read now: changed ones count from the next connection on.
    ///
    /// # Errors
    /// Which file cannot be used.
    pub fn connector(&self) -> Result<MakeRustlsConnect, String> {
        // Named here and not taken from the process: a library does not choose for everybody.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let roots = self.roots()?;
        let builder = if self.mode == Mode::Full {
            builder.with_root_certificates(roots)
        } else {
            let roots = (self.mode == Mode::Chain || self.root.is_some()).then_some(roots);
            let lenient = Lenient { provider, roots };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(lenient))
        };
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("sslcert", cert)?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unusable("sslkey", key, &reason(&error)))?;
                let config = builder.with_client_auth_cert(chain, private);
                config.map_err(|error| unusable("sslkey", key, &error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.root else {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(roots);
        };
        for certificate in certificates("sslrootcert", path)? {
            roots.add(certificate).map_err(|error| unusable("sslrootcert", path, &error.to_string()))?;
        }
        Ok(roots)
    }
}

/// `require` checks what `verify-full` does: libpq's, which takes anybody's certificate, protects from nobody who can answer.
fn understood(mode: &str) -> Result<Mode, String> {
    match mode {
        "disable" => Ok(Mode::Disable),
        "prefer" => Ok(Mode::Prefer),
        "verify-ca" => Ok(Mode::Chain),
        "require" | "verify-full" => Ok(Mode::Full),
        _ => Err("sslmode: disable, prefer, require, verify-ca or verify-full".to_owned()),
    }
}

fn unusable(option: &str, path: &Path, why: &str) -> String {
    format!("{option}, {}: {why}", path.display())
}

/// Why a file of PEM cannot be used. What it holds is not told: it may be a key.
fn reason(error: &PemError) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => "it holds nothing of the kind".to_owned(),
        _ => "it is no PEM".to_owned(),
    }
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| unusable(option, path, &reason(&error)))?;
    if all.is_empty() { Err(unusable(option, path, "it holds no certificate")) } else { Ok(all) }
}

/// Takes a certificate for whichever name; without roots anybody's.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
