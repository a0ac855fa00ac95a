//! The rules: from a file as it is written to a plan that can run.
//!
//! A rule that is broken is recorded and the checking goes on with a stand-in, so that one run shows every error. The
//! plan that comes of it is only good when nothing was recorded; [`load_text`](super::load_text) sees to that.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::diagnostic::Diagnostic;
use super::file::File;
use super::findings::Findings;
use super::located::{At, Ignored};
use super::place::Place;
use super::plan::{Locality, Plan};
use super::read::Reader;
use crate::registry::Registry;

mod address;
mod balance;
mod breaker;
mod cluster;
mod dns;
mod edge;
mod endpoint;
mod filter;
mod forward_client_cert;
mod health;
mod hedging;
mod http2;
mod listener;
mod listener_tls;
mod locality;
mod log;
mod manager;
mod on_drain;
mod outlier;
mod pattern;
mod process;
mod proxy;
mod proxy_protocol;
mod rebalance;
mod retry;
mod route;
mod scope;
mod service_config;
mod subset;
mod tls;
mod value;

pub(super) use log::log_filter;

use address::Bound;
use cluster::Names;
use proxy::ProxySettings;
use scope::Scope;
use subset::Asked;

/// What every rule may need.
struct Checker<'c, 'n> {
    findings: &'c Findings,
    reader: &'c Reader<'n>,
    registry: &'c Registry,
    /// The clusters by name.
    names: Names,
    /// What the proxies of the listeners say about the clusters.
    proxies: ProxySettings,
    /// The addresses that are taken.
    bound: Bound,
    /// The CA certificates of the system, or why there are none.
    system_roots: OnceCell<Result<Arc<RootCertStore>, String>>,
    /// Clusters to which a route with a policy leads.
    retried: RefCell<HashSet<usize>>,
    /// The labels that routes ask of clusters.
    asked: RefCell<Asked>,
    /// What holds for streams of routes that do not say it.
    stream_idle: Option<Duration>,
    /// Where this process stands; `None` where the file does not say.
    here: Option<Locality>,
}

impl Checker<'_, '_> {
    fn error(&self, diagnostic: Diagnostic) {
        self.findings.error(diagnostic);
    }

    fn notice(&self, place: Place, text: impl Into<String>) {
        self.findings.notice(place, text);
    }

    /// A notice for a key of Pixiu that is accepted and has no effect.
    fn no_effect(&self, key: &str, field: Option<&At<Ignored>>, why: &str) {
        if field.is_some() {
            self.findings.comes_from_pixiu();
        }
        self.useless(key, field, why);
    }

    /// A notice for a key that has no effect where it stands.
    fn useless<T>(&self, key: &str, field: Option<&At<T>>, why: &str) {
        if let Some(field) = field {
            self.notice(field.key, format!("`{key}` has no effect: {why}"));
        }
    }

    /// An error for a key that only a later release can honour.
    fn not_built<T>(&self, key: &str, field: &At<T>, label: &str) {
        self.error(Diagnostic::new(field.key, format!("`{key}` is not built yet")).label(label));
    }
}

/// Checks a file. `root` is where it begins.
pub(crate) fn plan(file: &File, root: Place, reader: &Reader<'_>, registry: &Registry) -> Plan {
    let mut checker = Checker {
        findings: reader.findings(),
        reader,
        registry,
        names: Names::default(),
        proxies: ProxySettings::default(),
        bound: Bound::default(),
        system_roots: OnceCell::new(),
        retried: RefCell::default(),
        asked: RefCell::default(),
        stream_idle: None,
        here: None,
    };
    checker.here = checker.here(file.node.as_ref());
    let top = Scope::new(root, "the file");
    let resources = checker.required(file.static_resources.as_ref(), "static_resources", &top);
    let scope = Scope::new(resources.map_or(root, |at| at.key), "`static_resources`");
    let resources = resources.and_then(|at| at.value.as_ref());
    let clusters = resources.and_then(|resources| resources.clusters.as_ref());
    checker.names = checker.cluster_names(clusters);
    let listeners =
        resources.map_or_else(Vec::new, |resources| checker.listeners(resources.listeners.as_ref(), &scope));
    let clusters = resources.map_or_else(Vec::new, |resources| checker.clusters(resources.clusters.as_ref(), &scope));
    let nested = resources.and_then(|resources| resources.shutdown_config.as_ref());
    Plan {
        workers: checker.workers(file.workers.as_ref()),
        memory_limit: checker.memory_limit(file.memory_limit.as_ref()),
        log_level: checker.log_level(file.log.as_ref()),
        admin: checker.admin(file.admin.as_ref()),
        metrics: checker.metrics(file.metric.as_ref()),
        access_log: checker.access_log(file.access_log.as_ref()).map(PathBuf::from),
        shutdown: checker.shutdown(nested, file.shutdown_config.as_ref()),
        node: checker.node(file.node.as_ref()),
        listeners,
        clusters,
        notices: Vec::new(),
    }
}
