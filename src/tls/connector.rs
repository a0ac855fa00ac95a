//! The client side: a cluster's TLS, as whoever connects to its backends needs it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::rotation::{Look, Renewed, Rotation};
use super::unverified::Unverified;
use super::{ALPN_H2, Failure, Identity, Validity, in_file, provider, roots, said};

/// Whom to believe that a backend is who it says.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// The authorities of this file.
    File(PathBuf),
    /// These authorities.
    Roots(Arc<RootCertStore>),
    /// Everybody.
    Anybody,
}

/// Makes TLS connections to the backends of a cluster. A clone is the same connector, on whichever thread: sessions that one
/// has begun are resumed by the others.
#[derive(Clone)]
pub(crate) struct Connector {
    source: Arc<Source>,
}

/// What a cluster's connections are made with, and the files that it is of.
pub(crate) struct Source {
    trust: Trust,
    /// A certificate of our own, and its key.
    identity: Option<(PathBuf, PathBuf)>,
    current: ArcSwap<Current>,
    rotation: Rotation,
}

/// What connections are made with now.
struct Current {
    config: Arc<ClientConfig>,
    look: Look,
    /// Until when the certificate of our own is valid.
    not_after: Option<i64>,
}

impl Connector {
    /// # Errors
    ///
    /// When the files are no good, with the reason.
    pub(crate) fn new(trust: Trust, identity: Option<(PathBuf, PathBuf)>) -> Result<Connector, String> {
        let look = Look::at(files(&trust, identity.as_ref()));
        let current = make(&trust, identity.as_ref(), look, false)?;
        let current = ArcSwap::from_pointee(current);
        Ok(Connector { source: Arc::new(Source { trust, identity, current, rotation: Rotation::default() }) })
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
        let connector = TlsConnector::from(self.source.current.load().config.clone());
        let stream = connector.connect(name.clone(), socket).await.map_err(|error| Failure::of_io(&error))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_H2) => Ok(stream),
            agreed => Err(Failure::alpn(agreed)),
        }
    }

    /// Until when our own certificate is valid, in seconds since 1970; `None` without one.
    pub(crate) fn not_after(&self) -> Option<i64> {
        self.source.current.load().not_after
    }

    /// How its files were exchanged so far.
    pub(crate) fn rotation(&self) -> &Rotation {
        &self.source.rotation
    }

    /// True when both were made of files that were the same.
    pub(crate) fn has_read_what(&self, other: &Connector) -> bool {
        self.source.used() == other.source.used()
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }
}

impl Renewed for Source {
    fn look(&self) -> Look {
        Look::at(files(&self.trust, self.identity.as_ref()))
    }

    fn used(&self) -> Look {
        self.current.load().look
    }

    fn take(&self, seen: Look) -> Result<(), String> {
        self.current.store(Arc::new(make(&self.trust, self.identity.as_ref(), seen, true)?));
        Ok(())
    }

    fn rotation(&self) -> &Rotation {
        &self.rotation
    }
}

fn files<'s>(trust: &'s Trust, identity: Option<&'s (PathBuf, PathBuf)>) -> impl Iterator<Item = &'s Path> {
    let ca = if let Trust::File(file) = trust { Some(&**file) } else { None };
    ca.into_iter().chain(identity.into_iter().flat_map(|(cert, key)| [&**cert, &**key]))
}

/// `is_valid`: a certificate of our own that has expired is none.
fn make(trust: &Trust, identity: Option<&(PathBuf, PathBuf)>, look: Look, is_valid: bool) -> Result<Current, String> {
    let identity = identity.map(|(cert, key)| Identity::load_whole(cert, key)).transpose()?;
    if let Some(gone) = identity.as_ref().filter(|own| is_valid && own.validity() == Validity::Past) {
        return Err(gone.expired());
    }
    let not_after = identity.as_ref().map(Identity::facts).transpose()?.map(|facts| facts.not_after);
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| said(&error))?;
    let builder = match trust {
        Trust::File(file) => {
            builder.with_root_certificates(roots::from_file(file).map_err(|error| in_file(file, error))?)
        }
        Trust::Roots(roots) => builder.with_root_certificates(roots.clone()),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified)),
    };
    let mut config = match &identity {
        Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Current { config: Arc::new(config), look, not_after })
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
