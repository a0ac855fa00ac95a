//! TLS towards clients. A listener in plaintext has none of these.

use prometheus::proto::{MetricFamily, MetricType};

use super::{State, counter, family, gauge, sum};
use crate::config::plan::{Listener, ListenerTls};
use crate::metrics::HANDSHAKES;
use crate::tls::Cause;

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

pub(super) fn expiries(state: &State) -> MetricFamily {
    let help = "The last second in which a listener's certificate is valid, since 1970.";
    let mut family = family("weir_tls_certificate_expiry_timestamp_seconds", help, MetricType::GAUGE);
    for (_, listener, tls) in secured(state) {
        let current = tls.acceptor.current();
        for ((file, _), until) in tls.certificates.iter().zip(&current.not_after) {
            let file = file.display().to_string();
            let until = u64::try_from(*until).unwrap_or_default();
            family.mut_metric().push(gauge(&[("listener", &listener.name), ("file", &file)], until));
        }
    }
    family
}

pub(super) fn rotations(state: &State) -> MetricFamily {
    let help = "How often a listener's TLS files had changed and were taken, or were refused.";
    let mut family = family("weir_tls_reloads_total", help, MetricType::COUNTER);
    for (_, listener, tls) in secured(state) {
        for (result, value) in tls.acceptor.rotation.counts() {
            family.mut_metric().push(counter(&[("listener", &listener.name), ("result", result)], value));
        }
    }
    family
}

pub(super) fn stale(state: &State) -> MetricFamily {
    let help = "1 while a listener's TLS files on disk were refused and earlier ones are used.";
    let mut family = family("weir_tls_files_refused", help, MetricType::GAUGE);
    for (_, listener, tls) in secured(state) {
        let value = u64::from(tls.acceptor.rotation.is_stale());
        family.mut_metric().push(gauge(&[("listener", &listener.name)], value));
    }
    family
}
