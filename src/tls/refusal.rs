//! Why there is no TLS connection from a client.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{rustls_error, said};

/// What kind of failure it is, in the words of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The client does not offer HTTP/2.
    Alpn,
    /// It speaks no version of TLS that the listener does.
    Version,
    /// Nothing else in common: cipher suites, groups, kinds of signatures.
    Parameters,
    /// It shows no certificate, and must.
    NoCertificate,
    /// Nobody who is believed vouches for its certificate.
    UnknownCa,
    /// Its certificate was good, and is no more.
    Expired,
    /// Its certificate was revoked, or nobody can say that it was not.
    Revoked,
    /// Something else about its certificate.
    Certificate,
    /// It does not believe the certificate of the listener.
    Refused,
    /// What came is no TLS.
    NotTls,
    /// It ended the connection without a word.
    Closed,
    /// `handshake_timeout` was over.
    Timeout,
    /// A drain has begun meanwhile.
    Drain,
    /// Anything else.
    Other,
}

/// A failure, with what the log says of it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refusal {
    pub(crate) cause: Cause,
    text: String,
}

impl Cause {
    /// Every cause with its label in a metric, in an order that [`Cause::index`] follows.
    pub(crate) const LABELS: [&str; 14] = [
        "alpn",
        "version",
        "parameters",
        "no_certificate",
        "unknown_ca",
        "expired",
        "revoked",
        "certificate",
        "refused",
        "not_tls",
        "closed",
        "timeout",
        "drain",
        "other",
    ];

    /// Its place among [`Cause::LABELS`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Its label.
    pub(crate) fn label(self) -> &'static str {
        Cause::LABELS[self.index()]
    }

    fn of(error: &Error) -> Cause {
        match error {
            Error::NoApplicationProtocol => Cause::Alpn,
            Error::NoCertificatesPresented => Cause::NoCertificate,
            Error::InvalidCertificate(error) => Cause::of_certificate(error),
            Error::PeerIncompatible(error) => Cause::of_incompatible(error),
            Error::AlertReceived(alert) => Cause::of_alert(*alert),
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord | Error::InappropriateMessage { .. } => {
                Cause::NotTls
            }
            _ => Cause::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Cause {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::Expired,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::UnknownCa,
            CertificateError::Revoked | CertificateError::UnknownRevocationStatus => Cause::Revoked,
            _ => Cause::Certificate,
        }
    }

    fn of_incompatible(error: &PeerIncompatible) -> Cause {
        match error {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => Cause::Version,
            _ => Cause::Parameters,
        }
    }

    fn of_alert(alert: AlertDescription) -> Cause {
        match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Cause::Refused,
            AlertDescription::ProtocolVersion => Cause::Version,
            AlertDescription::NoApplicationProtocol => Cause::Alpn,
            _ => Cause::Other,
        }
    }
}

impl Refusal {
    /// What a stream of TLS reports in its handshake.
    pub(super) fn of_io(error: &io::Error) -> Refusal {
        match rustls_error(error) {
            Some(error) => Refusal::of(error),
            None => Refusal::closed(error),
        }
    }

    /// The client ended the connection.
    pub(crate) fn closed(error: &io::Error) -> Refusal {
        Refusal { cause: Cause::Closed, text: format!("the client closed the connection: {error}") }
    }

    pub(super) fn of(error: &Error) -> Refusal {
        let cause = Cause::of(error);
        let detail = match error {
            Error::AlertReceived(alert) => format!("the client sent the alert {alert:?}"),
            other => said(other),
        };
        let text = match cause {
            Cause::UnknownCa => format!("the client's certificate is of an unknown CA: {detail}"),
            Cause::Expired | Cause::Revoked | Cause::Certificate => {
                format!("the client's certificate is not valid: {detail}")
            }
            Cause::NoCertificate => "the client shows no certificate".to_owned(),
            Cause::Refused => format!("the client does not believe the listener's certificate: {detail}"),
            Cause::NotTls => format!("the client does not speak TLS: {detail}"),
            _ => detail,
        };
        Refusal { cause, text }
    }

    /// The client offers these protocols, or none.
    pub(super) fn alpn(offered: Option<Vec<String>>) -> Refusal {
        let offered = offered.map_or("nothing".to_owned(), |offered| offered.join(", "));
        Refusal { cause: Cause::Alpn, text: format!("the client does not offer HTTP/2 (ALPN h2): it offers {offered}") }
    }

    /// The certificate is good, and yet it cannot be told whose it is.
    pub(super) fn unreadable() -> Refusal {
        Refusal { cause: Cause::Certificate, text: "the client's certificate cannot be read".to_owned() }
    }

    /// The handshake was not done in time.
    pub(crate) fn timeout(after: Duration) -> Refusal {
        Refusal { cause: Cause::Timeout, text: format!("no end of the handshake within {after:?}") }
    }

    /// The handshake was not done when a drain had to go on.
    pub(crate) fn drain() -> Refusal {
        Refusal { cause: Cause::Drain, text: "the handshake was not done when the drain began".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_label() {
        assert_eq!(Cause::Other.index() + 1, Cause::LABELS.len());
        for (cause, label) in
            [(Cause::Alpn, "alpn"), (Cause::Refused, "refused"), (Cause::Timeout, "timeout"), (Cause::Drain, "drain")]
        {
            assert_eq!(cause.label(), label);
        }
    }
}
