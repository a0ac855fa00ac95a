//! Why there is no TLS connection.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};

use super::said;

/// What kind of failure it is: in the words of a metric, and in those that a client may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    /// Nobody who is believed vouches for the certificate.
    #[error("the backend's certificate is of an unknown CA")]
    UnknownCa,
    /// The certificate was good, and is no more.
    #[error("the backend's certificate has expired")]
    Expired,
    /// The certificate is another's.
    #[error("the backend's certificate has another name")]
    Name,
    /// Something else about the certificate.
    #[error("the backend's certificate is not valid")]
    Certificate,
    /// The backend wants a certificate of ours, or another one.
    #[error("the backend refuses the gateway's certificate, or the lack of one")]
    ClientCertificate,
    /// The backend does not agree on HTTP/2.
    #[error("the backend does not agree on HTTP/2 (ALPN h2)")]
    Alpn,
    /// What came is no TLS.
    #[error("the backend does not speak TLS")]
    NotTls,
    /// The backend ended the connection without a word.
    #[error("the backend closed the connection in the handshake, or right after it")]
    Closed,
    /// `connect_timeout` was over.
    #[error("the backend did not finish the handshake in time")]
    Timeout,
    /// Anything else.
    #[error("the handshake failed")]
    Other,
}

/// A failure, with what the log says of it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    text: String,
}

// === impl Reason ===

impl Reason {
    /// Every reason with its label in a metric, in an order that [`Reason::index`] follows.
    pub(crate) const LABELS: [&str; 10] = [
        "unknown_ca",
        "expired",
        "name",
        "certificate",
        "client_certificate",
        "alpn",
        "not_tls",
        "closed",
        "timeout",
        "other",
    ];

    /// Its place among [`Reason::LABELS`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    fn of(error: &Error) -> Reason {
        match error {
            Error::InvalidCertificate(error) => Reason::of_certificate(error),
            Error::NoCertificatesPresented | Error::UnsupportedNameType => Reason::Certificate,
            Error::AlertReceived(alert) => Reason::of_alert(*alert),
            Error::NoApplicationProtocol
            | Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => Reason::Alpn,
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Reason::NotTls,
            _ => Reason::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Reason {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Reason::Name,
            // The second is one that bears the name of a CA that is believed.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownCa,
            _ => Reason::Certificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Reason {
        match alert {
            AlertDescription::NoApplicationProtocol => Reason::Alpn,
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Reason::ClientCertificate,
            _ => Reason::Other,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// What rustls says, with its own words behind ours where they say more.
    pub(crate) fn of(error: &Error) -> Failure {
        let reason = Reason::of(error);
        let detail = match error {
            Error::AlertReceived(alert) => format!("it sent the alert {alert:?}"),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
                "it speaks neither TLS 1.2 nor 1.3".to_owned()
            }
            other => said(other),
        };
        Failure { reason, text: format!("{reason}: {detail}") }
    }

    /// What a stream of [`TlsStream`](tokio_rustls::client::TlsStream) reports.
    pub(super) fn of_io(error: &io::Error) -> Failure {
        match rustls_error(error) {
            Some(error) => Failure::of(error),
            None => {
                let reason = Reason::Closed;
                Failure { reason, text: format!("{reason}; perhaps it speaks no TLS: {error}") }
            }
        }
    }

    /// The backend ended the connection when the handshake was done on this side.
    pub(crate) fn hung_up(how: &str) -> Failure {
        let reason = Reason::Closed;
        Failure { reason, text: format!("{reason}; perhaps it refuses our certificate, or the lack of one: {how}") }
    }

    /// The backend has agreed on something else than HTTP/2, or on nothing.
    pub(super) fn alpn(agreed: Option<&[u8]>) -> Failure {
        let reason = Reason::Alpn;
        let agreed = agreed.map_or("nothing".to_owned(), |agreed| String::from_utf8_lossy(agreed).into_owned());
        Failure { reason, text: format!("{reason}: it agreed on {agreed}") }
    }

    /// Nobody has said whose certificate to ask for.
    pub(super) fn nameless() -> Failure {
        Failure { reason: Reason::Name, text: "no name is known for the backend's certificate".to_owned() }
    }

    /// The handshake was not done in time.
    pub(crate) fn timeout(after: Duration) -> Failure {
        Failure { reason: Reason::Timeout, text: format!("no end of the handshake within {after:?}") }
    }
}

/// The error of rustls inside one of a stream.
pub(crate) fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_label() {
        let last = Reason::Other;
        assert_eq!(last.index() + 1, Reason::LABELS.len());
        assert_eq!(Reason::LABELS[Reason::Alpn.index()], "alpn");
        assert_eq!(Reason::LABELS[Reason::NotTls.index()], "not_tls");
        assert_eq!(Reason::LABELS[Reason::ClientCertificate.index()], "client_certificate");
    }

    #[test]
    fn a_failure_says_what_and_why() {
        let error = io::Error::other(Error::AlertReceived(AlertDescription::CertificateRequired));
        let failure = Failure::of_io(&error);
        assert_eq!(failure.reason, Reason::ClientCertificate);
        let text =
            "the backend refuses the gateway's certificate, or the lack of one: it sent the alert CertificateRequired";
        assert_eq!(failure.to_string(), text);
        let closed = Failure::of_io(&io::ErrorKind::UnexpectedEof.into());
        assert_eq!(closed.reason, Reason::Closed);
        assert_eq!(
            Failure::alpn(None).to_string(),
            "the backend does not agree on HTTP/2 (ALPN h2): it agreed on nothing"
        );
    }
}
