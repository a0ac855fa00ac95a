//! TLS: what both sides of the gateway need of it.
//!
//! rustls on aws-lc-rs, TLS 1.2 and 1.3, with post-quantum key exchange offered first. Files are read when the
//! configuration is checked, and never later: what runs cannot fail for a file.

mod connector;
mod failure;
mod identity;
mod pem;
mod roots;
mod unverified;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub(crate) use connector::{Connector, Trust};
pub(crate) use failure::{Failure, Reason, rustls_error};
pub(crate) use identity::{Identity, IdentityError, Validity};
pub(crate) use roots::{from_file, of_the_system};

/// What a connection that carries gRPC agrees on (RFC 7301, RFC 9113 3.3).
const ALPN_H2: &[u8] = b"h2";

/// The cryptography, which is one for the whole process. It is handed on and never installed as rustls' default: a
/// library that installs another one changes nothing here.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// An error of rustls in words; what is wrong with a certificate without the certificate's owner, who differs.
fn said(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    #[test]
    fn post_quantum_key_exchange_is_offered_first() {
        assert_eq!(super::provider().kx_groups[0].name(), NamedGroup::X25519MLKEM768);
    }
}
