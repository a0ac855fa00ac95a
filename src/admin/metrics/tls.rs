//! TLS towards clients, and the files of TLS on both sides. Where there is plaintext there is none of these.

use std::collections::BTreeMap;

use prometheus::proto::{MetricFamily, MetricType};

use super::{State, counter, family, gauge, sum};
use crate::config::plan::{Listener, ListenerTls};
use crate::metrics::HANDSHAKES;
use crate::tls::{Cause, Rotation};

/// The listeners with TLS, each with the place of its counters.
fn secured(state: &State) -> impl Iterator<Item = (usize, &Listener, &ListenerTls)> {
    let taken = state.places.listeners.taken();
    let place = move |name: &str| taken.iter().find(|slot| &*slot.name == name).map(|slot| slot.index);
    let listeners = state.plan.listeners.iter();
    listeners.filter_map(move |listener| Some((place(&listener.name)?, listener, listener.tls.as_ref()?)))
}

pub(super) fn handshakes(state: &State) -> MetricFamily {
    let help =
        "Connections under TLS that clients opened, by its version and whether they went on with an earlier session.";
    let mut family = family("weir_downstream_tls_handshakes_total", help, MetricType::COUNTER);
    for (index, listener, _) in secured(state) {
        for (version, resumed) in HANDSHAKES {
            let value = sum(state, |metrics| metrics.tls_handshakes(index, version == "1.3", resumed));
            let resumed = if resumed { "true" } else { "false" };
            let labels = [("listener", &*listener.name), ("version", version), ("resumed", resumed)];
            family.mut_metric().push(counter(&labels, value));
        }
    }
    family
}

pub(super) fn failures(state: &State) -> MetricFamily {
    let help = "Connections of clients that failed in TLS.";
    let mut family = family("weir_downstream_tls_failures_total", help, MetricType::COUNTER);
    for (index, listener, _) in secured(state) {
        for (cause, reason) in Cause::LABELS.into_iter().enumerate() {
            let value = sum(state, |metrics| metrics.downstream_tls_failures(index, cause));
            family.mut_metric().push(counter(&[("listener", &listener.name), ("reason", reason)], value));
        }
    }
    family
}

/// What a listener or a cluster has of files that may change.
struct Files<'s> {
    owner: &'s str,
    /// Each certificate, and until when it is valid, in seconds since 1970.
    certificates: BTreeMap<String, i64>,
    rotation: &'s Rotation,
}

fn of_listeners(state: &State) -> Vec<Files<'_>> {
    secured(state)
        .map(|(_, listener, tls)| {
            let current = tls.acceptor.current();
            let names = tls.certificates.iter().map(|(file, _)| file.display().to_string());
            let certificates = names.zip(current.not_after.iter().copied()).collect();
            Files { owner: &listener.name, certificates, rotation: &tls.acceptor.rotation }
        })
        .collect()
}

fn of_clusters(state: &State) -> Vec<Files<'_>> {
    let clusters = state.clusters.iter().filter_map(|cluster| Some((&*cluster.plan.name, cluster.plan.tls.as_ref()?)));
    clusters
        .map(|(owner, tls)| {
            let name = tls.identity.as_ref().map(|(file, _)| file.display().to_string());
            let certificates = name.into_iter().zip(tls.connector.not_after()).collect();
            Files { owner, certificates, rotation: tls.connector.rotation() }
        })
        .collect()
}

/// Ends of certificates, and how the rotation of files goes: of listeners, and of clusters.
pub(super) fn files(state: &State) -> impl Iterator<Item = MetricFamily> {
    let sides = [("downstream", "listener", of_listeners(state)), ("upstream", "cluster", of_clusters(state))];
    sides.into_iter().flat_map(|(side, label, files)| {
        [expiry(side, label, &files), reloads(side, label, &files), refused(side, label, &files)]
    })
}

fn expiry(side: &str, label: &str, files: &[Files<'_>]) -> MetricFamily {
    let name = format!("weir_{side}_tls_certificate_expiry_timestamp_seconds");
    let mut family = family(&name, "The last second in which a certificate is valid, since 1970.", MetricType::GAUGE);
    for one in files {
        for (file, until) in &one.certificates {
            let until = u64::try_from(*until).unwrap_or_default();
            family.mut_metric().push(gauge(&[(label, one.owner), ("file", file)], until));
        }
    }
    family
}

fn reloads(side: &str, label: &str, files: &[Files<'_>]) -> MetricFamily {
    let help = "How often TLS files had changed and were taken, or were refused.";
    let mut family = family(&format!("weir_{side}_tls_reloads_total"), help, MetricType::COUNTER);
    for one in files {
        for (result, value) in one.rotation.counts() {
            family.mut_metric().push(counter(&[(label, one.owner), ("result", result)], value));
        }
    }
    family
}

fn refused(side: &str, label: &str, files: &[Files<'_>]) -> MetricFamily {
    let help = "1 while the TLS files on disk were refused and earlier ones are used.";
    let mut family = family(&format!("weir_{side}_tls_files_refused"), help, MetricType::GAUGE);
    for one in files {
        family.mut_metric().push(gauge(&[(label, one.owner)], u64::from(one.rotation.is_stale())));
    }
    family
}
