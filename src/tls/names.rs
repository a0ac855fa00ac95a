//! Which of a listener's certificates a client gets: the one for the name that it asks for (SNI, RFC 6066 3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by the names that they are for.
#[derive(Debug)]
pub(super) struct ByName {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `example.com` for `*.example.com`, which stands for one label (RFC 9525 6.3).
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For a client that names nobody, or somebody else.
    default: Arc<CertifiedKey>,
}

impl ByName {
    pub(super) fn new(default: Arc<CertifiedKey>) -> ByName {
        ByName { exact: HashMap::new(), wildcards: HashMap::new(), default }
    }

    /// Adds a certificate. Of several for one name the first goes whose kind of key the client can check.
    pub(super) fn add(&mut self, names: &[String], key: &Arc<CertifiedKey>) {
        for name in names {
            let (names, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcards, parent),
                None => (&mut self.exact, &**name),
            };
            names.entry(name.to_owned()).or_default().push(key.clone());
        }
    }

    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(wildcard).map_or(std::slice::from_ref(&self.default), Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = self.named(hello.server_name().unwrap_or_default());
        let checkable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        fitting.iter().find(checkable).or(fitting.first()).cloned()
    }
}
