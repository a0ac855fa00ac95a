//! TLS towards the backends of a cluster.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use crate::tls::Connector;

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
    pub(crate) connector: Connector,
}

impl PartialEq for Tls {
    /// The connector follows from the rest, and from what the files hold.
    fn eq(&self, other: &Tls) -> bool {
        let told =
            |tls: &Tls| (tls.ca_file.clone(), tls.identity.clone(), tls.server_name.clone(), tls.insecure_skip_verify);
        told(self) == told(other) && self.connector.has_certificates_of(&other.connector)
    }
}

impl Eq for Tls {}
