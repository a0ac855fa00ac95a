//! Rules for TLS towards backends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::HealthCheck;
use crate::config::file::manager::Proxy;
use crate::config::file::tls::{Asked, ClusterTls};
use crate::config::file::value;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, Location};
use crate::tls::{self, Connector, Identity, IdentityError, Trust, Validity};

/// How often files are looked at. They are small, and whoever exchanges one has the old one for days.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What a proxy says about TLS to the clusters of its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProxyTls {
    enable: bool,
    identity: Option<Identity>,
}

impl Checker<'_, '_> {
    /// What a cluster itself says, and else what the proxies of the listeners say.
    pub(super) fn cluster_tls(
        &self,
        asked: &Asked<ClusterTls>,
        index: usize,
        name: &str,
        scope: &Scope,
    ) -> Option<plan::Tls> {
        match &asked.0 {
            Some(at) => self.own_tls(at, scope),
            None => {
                let (proxy, place) = self.proxy_tls_of(index, name)?;
                let identity = proxy.identity.as_ref();
                proxy.enable.then(|| self.build_tls(None, identity, None, false, place)).flatten()
            }
        }
    }

    fn own_tls(&self, at: &At<Option<ClusterTls>>, scope: &Scope) -> Option<plan::Tls> {
        let Some(file) = at.value.as_ref()? else {
            let error = Diagnostic::new(at.key, format!("`tls` of {} has nothing behind it", scope.what));
            self.error(error.label("`tls: {}` is TLS with every default, and no `tls` is none"));
            return None;
        };
        if file.enable.as_ref().is_some_and(|enable| enable.value == Some(false)) {
            self.tls_is_off(file);
            return None;
        }
        let skip = file.insecure_skip_verify.as_ref().filter(|skip| skip.value == Some(true));
        let identity = self.identity(file.cert_file.as_ref(), file.key_file.as_ref(), ["cert_file", "key_file"]);
        let ca_file = file.ca_file.as_ref().and_then(|ca| self.text(ca, "ca_file").map(|path| (path, ca.place)));
        let server_name = file.server_name.as_ref().and_then(|name| self.server_name(name));
        if let Some(skip) = skip {
            let text = format!(
                "`insecure_skip_verify`: {} believes any certificate, of whoever answers in a backend's place",
                scope.what
            );
            self.notice(skip.key, text);
            self.useless("ca_file", file.ca_file.as_ref(), "`insecure_skip_verify` believes any certificate");
        }
        // An empty text has had its error, and must not stand for the system's certificates as well.
        if file.ca_file.is_some() && ca_file.is_none() {
            return None;
        }
        let reload_interval = self.reload_interval(file.reload_interval.as_ref());
        self.build_tls(ca_file, identity.as_ref(), server_name, skip.is_some(), at.key)
            .map(|tls| plan::Tls { reload_interval, ..tls })
    }

    fn tls_is_off(&self, file: &ClusterTls) {
        let why = "`enable: false` is plaintext";
        self.useless("ca_file", file.ca_file.as_ref(), why);
        self.useless("cert_file", file.cert_file.as_ref(), why);
        self.useless("key_file", file.key_file.as_ref(), why);
        self.useless("server_name", file.server_name.as_ref(), why);
        self.useless("reload_interval", file.reload_interval.as_ref(), why);
        self.useless("insecure_skip_verify", file.insecure_skip_verify.as_ref(), why);
    }

    fn build_tls(
        &self,
        ca_file: Option<(&str, Place)>,
        identity: Option<&Identity>,
        server_name: Option<ServerName<'static>>,
        insecure_skip_verify: bool,
        place: Place,
    ) -> Option<plan::Tls> {
        let trust = match ca_file {
            _ if insecure_skip_verify => Trust::Anybody,
            Some((path, place)) => self.roots(path, place).map(|_| Trust::File(path.into()))?,
            None => Trust::Roots(self.system_roots(place)?),
        };
        let identity = identity.map(|identity| (identity.cert_file.clone(), identity.key_file.clone()));
        match Connector::new(trust, identity.clone()) {
            Ok(connector) => Some(plan::Tls {
                ca_file: ca_file.map(|(path, _)| path.into()),
                identity,
                reload_interval: Some(RELOAD_INTERVAL),
                server_name,
                insecure_skip_verify,
                connector,
            }),
            Err(error) => {
                self.error(Diagnostic::new(place, format!("TLS cannot be had: {error}")));
                None
            }
        }
    }

    /// How often files are looked at; `None` is never.
    pub(super) fn reload_interval(&self, field: Option<&At<value::Duration>>) -> Option<Duration> {
        let interval = self.duration(field).unwrap_or(RELOAD_INTERVAL);
        Some(interval).filter(|interval| !interval.is_zero())
    }

    pub(super) fn roots(&self, path: &str, place: Place) -> Option<Arc<RootCertStore>> {
        match tls::from_file(Path::new(path)) {
            Ok(roots) => Some(roots),
            Err(error) => {
                self.error(Diagnostic::new(place, format!("the file `{path}` {error}")));
                None
            }
        }
    }

    /// Read once for all clusters: on some systems that takes a while.
    fn system_roots(&self, place: Place) -> Option<Arc<RootCertStore>> {
        match self.system_roots.get_or_init(|| tls::of_the_system().map_err(|error| error.to_string())) {
            Ok(roots) => Some(roots.clone()),
            Err(error) => {
                self.error(Diagnostic::new(place, error).label("name the backends' CA certificates in `ca_file`"));
                None
            }
        }
    }

    /// A certificate and its key: both, or neither.
    pub(super) fn identity(
        &self,
        cert: Option<&At<String>>,
        key: Option<&At<String>>,
        names: [&str; 2],
    ) -> Option<Identity> {
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(alone), None) | (None, Some(alone)) => {
                let (has, lacks) = if cert.is_some() { (names[0], names[1]) } else { (names[1], names[0]) };
                let error = Diagnostic::new(alone.key, format!("`{has}` stands without `{lacks}`"));
                self.error(error.label("a certificate and its key go together"));
                return None;
            }
            (None, None) => return None,
        };
        let paths = (self.text(cert, names[0]), self.text(key, names[1]));
        let (Some(cert_path), Some(key_path)) = paths else { return None };
        match Identity::load(Path::new(cert_path), Path::new(key_path)) {
            Ok(identity) => {
                self.own_certificate_is_valid(&identity, cert.place);
                Some(identity)
            }
            Err(errors) => {
                for error in errors {
                    let (path, place, what) = match &error {
                        IdentityError::Certificate(what) => (cert_path, cert.place, what),
                        IdentityError::Key(what) => (key_path, key.place, what),
                    };
                    self.error(Diagnostic::new(place, format!("the file `{path}` {what}")));
                }
                None
            }
        }
    }

    /// What a peer makes of a certificate out of its time is the peer's affair.
    fn own_certificate_is_valid(&self, identity: &Identity, place: Place) {
        let path = identity.cert_file.display();
        match identity.validity() {
            Validity::Now => {}
            Validity::Past => self.notice(place, format!("the certificate in `{path}` has expired")),
            Validity::Future => self.notice(place, format!("the certificate in `{path}` is not valid yet")),
        }
    }

    fn server_name(&self, field: &At<String>) -> Option<ServerName<'static>> {
        let text = self.text(field, "server_name")?;
        let name = ServerName::try_from(text.to_owned()).ok();
        if name.is_none() {
            let error = Diagnostic::new(field.place, format!("`{text}` is no name that a certificate can have"));
            self.error(error.label("a host name or an IP address, without a port"));
        }
        name
    }

    /// Gives each endpoint the name that its certificate must have.
    pub(super) fn server_names(&self, tls: &plan::Tls, endpoints: &mut [plan::Endpoint], place: Place) {
        for endpoint in endpoints {
            let (own, what) = match &endpoint.location {
                Location::Host(host, _) => (Some(host.strip_suffix('.').unwrap_or(host)), ""),
                // Where a service leads is what DNS says, and DNS is not to be believed about who is who.
                Location::Service(_) => (None, "a service, and "),
                Location::Unix(_) => (None, ""),
            };
            let own = own.and_then(|name| ServerName::try_from(name.to_owned()).ok());
            endpoint.server_name = tls.server_name.clone().or(own);
            if endpoint.server_name.is_none() {
                let name = match &endpoint.location {
                    Location::Host(host, _) => host.clone(),
                    other => other.to_string(),
                };
                let message = format!("`{name}` is {what}no name that a certificate can have");
                self.error(Diagnostic::new(place, message).label("say in `server_name` of `tls` which name is meant"));
            }
        }
    }

    /// Checks speak TLS as calls do, and so agree on HTTP/2.
    pub(super) fn no_checks_by_http1(&self, checks: Option<&At<Vec<At<HealthCheck>>>>) {
        for check in checks.and_then(|checks| checks.value.as_deref()).unwrap_or_default() {
            let http2 = check.value.as_ref().and_then(|check| check.use_http2.as_ref());
            if let Some(at) = http2.filter(|at| at.value == Some(false)) {
                let error = Diagnostic::new(at.place, "under TLS a health check speaks HTTP/2");
                self.error(error.label("leave it out, or check by `tcp` or `grpc`"));
            }
        }
    }

    /// What a proxy says of TLS, which holds for the clusters of its listener.
    pub(super) fn proxy_tls(&self, proxy: &Proxy) -> Option<(ProxyTls, Place)> {
        let given = |field: Option<&At<String>>| field.is_some_and(|field| field.value.as_deref() != Some(""));
        let cert = proxy.tls_cert_file.as_ref().filter(|field| given(Some(field)));
        let key = proxy.tls_key_file.as_ref().filter(|field| given(Some(field)));
        let Some(enable) = &proxy.enable_tls else {
            for (name, field) in [("tls_cert_file", cert), ("tls_key_file", key)] {
                if let Some(field) = field {
                    let error = Diagnostic::new(field.key, format!("`{name}` stands without `enable_tls`"));
                    self.error(error.label("say `enable_tls: true`, or `enable_tls: false` for plaintext"));
                }
            }
            return None;
        };
        let place = enable.key;
        if enable.value? {
            if cert.is_none() && key.is_none() {
                let text = "`enable_tls` speaks TLS without a certificate of its own; Pixiu falls back to plaintext";
                self.findings.difference(place, text);
            }
            let identity = self.identity(cert, key, ["tls_cert_file", "tls_key_file"]);
            return Some((ProxyTls { enable: true, identity }, place));
        }
        let why = "`enable_tls: false` is plaintext";
        self.useless("tls_cert_file", cert, why);
        self.useless("tls_key_file", key, why);
        Some((ProxyTls { enable: false, identity: None }, place))
    }
}
