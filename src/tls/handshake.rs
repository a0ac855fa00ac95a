//! The handshake with a client, and what is known of the connection after it.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ServerConnection};
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::acceptor::{Acceptor, Current};
use super::{ALPN_H2, ClientIdentity, Refusal};
use crate::socket::Stream;

/// The alert `no_application_protocol`, fatal, in a record of its own (RFC 8446 6, RFC 7301 3.2). Nothing is encrypted yet
/// when a client has said no more than its hello.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// How long a client that is turned away may take to hear it: many round trips.
const LINGER: Duration = Duration::from_secs(1);

/// What is known of a connection under TLS.
#[derive(Debug)]
pub(crate) struct Session {
    /// TLS 1.3, and else 1.2.
    pub(crate) is_tls13: bool,
    /// It goes on with what an earlier connection has agreed on.
    pub(crate) resumed: bool,
    /// Who the client is, where that was asked and verified.
    pub(crate) client: Option<ClientIdentity>,
}

impl Acceptor {
    /// Shakes hands with a client. The stream speaks HTTP/2: a client that does not offer it is told so, in TLS' words.
    ///
    /// # Errors
    ///
    /// When there is no TLS to be had, with the reason.
    pub(crate) async fn accept(&self, socket: Stream) -> Result<(TlsStream<Stream>, Session), Refusal> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket);
        let start = start.await.map_err(|error| Refusal::of_io(&error))?;
        let offered = offered(&start.client_hello());
        if !offered.iter().flatten().any(|protocol| protocol.as_bytes() == ALPN_H2) {
            turn_away(start.io).await;
            return Err(Refusal::alpn(offered));
        }
        let current = self.current();
        let stream = start.into_stream(current.config.clone()).await.map_err(|error| Refusal::of_io(&error))?;
        let session = Session::of(stream.get_ref().1, &current)?;
        Ok((stream, session))
    }
}

/// The protocols that a client offers; `None` where it does not speak of them.
fn offered(hello: &ClientHello<'_>) -> Option<Vec<String>> {
    Some(hello.alpn()?.map(|protocol| String::from_utf8_lossy(protocol).into_owned()).collect())
}

/// Says why the connection ends, and waits for the client to end it: a socket that is closed with something unread takes
/// back what was said.
async fn turn_away(mut socket: Stream) {
    let told = async {
        socket.write_all(&NO_APPLICATION_PROTOCOL).await?;
        socket.shutdown().await?;
        let mut unheard = [0; 512];
        while socket.read(&mut unheard).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whether it hears is up to the client; what counts is said in the log and the metrics.
    let _ = timeout(LINGER, told).await;
}

impl Session {
    /// The version of TLS, as in `min_version`.
    pub(crate) fn version(&self) -> &'static str {
        if self.is_tls13 { "1.3" } else { "1.2" }
    }

    fn of(session: &ServerConnection, current: &Arc<Current>) -> Result<Session, Refusal> {
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed {
            verify_again(session, current)?;
        }
        let client = match session.peer_certificates() {
            Some([own, ..]) => Some(ClientIdentity::of(own).map_err(|_| Refusal::unreadable())?),
            _ => None,
        };
        Ok(Session { is_tls13: session.protocol_version() == Some(ProtocolVersion::TLSv1_3), resumed, client })
    }
}

/// A ticket says who the client was when it got the ticket: the certificate may have run out meanwhile.
fn verify_again(session: &ServerConnection, current: &Current) -> Result<(), Refusal> {
    let Some(verifier) = &current.verifier else { return Ok(()) };
    match session.peer_certificates() {
        Some([own, between @ ..]) => {
            verifier.verify_client_cert(own, between, UnixTime::now()).map_err(|error| Refusal::of(&error))?;
            Ok(())
        }
        _ if verifier.client_auth_mandatory() => Err(Refusal::of(&rustls::Error::NoCertificatesPresented)),
        _ => Ok(()),
    }
}
