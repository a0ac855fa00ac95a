//! The server side: a listener's TLS, as whoever takes connections from clients needs it.

use std::fmt;
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
use super::rotation::{Look, Renewed, Rotation};
use super::{ALPN_H2, Identity, Validity, in_file, pem, provider, roots};

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
struct Material {
    identities: Vec<Identity>,
    roots: Option<Arc<RootCertStore>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
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
    look: Look,
    /// The same of the files that decide about clients.
    clients: Look,
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
    fn files(&self) -> impl Iterator<Item = &Path> {
        self.identities.iter().flat_map(|(cert, key)| [&**cert, &**key]).chain(self.client_files())
    }

    /// Those that decide about clients.
    fn client_files(&self) -> impl Iterator<Item = &Path> {
        let clients = self.clients.iter();
        clients.flat_map(|clients| std::iter::once(&clients.ca_file).chain(&clients.crl_files)).map(PathBuf::as_path)
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with the first that is no good.
    fn read(&self) -> Result<Material, String> {
        let load = |(cert, key): &(PathBuf, PathBuf)| Identity::load_whole(cert, key);
        let identities = self.identities.iter().map(load).collect::<Result<_, _>>()?;
        let mut material = Material { identities, roots: None, crls: Vec::new() };
        if let Some(clients) = &self.clients {
            let file = &clients.ca_file;
            let roots = roots::from_file(file).map_err(|error| in_file(file, error))?;
            for file in &clients.crl_files {
                material.crls.extend(crls(file, &roots).map_err(|error| in_file(file, error))?);
            }
            material.roots = Some(roots);
        }
        Ok(material)
    }

    /// What connections are made with, of files that were so when somebody looked. Tickets of `before` are good for as long as
    /// the same clients are.
    ///
    /// # Errors
    ///
    /// When the files are no good, with the reason.
    fn make(&self, look: Look, before: Option<&Current>) -> Result<Current, String> {
        let clients = Look::at(self.client_files());
        let material = self.read()?;
        if let Some(gone) = material.identities.iter().find(|own| before.is_some() && own.validity() == Validity::Past)
        {
            return Err(gone.expired());
        }
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
        let ticketer = match before.filter(|before| before.clients == clients) {
            Some(before) => before.ticketer.clone(),
            None => aws_lc_rs::Ticketer::new().map_err(|error| super::said(&error))?,
        };
        let mut config = builder.with_cert_resolver(Arc::new(names));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.ticketer = ticketer.clone();
        // Sessions are the clients' to keep: a store of our own would be a lock between workers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let not_after = facts.iter().map(|facts| facts.not_after).collect();
        Ok(Current { config: Arc::new(config), verifier, ticketer, look, clients, not_after })
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
    /// # Errors
    ///
    /// When the files are no good, with the reason.
    pub(crate) fn new(offer: Offer) -> Result<Acceptor, String> {
        let current = offer.make(Look::at(offer.files()), None)?;
        Ok(Acceptor { offer, current: ArcSwap::from_pointee(current), rotation: Rotation::default() })
    }

    /// What connections are made with now.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }
}

impl Renewed for Acceptor {
    fn look(&self) -> Look {
        Look::at(self.offer.files())
    }

    fn used(&self) -> Look {
        self.current.load().look
    }

    fn take(&self, seen: Look) -> Result<(), String> {
        let next = self.offer.make(seen, Some(&self.current()))?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    fn rotation(&self) -> &Rotation {
        &self.rotation
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("offer", &self.offer).finish_non_exhaustive()
    }
}
