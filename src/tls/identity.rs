//! A certificate of our own, with its key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, InconsistentKeys, RootCertStore};

use super::pem::{self, PemError};
use super::{Facts, in_file, provider, said};

/// A certificate, what stands between it and its authority, and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    key: Arc<CertifiedKey>,
}

/// Which of the two files is no good, and why.
#[derive(Debug)]
pub(crate) enum IdentityError {
    Certificate(String),
    Key(String),
}

/// Whether a certificate's time is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Now,
    Past,
    Future,
}

impl Identity {
    /// Loads a certificate with its key.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be used, or the two do not belong together.
    pub(crate) fn load(cert_file: &Path, key_file: &Path) -> Result<Identity, Vec<IdentityError>> {
        let chain = pem::certificates(cert_file).map_err(|error| certificate(&error)).and_then(|chain| {
            ParsedCertificate::try_from(&chain[0]).map_err(|error| {
                IdentityError::Certificate(format!("holds a certificate that cannot be used: {}", said(&error)))
            })?;
            Ok(chain)
        });
        let key = pem::key(key_file).map_err(|error| IdentityError::Key(error.to_string()));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(key) => Ok(Identity { cert_file: cert_file.into(), key_file: key_file.into(), key: Arc::new(key) }),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(vec![IdentityError::Key("holds a key of another certificate".to_owned())])
            }
            Err(error) => Err(vec![IdentityError::Key(format!("holds a key that cannot be used: {}", said(&error)))]),
        }
    }

    /// Whether the certificate is valid now. Whoever it is shown to decides what follows.
    pub(crate) fn validity(&self) -> Validity {
        self.key.cert.first().map_or(Validity::Now, validity)
    }

    /// The same, with the first thing that is wrong in one sentence.
    ///
    /// # Errors
    ///
    /// The sentence.
    pub(super) fn load_whole(cert_file: &Path, key_file: &Path) -> Result<Identity, String> {
        Identity::load(cert_file, key_file).map_err(|errors| match errors.first() {
            Some(IdentityError::Certificate(what)) => in_file(cert_file, what),
            Some(IdentityError::Key(what)) => in_file(key_file, what),
            None => in_file(cert_file, "cannot be used"),
        })
    }

    /// That its time is over, in one sentence.
    pub(super) fn expired(&self) -> String {
        format!("the certificate in `{}` has expired", self.cert_file.display())
    }

    /// What the certificate says of its owner.
    ///
    /// # Errors
    ///
    /// When that cannot be read, with the reason.
    pub(crate) fn facts(&self) -> Result<Facts, String> {
        let certificate = self.key.cert.first().ok_or("there is no certificate")?;
        Facts::of(certificate)
            .map_err(|error| format!("the certificate in `{}` cannot be read: {error}", self.cert_file.display()))
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

fn certificate(error: &PemError) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}

/// What webpki says of the time, which it looks at before it asks for an authority. Here there is none to find.
fn validity(certificate: &CertificateDer<'_>) -> Validity {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return Validity::Now };
    let (algorithms, now) = (provider().signature_verification_algorithms.all, UnixTime::now());
    match verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], now, algorithms) {
        Err(rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            Validity::Past
        }
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Validity::Future,
        _ => Validity::Now,
    }
}

/// The same files are the same identity: they are read once, when the configuration is.
impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        (&self.cert_file, &self.key_file) == (&other.cert_file, &other.key_file)
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}
