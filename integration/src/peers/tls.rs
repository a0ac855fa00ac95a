//! The client side of TLS, on rustls: what it offers is up to the test, and what came of it is shown.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Client;
use super::within;
use crate::certificates::{Authority, Certificate};

/// What a client offers. Clones share their sessions, which later connections resume.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A connection that came about.
#[derive(Debug)]
pub struct Secured {
    /// The stream.
    pub stream: TlsStream<TcpStream>,
    /// The client's own address.
    pub address: SocketAddr,
}

impl Tls {
    /// Believes this authority, and offers HTTP/2 and all versions.
    ///
    /// # Errors
    ///
    /// When the certificate of the authority cannot be read.
    pub fn believing(authority: &Authority) -> Result<Tls> {
        Tls::of(authority, None, &["1.2", "1.3"])
    }

    /// The same, with a certificate of its own.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be read.
    pub fn known_as(authority: &Authority, own: &Certificate) -> Result<Tls> {
        Tls::of(authority, Some(own), &["1.2", "1.3"])
    }

    /// The same, of these versions alone.
    ///
    /// # Errors
    ///
    /// When a certificate cannot be read.
    pub fn of(authority: &Authority, own: Option<&Certificate>, versions: &[&str]) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.file())?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let versions: Vec<_> = versions.iter().map(|version| if *version == "1.3" { &TLS13 } else { &TLS12 }).collect();
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions)?;
        let builder = builder.with_webpki_verifier(verifier);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_file(&own.key)?;
                builder.with_client_auth_cert(vec![CertificateDer::from_pem_file(&own.cert)?], key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls { config: Arc::new(config), name: ServerName::try_from("127.0.0.1")? })
    }

    /// Asks for this name.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn asking_for(mut self, name: &str) -> Result<Tls> {
        self.name = ServerName::try_from(name.to_owned())?;
        Ok(self)
    }

    /// Offers these protocols, and forgets its sessions.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Tls {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Connects, up to the end of the handshake.
    ///
    /// # Errors
    ///
    /// When there is none, as TLS says it.
    pub async fn shake(&self, address: SocketAddr) -> Result<Secured> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        self.shake_on(socket).await
    }

    /// The same, on what is connected already.
    ///
    /// # Errors
    ///
    /// When there is none, as TLS says it.
    pub async fn shake_on(&self, socket: TcpStream) -> Result<Secured> {
        let own = socket.local_addr()?;
        let connecting = TlsConnector::from(self.config.clone()).connect(self.name.clone(), socket);
        Ok(Secured { stream: within("a handshake", connecting).await??, address: own })
    }

    /// Connects, up to HTTP/2.
    ///
    /// # Errors
    ///
    /// When there is no TLS, or no HTTP/2 on it.
    pub async fn connect(&self, address: SocketAddr) -> Result<Client> {
        self.shake(address).await?.client().await
    }
}

impl Secured {
    /// Speaks HTTP/2.
    ///
    /// # Errors
    ///
    /// When the other side does not.
    pub async fn client(self) -> Result<Client> {
        Client::over(self.stream, self.address).await
    }

    /// True when it goes on with an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that was shown, as it is.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.stream.get_ref().1.peer_certificates()?.first().cloned()
    }

    /// The version of TLS and the cipher suite.
    #[must_use]
    pub fn agreed(&self) -> String {
        let session = self.stream.get_ref().1;
        format!("{:?} {:?}", session.protocol_version(), session.negotiated_cipher_suite())
    }
}

impl Certificate {
    /// Itself, as it goes over the wire.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn der(&self) -> Result<CertificateDer<'static>> {
        Ok(CertificateDer::from_pem_file(&self.cert)?)
    }
}
