//! Certificates of an authority of the test's own.

use std::path::PathBuf;

use parlance_redis_rig::{Kind, Setup};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority, and certificates it signed: of a server, and of a client.
pub struct Papers {
    folder: TempDir,
}

impl Papers {
    /// New ones.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Without names of their own all would look as if they had signed themselves.
        authority.distinguished_name.push(DnType::CommonName, "an authority");
        let ca = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "localhost", "redis.internal"].map(str::to_owned).to_vec();
        let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let client_key = KeyPair::generate().unwrap();
        let mut client = CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
        client.distinguished_name.push(DnType::CommonName, "a client");
        let client = client.signed_by(&client_key, &issuer).unwrap();
        let files = [
            ("ca.pem", ca.pem()),
            ("server.pem", server.pem()),
            ("server.key", key.serialize_pem()),
            ("client.pem", client.pem()),
            ("client.key", client_key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What clients trust.
    pub fn ca(&self) -> Option<PathBuf> {
        Some(self.path("ca.pem"))
    }

    /// How a server is started that shows them.
    pub fn setup(&self, kind: Kind) -> Setup {
        let path = |name| self.path(name).display().to_string();
        Setup::new(kind)
            .set("tls-cert-file", &path("server.pem"))
            .set("tls-key-file", &path("server.key"))
            .set("tls-ca-cert-file", &path("ca.pem"))
            .set("tls-auth-clients", "no")
    }
}
