//! TLS as every peer of the comparison speaks it: version 1.3, one group, one suite.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider, kx_group::X25519};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Sessions that a client remembers.
const SESSIONS: usize = 8;

/// A client, with what it remembers of its connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    resumes: bool,
}

impl Client {
    /// One that has no connection behind it, and resumes them or not.
    pub(super) fn new(resumes: bool) -> Client {
        let mut provider = default_provider();
        provider.kx_groups = vec![X25519];
        provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the suite is one of TLS 1.3");
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = if resumes { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() };
        Client { config: Arc::new(config), resumes }
    }

    /// Shakes hands, in full.
    pub(super) async fn shake(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>> {
        self.shake_as(socket, false).await
    }

    /// Shakes hands. Whether the session goes on is looked at: a peer that forgets would be measured as another thing.
    pub(super) async fn shake_as(&self, socket: TcpStream, resumed: bool) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(self.config.clone()).connect(name, socket).await?;
        let session = stream.get_ref().1;
        ensure!(session.alpn_protocol() == Some(b"h2"), "it did not agree on h2");
        let expected = if resumed && self.resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        ensure!(session.handshake_kind() == Some(expected), "a handshake is {:?}", session.handshake_kind());
        Ok(stream)
    }
}

/// Whoever it is: the load shares a core with the backend, and verifying is no work of the peer that is measured.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
