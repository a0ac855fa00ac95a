//! The certificate authorities that are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;

use super::pem::{self, PemError};
use super::said;

/// Why there are no authorities to believe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("holds a certificate that cannot be used: {0}")]
    Certificate(String),
    #[error("this system has no CA certificates{}", .0.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    System(Option<String>),
}

/// The authorities of a file, each of which must be good.
///
/// # Errors
///
/// When the file cannot be used as a whole.
pub(crate) fn from_file(path: &Path) -> Result<Arc<RootCertStore>, CaError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(path)? {
        roots.add(certificate).map_err(|error| CaError::Certificate(said(&error)))?;
    }
    Ok(Arc::new(roots))
}

/// The authorities that this system believes. One among hundreds that is malformed is passed over, as everywhere.
///
/// # Errors
///
/// When there are none.
pub(crate) fn of_the_system() -> Result<Arc<RootCertStore>, CaError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(CaError::System(found.errors.first().map(ToString::to_string)));
    }
    Ok(Arc::new(roots))
}
