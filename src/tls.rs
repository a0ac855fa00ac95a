//! TLS: what both sides of the gateway need of it.
//!
//! rustls on aws-lc-rs, TLS 1.2 and 1.3, with post-quantum key exchange offered first. Files are read when the
//! configuration is checked: what runs cannot fail for a file. They are looked at again while the gateway works, and taken
//! only when they are good.

mod acceptor;
mod certificate;
mod client;
mod connector;
mod failure;
mod handshake;
mod identity;
mod names;
mod pem;
mod refusal;
mod roots;
mod rotation;
mod unverified;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::ConnectionCommon;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::socket::Stream;
pub(crate) use acceptor::{Acceptor, Clients, Offer, crls, suites};
pub(crate) use certificate::Facts;
pub(crate) use client::ClientIdentity;
pub(crate) use connector::{Connector, Trust};
pub(crate) use failure::{Failure, Reason, rustls_error};
pub(crate) use handshake::Session;
pub(crate) use identity::{Identity, IdentityError, Validity};
pub(crate) use refusal::{Cause, Refusal};
pub(crate) use roots::{from_file, of_the_system};
pub(crate) use rotation::{Rotation, follow_files};

/// What a connection that carries gRPC agrees on (RFC 7301, RFC 9113 3.3).
const ALPN_H2: &[u8] = b"h2";

/// The cryptography, which is one for the whole process. It is handed on and never installed as rustls' default: a
/// library that installs another one changes nothing here.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// What is wrong with a file, in one sentence.
fn in_file(path: &Path, what: impl fmt::Display) -> String {
    format!("the file `{}` {what}", path.display())
}

/// An error of rustls in words; what is wrong with a certificate without the certificate's owner, who differs.
fn said(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Says that the connection ends here (RFC 8446 6.1), whatever ends it: without that a peer cannot tell the end from somebody
/// who cuts it. What the kernel does not take now is not waited for.
pub(crate) fn close<D>(socket: &Stream, session: &mut ConnectionCommon<D>) {
    session.send_close_notify();
    let mut last = Vec::new();
    while session.wants_write() && session.write_tls(&mut last).is_ok_and(|written| written > 0) {}
    let _ = socket.try_write(&last);
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    #[test]
    fn post_quantum_key_exchange_is_offered_first() {
        assert_eq!(super::provider().kx_groups[0].name(), NamedGroup::X25519MLKEM768);
    }
}
