//! PEM files (RFC 7468).

use std::io;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// What is wrong with a PEM file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PemError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is no PEM file: {0}")]
    Form(String),
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds no certificate revocation list")]
    NoCrl,
    #[error("holds no private key")]
    NoKey,
    #[error("holds an encrypted private key, for which there is no password")]
    EncryptedKey,
}

/// The certificates of a file, in its order; at least one.
///
/// # Errors
///
/// When the file cannot be read, is no PEM, or holds no certificate.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = std::fs::read(path).map_err(PemError::Read)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| form(&error))?;
    if found.is_empty() { Err(PemError::NoCertificate) } else { Ok(found) }
}

/// The certificate revocation lists of a file; at least one.
///
/// # Errors
///
/// When the file cannot be read, is no PEM, or holds no list.
pub(super) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let text = std::fs::read(path).map_err(PemError::Read)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| form(&error))?;
    if found.is_empty() { Err(PemError::NoCrl) } else { Ok(found) }
}

/// The first private key of a file: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
///
/// When the file cannot be read, is no PEM, or holds no key that can be used.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = std::fs::read(path).map_err(PemError::Read)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if contains(&text, b"ENCRYPTED PRIVATE KEY") => Err(PemError::EncryptedKey),
        Err(pem::Error::NoItemsFound) => Err(PemError::NoKey),
        Err(error) => Err(form(&error)),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// In words: the library shows bytes as lists of numbers.
fn form(error: &pem::Error) -> PemError {
    PemError::Form(match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let what = String::from_utf8_lossy(end_marker);
            format!("the line `-----END {}-----` is missing", what.trim_matches('-').trim_start_matches("END "))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a section begins with `{}`", String::from_utf8_lossy(line).trim_end())
        }
        other => other.to_string(),
    })
}
