//! Rules for TLS towards clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::SupportedCipherSuite;

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::ListenerConfig;
use crate::config::file::tls::{CertificateFiles, ListenerTls};
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, ClientAuth};
use crate::config::suggest::did_you_mean;
use crate::tls::{self, Acceptor, Clients, Identity, Offer};

/// How long a handshake may take. Three lost packets in a row cost a client seven seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const CERT_AND_KEY: [&str; 2] = ["cert_file", "key_file"];

const CLIENT_AUTH: [&str; 3] = ["none", "optional", "required"];

impl Checker<'_, '_> {
    /// TLS of a listener, for which `enable_tls` asks as in Pixiu. Nothing is guessed where the two keys are not of one
    /// mind: not plaintext for a listener that has certificates, not TLS without.
    pub(super) fn listener_tls(&self, config: &ListenerConfig) -> Option<plan::ListenerTls> {
        let enable = config.enable_tls.as_ref().and_then(|enable| Some((enable.value?, enable.key)));
        let tls = config.tls.0.as_ref();
        match (enable, tls) {
            (Some((true, _)), Some(tls)) => match tls.value.as_ref()? {
                Some(file) => self.secured(file, tls.key),
                None => {
                    let error = Diagnostic::new(tls.key, "`tls` has nothing behind it");
                    self.error(error.label("name the certificate and its key: `cert_file`, `key_file`"));
                    None
                }
            },
            (Some((true, place)), None) => {
                let error = Diagnostic::new(place, "`enable_tls` stands without `tls`");
                self.error(error.label("name the certificate: `tls: {cert_file: ..., key_file: ...}`"));
                None
            }
            (Some((false, _)), tls) => {
                self.useless("tls", tls, "`enable_tls: false` is plaintext");
                None
            }
            (None, Some(tls)) if config.enable_tls.is_none() => {
                let error = Diagnostic::new(tls.key, "`tls` stands without `enable_tls`");
                self.error(error.label("say `enable_tls: true`, or `enable_tls: false` for plaintext"));
                None
            }
            (None, _) => None,
        }
    }

    fn secured(&self, file: &ListenerTls, place: Place) -> Option<plan::ListenerTls> {
        let tls12 = self.speaks_tls12(file);
        let suites = self.cipher_suites(file, tls12);
        let auth = self.client_auth(file, place);
        let forward = self.forward_client_cert(file, !matches!(auth, Some(None)));
        self.plaintext_is_no_way_around(file);
        let timeout = self.positive(file.handshake_timeout.as_ref(), "handshake_timeout");
        let reload_interval = self.reload_interval(file.reload_interval.as_ref());
        let offer = Offer {
            identities: pairs(file),
            tls12,
            suites: chosen(suites.as_ref()?.as_deref()),
            clients: auth.as_ref()?.as_ref().map(|auth| Clients {
                required: auth.required,
                ca_file: auth.ca_file.clone(),
                crl_files: auth.crl_files.clone(),
            }),
        };
        let certificates = self.certificates(file, place);
        self.client_files(file, offer.clients.is_some())?;
        let certificates = certificates?;
        match Acceptor::new(offer) {
            Ok(acceptor) => Some(plan::ListenerTls {
                certificates,
                tls12,
                cipher_suites: suites?,
                handshake_timeout: timeout.unwrap_or(HANDSHAKE_TIMEOUT),
                reload_interval,
                client_auth: auth?,
                forward_client_cert: forward,
                allow_plaintext: file.allow_plaintext.as_ref().is_some_and(|allow| allow.value == Some(true)),
                acceptor: Arc::new(acceptor),
            }),
            Err(error) => {
                self.error(Diagnostic::new(place, format!("TLS cannot be had: {error}")));
                None
            }
        }
    }

    fn plaintext_is_no_way_around(&self, file: &ListenerTls) {
        let required =
            file.client_auth.as_ref().filter(|auth| auth.value.as_ref().is_some_and(|at| at.0 == "required"));
        let allowed = file.allow_plaintext.as_ref().filter(|allow| allow.value == Some(true));
        if let (Some(required), Some(allowed)) = (required, allowed) {
            let error = Diagnostic::new(allowed.key, "`allow_plaintext` lets clients pass without a certificate");
            self.error(
                error.label("leave it out, or say `client_auth: optional`").other(required.key, "required here"),
            );
        }
    }

    /// The files of every certificate and its key, the default first. `None` is an error.
    fn certificates(&self, file: &ListenerTls, place: Place) -> Option<Vec<(PathBuf, PathBuf)>> {
        let named = file.cert_file.is_some() || file.key_file.is_some();
        let default =
            named.then(|| (place, self.identity(file.cert_file.as_ref(), file.key_file.as_ref(), CERT_AND_KEY)));
        let further = further(file).map(|at| (at.place, self.certificate(at)));
        let loaded: Vec<(Place, Option<Identity>)> = default.into_iter().chain(further).collect();
        if loaded.is_empty() {
            let error = Diagnostic::new(place, "`tls` names no certificate");
            self.error(error.label("name one and its key: `cert_file`, `key_file`"));
            return None;
        }
        let mut whole = true;
        for (at, (place, identity)) in loaded.iter().enumerate() {
            whole &= identity.as_ref().is_some_and(|identity| self.can_be_chosen(identity, at == 0, *place));
        }
        whole.then(|| pairs(file))
    }

    fn certificate(&self, at: &At<CertificateFiles>) -> Option<Identity> {
        let files = at.value.as_ref()?;
        if files.cert_file.is_none() && files.key_file.is_none() {
            let error = Diagnostic::new(at.place, "an entry of `certificates` names no certificate");
            self.error(error.label("name one and its key: `cert_file`, `key_file`"));
            return None;
        }
        self.identity(files.cert_file.as_ref(), files.key_file.as_ref(), CERT_AND_KEY)
    }

    fn can_be_chosen(&self, identity: &Identity, is_default: bool, place: Place) -> bool {
        match identity.facts() {
            Ok(facts) if is_default || !facts.dns.is_empty() => return true,
            Ok(_) => {
                let text = format!("the certificate in `{}` has no DNS name", identity.cert_file.display());
                self.error(Diagnostic::new(place, text).label("no client can ask for it; only the first needs none"));
            }
            Err(error) => self.error(Diagnostic::new(place, error)),
        }
        false
    }

    fn speaks_tls12(&self, file: &ListenerTls) -> bool {
        let Some(field) = &file.min_version else { return true };
        match field.value.as_ref().map(|version| version.0.as_str()) {
            None | Some("1.2") => true,
            Some("1.3") => false,
            Some(other) => {
                let error = Diagnostic::new(field.place, format!("`{other}` is no version of TLS that Weir speaks"));
                self.error(error.label("`1.2` or `1.3`"));
                true
            }
        }
    }

    /// The names that stand there, where the key does. The outer `None` is an error.
    fn cipher_suites(&self, file: &ListenerTls, tls12: bool) -> Option<Option<Vec<String>>> {
        let Some(field) = &file.cipher_suites else { return Some(None) };
        let names = field.value.as_deref()?;
        if names.is_empty() {
            self.error(Diagnostic::new(field.key, "no cipher suites").label("without the key, all that are good"));
            return None;
        }
        let good: Vec<Option<String>> = names.iter().map(|name| self.cipher_suite(name, tls12)).collect();
        good.into_iter().collect::<Option<Vec<_>>>().map(Some)
    }

    fn cipher_suite(&self, field: &At<String>, tls12: bool) -> Option<String> {
        let text = self.text(field, "cipher_suites")?;
        match tls::suites().find(|(name, _)| name == text) {
            Some((_, suite)) if !tls12 && suite.tls13().is_none() => {
                let error = Diagnostic::new(field.place, format!("`{text}` is of TLS 1.2"));
                self.error(error.label("`min_version` is 1.3"));
                None
            }
            Some((name, _)) => Some(name),
            None => {
                let known: Vec<String> = tls::suites().map(|(name, _)| name).collect();
                let near = did_you_mean(text, known.iter().map(String::as_str));
                let label = near.unwrap_or_else(|| format!("one of {}", known.join(", ")));
                self.error(Diagnostic::new(field.place, format!("unknown cipher suite `{text}`")).label(label));
                None
            }
        }
    }

    /// The outer `None` is an error.
    fn client_auth(&self, file: &ListenerTls, place: Place) -> Option<Option<ClientAuth>> {
        let (word, key) = match &file.client_auth {
            Some(at) => (at.value.as_ref()?.0.as_str(), at),
            None => {
                for (name, key) in [
                    ("ca_file", file.ca_file.as_ref().map(|at| at.key)),
                    ("crl_files", file.crl_files.as_ref().map(|at| at.key)),
                ] {
                    if let Some(key) = key {
                        let error = Diagnostic::new(key, format!("`{name}` stands without `client_auth`"));
                        self.error(error.label("say `client_auth: required`, or `optional`"));
                        return None;
                    }
                }
                return Some(None);
            }
        };
        let required = match word {
            "required" => true,
            "optional" => false,
            "none" => {
                let why = "`client_auth: none` asks for no certificate";
                self.useless("ca_file", file.ca_file.as_ref(), why);
                self.useless("crl_files", file.crl_files.as_ref(), why);
                return Some(None);
            }
            other => {
                let label = did_you_mean(other, CLIENT_AUTH).unwrap_or_else(|| "none, optional, required".to_owned());
                self.error(Diagnostic::new(key.place, format!("unknown `client_auth`: `{other}`")).label(label));
                return None;
            }
        };
        let Some(ca) = &file.ca_file else {
            let error = Diagnostic::new(place, format!("`client_auth: {word}` stands without `ca_file`"));
            self.error(error.label("whose certificates are believed?"));
            return None;
        };
        let ca_file = PathBuf::from(self.text(ca, "ca_file")?);
        let lists = crl_files(file).map(|at| self.text(at, "crl_files").map(PathBuf::from));
        Some(Some(ClientAuth { required, ca_file, crl_files: lists.collect::<Option<_>>()? }))
    }

    /// What clients' certificates are held against. `None` is an error.
    fn client_files(&self, file: &ListenerTls, asked: bool) -> Option<()> {
        let Some(ca) = file.ca_file.as_ref().filter(|_| asked) else { return Some(()) };
        let roots = self.roots(ca.value.as_deref()?, ca.place)?;
        let mut good = Some(());
        for at in crl_files(file) {
            let path = at.value.as_deref()?;
            if let Err(error) = tls::crls(Path::new(path), &roots) {
                self.error(Diagnostic::new(at.place, format!("the file `{path}` {error}")));
                good = None;
            }
        }
        good
    }
}

/// The files, as they are named.
fn pairs(file: &ListenerTls) -> Vec<(PathBuf, PathBuf)> {
    let own = (file.cert_file.as_ref(), file.key_file.as_ref());
    let further = further(file).filter_map(|at| at.value.as_ref());
    let all = std::iter::once(own).chain(further.map(|one| (one.cert_file.as_ref(), one.key_file.as_ref())));
    all.filter_map(|(cert, key)| Some((cert?.value.as_ref()?.into(), key?.value.as_ref()?.into()))).collect()
}

fn further(file: &ListenerTls) -> impl Iterator<Item = &At<CertificateFiles>> {
    file.certificates.iter().filter_map(|at| at.value.as_ref()).flatten()
}

fn crl_files(file: &ListenerTls) -> impl Iterator<Item = &At<String>> {
    file.crl_files.iter().filter_map(|at| at.value.as_ref()).flatten()
}

/// The suites of these names, or all.
fn chosen(names: Option<&[String]>) -> Vec<SupportedCipherSuite> {
    let is_named = |name: &String| names.is_none_or(|names| names.contains(name));
    tls::suites().filter(|(name, _)| is_named(name)).map(|(_, suite)| suite).collect()
}
