//! The client side: a cluster's TLS, as whoever connects to its backends needs it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::unverified::Unverified;
use super::{ALPN_H2, Failure, Identity, provider};

/// Whom to believe that a backend is who it says.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// These authorities.
    Roots(Arc<RootCertStore>),
    /// Everybody.
    Anybody,
}

/// Makes TLS connections to the backends of a cluster. A clone is the same connector, on whichever thread: sessions that one
/// has begun are resumed by the others.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    /// Of the certificates that it was made from.
    fingerprint: u64,
}

impl Connector {
    /// # Errors
    ///
    /// When rustls has no version of TLS that it could speak, which would be a bug here.
    pub(crate) fn new(trust: Trust, identity: Option<&Identity>) -> Result<Connector, rustls::Error> {
        let fingerprint = fingerprint(&trust, identity);
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match trust {
            Trust::Roots(roots) => builder.with_root_certificates(roots),
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified)),
        };
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        Ok(Connector { config: Arc::new(config), fingerprint })
    }

    /// True when both were made from the same certificates. The files that hold them may have been renewed in between.
    pub(crate) fn has_certificates_of(&self, other: &Connector) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Shakes hands on a connected socket with the backend of this name. The stream speaks HTTP/2: a backend that has not
    /// agreed on it is not spoken to, nor is one of which nobody knows the name.
    ///
    /// What the stream has taken is only under way after a flush.
    ///
    /// # Errors
    ///
    /// When there is no TLS to be had, with the reason.
    pub(crate) async fn connect<S>(
        &self,
        socket: S,
        name: Option<&ServerName<'static>>,
    ) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = name.ok_or_else(Failure::nameless)?;
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(name.clone(), socket).await.map_err(|error| Failure::of_io(&error))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_H2) => Ok(stream),
            agreed => Err(Failure::alpn(agreed)),
        }
    }
}

fn fingerprint(trust: &Trust, identity: Option<&Identity>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match trust {
        Trust::Roots(roots) => roots.roots.hash(&mut hasher),
        Trust::Anybody => {}
    }
    for certificate in identity.map(Identity::chain).unwrap_or_default() {
        certificate.as_ref().hash(&mut hasher);
    }
    hasher.finish()
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
