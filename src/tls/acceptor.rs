//! The server side: a listener's TLS, as whoever takes connections from clients needs it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::names::ByName;
use super::rotation::Rotation;
use super::{ALPN_H2, Identity, IdentityError, pem, provider, roots};

/// What a listener's TLS is made of.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Certificates with their keys; the first is for whoever names none of the others.
    pub(crate) identities: Vec<(PathBuf, PathBuf)>,
    /// TLS 1.2 too.
    pub(crate) tls12: bool,
    /// The cipher suites; the client's order counts.
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// Whose certificates are asked for; `None` is nobody's.
    pub(crate) clients: Option<Clients>,
}

/// How clients show who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    /// A client without a certificate is turned away.
    pub(crate) required: bool,
    pub(crate) ca_file: PathBuf,
    pub(crate) crl_files: Vec<PathBuf>,
}

/// What stood in the files of an [`Offer`], each of which is good.
pub(crate) struct Material {
    pub(crate) identities: Vec<Identity>,
    pub(crate) roots: Option<Arc<RootCertStore>>,
    pub(crate) crls: Vec<CertificateRevocationListDer<'static>>,
}

/// What the files of an [`Offer`] were when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    all: u64,
    /// Those that decide about clients.
    clients: u64,
}

/// Makes TLS connections from clients. What it makes them with may be exchanged while it works.
pub(crate) struct Acceptor {
    pub(crate) offer: Offer,
    current: ArcSwap<Current>,
    pub(crate) rotation: Rotation,
}

/// What connections are made with now.
pub(crate) struct Current {
    pub(super) config: Arc<ServerConfig>,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    ticketer: Arc<dyn ProducesTickets>,
    pub(super) look: Look,
    /// Until when each certificate is valid, in the order of the offer.
    pub(crate) not_after: Vec<i64>,
}

/// The suites by the names of RFC 8446 and of IANA's registry.
pub(crate) fn suites() -> impl Iterator<Item = (String, SupportedCipherSuite)> {
    let named = |suite: &SupportedCipherSuite| {
        let name = suite.suite().as_str().map_or_else(String::new, |name| name.replace("TLS13_", "TLS_"));
        (name, *suite)
    };
    aws_lc_rs::ALL_CIPHER_SUITES.iter().map(named)
}

/// The certificate revocation lists of a file, beside the authorities that are believed.
///
/// # Errors
///
/// When the file cannot be used as a whole.
pub(crate) fn crls(
    path: &Path,
    roots: &Arc<RootCertStore>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = pem::crls(path).map_err(|error| error.to_string())?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    match builder.with_crls(lists.iter().cloned()).build() {
        Err(VerifierBuilderError::InvalidCrl(error)) => Err(format!("holds a list that cannot be used: {error:?}")),
        _ => Ok(lists),
    }
}

// === impl Offer ===

impl Offer {
    /// Looks at the files, whether or not they are any good.
    pub(crate) fn look(&self) -> Look {
        let (mut all, mut clients) = (DefaultHasher::new(), DefaultHasher::new());
        let read = |path: &Path| std::fs::read(path).map_err(|error| error.kind());
        for path in self.identities.iter().flat_map(|(cert, key)| [cert, key]) {
            read(path).hash(&mut all);
        }
        if let Some(files) = &self.clients {
            for path in std::iter::once(&files.ca_file).chain(&files.crl_files) {
                let text = read(path);
                text.hash(&mut all);
                text.hash(&mut clients);
            }
        }
        Look { all: all.finish(), clients: clients.finish() }
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with the first that is no good.
    pub(super) fn read(&self) -> Result<Material, String> {
        let in_file = |path: &Path, what: &dyn fmt::Display| format!("the file `{}` {what}", path.display());
        let mut identities = Vec::new();
        for (cert, key) in &self.identities {
            identities.push(Identity::load(cert, key).map_err(|errors| match errors.first() {
                Some(IdentityError::Key(what)) => in_file(key, what),
                Some(IdentityError::Certificate(what)) => in_file(cert, what),
                None => in_file(cert, &"cannot be used"),
            })?);
        }
        let mut material = Material { identities, roots: None, crls: Vec::new() };
        if let Some(clients) = &self.clients {
            let file = &clients.ca_file;
            let roots = roots::from_file(file).map_err(|error| in_file(file, &error))?;
            for file in &clients.crl_files {
                material.crls.extend(crls(file, &roots).map_err(|error| in_file(file, &error))?);
            }
            material.roots = Some(roots);
        }
        Ok(material)
    }

    /// What connections are made with, of these files. Tickets of `before` are good for as long as the same clients are.
    ///
    /// # Errors
    ///
    /// When the files do not go together, with the reason.
    fn make(&self, material: Material, look: Look, before: Option<&Current>) -> Result<Current, String> {
        let versions: &[&SupportedProtocolVersion] = match (self.tls12, self.speaks_tls13()) {
            (true, true) => &[&TLS13, &TLS12],
            (true, false) => &[&TLS12],
            (false, _) => &[&TLS13],
        };
        let own = CryptoProvider { cipher_suites: self.suites.clone(), ..CryptoProvider::clone(&provider()) };
        let builder = ServerConfig::builder_with_provider(Arc::new(own)).with_protocol_versions(versions);
        let builder = builder.map_err(|error| super::said(&error))?;
        let verifier = self.verifier(&material)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let facts = material.identities.iter().map(Identity::facts).collect::<Result<Vec<_>, _>>()?;
        let mut names = ByName::new(material.identities.first().ok_or("there is no certificate")?.key());
        for (identity, facts) in material.identities.iter().zip(&facts) {
            names.add(&facts.dns, &identity.key());
        }
        let ticketer = match before.filter(|before| before.look.clients == look.clients) {
            Some(before) => before.ticketer.clone(),
            None => aws_lc_rs::Ticketer::new().map_err(|error| super::said(&error))?,
        };
        let mut config = builder.with_cert_resolver(Arc::new(names));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.ticketer = ticketer.clone();
        // Sessions are the clients' to keep: a store of our own would be a lock between workers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let not_after = facts.iter().map(|facts| facts.not_after).collect();
        Ok(Current { config: Arc::new(config), verifier, ticketer, look, not_after })
    }

    fn speaks_tls13(&self) -> bool {
        self.suites.iter().any(|suite| suite.tls13().is_some())
    }

    fn verifier(&self, material: &Material) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let (Some(clients), Some(roots)) = (&self.clients, &material.roots) else { return Ok(None) };
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let builder = builder.with_crls(material.crls.iter().cloned());
        let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
        builder.build().map(Some).map_err(|error| error.to_string())
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// Of files as they were when somebody looked before reading them.
    ///
    /// # Errors
    ///
    /// When the files do not go together, with the reason.
    pub(crate) fn new(offer: Offer, look: Look, material: Material) -> Result<Acceptor, String> {
        let current = offer.make(material, look, None)?;
        Ok(Acceptor { offer, current: ArcSwap::from_pointee(current), rotation: Rotation::default() })
    }

    /// What connections are made with now.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Makes connections from now on with these files. Those that are open stay as they are.
    ///
    /// # Errors
    ///
    /// When the files do not go together, with the reason; nothing has changed then.
    pub(super) fn exchange(&self, material: Material, look: Look) -> Result<(), String> {
        let next = self.offer.make(material, look, Some(&self.current()))?;
        self.current.store(Arc::new(next));
        Ok(())
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("offer", &self.offer).finish_non_exhaustive()
    }
}
