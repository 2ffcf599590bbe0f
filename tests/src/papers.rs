//! Certificates of an authority of the test's own, and one of a stranger's.
//!
//! Owns: who is named in them. Must not know: who shows them.

use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Writes `ca.pem`; a server's, for `localhost` only, as `server.pem` and `server.key`; a client's, who is called `certified`, as
/// `client.pem` and `client.key`; and `stranger.pem`, an authority that signed none of them.
///
/// # Errors
/// When one cannot be made or written.
pub fn write(folder: &Path) -> Result<()> {
    let issuer = authority(folder, "ca.pem")?;
    authority(folder, "stranger.pem")?;
    for (file, names, called) in
        [("server", vec!["localhost".to_owned()], "a server"), ("client", vec![], "certified")]
    {
        let key = KeyPair::generate()?;
        let mut paper = CertificateParams::new(names)?;
        paper.distinguished_name.push(DnType::CommonName, called);
        std::fs::write(folder.join(file).with_extension("pem"), paper.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(folder.join(file).with_extension("key"), key.serialize_pem())?;
    }
    Ok(())
}

fn authority(folder: &Path, file: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut paper = CertificateParams::new(Vec::new())?;
    paper.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Without a name of its own it would look as if everybody had signed themselves.
    paper.distinguished_name.push(DnType::CommonName, format!("an authority of {file}"));
    std::fs::write(folder.join(file), paper.self_signed(&key)?.pem())?;
    Ok(Issuer::new(paper, key))
}
