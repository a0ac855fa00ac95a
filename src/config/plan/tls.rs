//! TLS towards the backends of a cluster, and towards the clients of a listener.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use rustls::pki_types::ServerName;

use super::Plan;
use crate::tls::{Acceptor, Connector};

/// TLS towards the backends of a cluster: what the file says of it, and what makes the connections.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The CA certificates that are believed; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, and the file of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that every backend's certificate must have; `None` means each endpoint's own.
    pub server_name: Option<ServerName<'static>>,
    /// Believes any certificate.
    pub insecure_skip_verify: bool,
    /// How often the files are looked at; `None` is never.
    pub reload_interval: Option<Duration>,
    pub(crate) connector: Connector,
}

impl PartialEq for Tls {
    /// The connector follows from the rest, and from what stands in the files: where nobody follows those, a plan that has read
    /// them anew is another one.
    fn eq(&self, other: &Tls) -> bool {
        let told = |tls: &Tls| {
            let files = (tls.ca_file.clone(), tls.identity.clone(), tls.reload_interval);
            (files, tls.server_name.clone(), tls.insecure_skip_verify)
        };
        let as_read = || self.reload_interval.is_some() || self.connector.has_read_what(&other.connector);
        told(self) == told(other) && as_read()
    }
}

impl Eq for Tls {}

/// TLS towards the clients of a listener: what the file says of it, and what takes the connections.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Certificates with their keys. The first is for clients that ask for none of the others.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// TLS 1.2 is spoken too.
    pub tls12: bool,
    /// The cipher suites that the file asks for; `None` means all.
    pub cipher_suites: Option<Vec<String>>,
    /// How long a client may take to shake hands.
    pub handshake_timeout: Duration,
    /// How often the files are looked at; `None` is never.
    pub reload_interval: Option<Duration>,
    /// Who clients must be; `None` means that nobody asks.
    pub client_auth: Option<ClientAuth>,
    /// How backends are told who a client is; `None` means that they are not.
    pub forward_client_cert: Option<ForwardClientCert>,
    /// Clients without TLS are served too.
    pub allow_plaintext: bool,
    pub(crate) acceptor: Arc<Acceptor>,
}

impl PartialEq for ListenerTls {
    /// The acceptor follows from the rest, and from what stands in the files.
    fn eq(&self, other: &ListenerTls) -> bool {
        let files = |tls: &ListenerTls| (tls.certificates.clone(), tls.client_auth.clone());
        let told = |tls: &ListenerTls| (tls.tls12, tls.cipher_suites.clone(), tls.forward_client_cert.clone());
        let rest = |tls: &ListenerTls| (tls.handshake_timeout, tls.reload_interval, tls.allow_plaintext);
        files(self) == files(other) && told(self) == told(other) && rest(self) == rest(other)
    }
}

impl Eq for ListenerTls {}

impl Plan {
    /// The same, where listeners and clusters whose TLS is as it was keep what makes their connections: sessions are resumed,
    /// and counters go on. Files that nobody follows are those that this plan was made with.
    #[must_use]
    pub(crate) fn with_tls_of(mut self, before: &Plan) -> Plan {
        for listener in &mut self.listeners {
            let known = before.listeners.iter().find(|known| known.name == listener.name);
            let known = known.and_then(|known| known.tls.as_ref());
            if let (Some(tls), Some(known)) = (&mut listener.tls, known)
                && tls == known
                && tls.reload_interval.is_some()
            {
                tls.acceptor = known.acceptor.clone();
            }
        }
        for cluster in &mut self.clusters {
            let known = before.clusters.iter().find(|known| known.name == cluster.name);
            let known = known.and_then(|known| known.tls.as_ref());
            if let (Some(tls), Some(known)) = (&mut cluster.tls, known)
                && tls == known
                && tls.reload_interval.is_some()
            {
                tls.connector = known.connector.clone();
            }
        }
        self
    }
}

/// How clients show who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// A client without a certificate is turned away.
    pub required: bool,
    /// The CA certificates that are believed.
    pub ca_file: PathBuf,
    /// Revocation lists.
    pub crl_files: Vec<PathBuf>,
}

/// How backends are told who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardClientCert {
    /// The header, which no client can send itself.
    pub header: HeaderName,
    /// What it says, in this order.
    pub fields: Vec<ClientCertField>,
}

/// What is told of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertField {
    /// SHA-256 of the certificate.
    Hash,
    /// Its subject.
    Subject,
    /// Its URIs, a SPIFFE id among them.
    Uri,
    /// Its DNS names.
    Dns,
}

impl ClientCertField {
    /// Every field with its name in the file.
    pub const ALL: [(ClientCertField, &'static str); 4] = [
        (ClientCertField::Hash, "hash"),
        (ClientCertField::Subject, "subject"),
        (ClientCertField::Uri, "uri"),
        (ClientCertField::Dns, "dns"),
    ];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        ClientCertField::ALL[self as usize].1
    }
}
