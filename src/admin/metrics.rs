//! Folds the workers' cells into Prometheus' text format.

mod config;
mod drain;
mod endpoints;
mod hedges;
mod limits;
mod tls;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use weir_filter::Code;

use super::State;
use crate::call::Limit;
use crate::cluster::breaker::Full;
use crate::config::plan::Node;
use crate::metrics::{CallMetrics, Cell, DURATION_BOUNDS, Denied, FOREIGN, Times, WorkerMetrics};
use crate::tls::Reason;
use crate::upstream::Move;

/// The whole page.
///
/// # Errors
///
/// When the encoder refuses a family, which would be a bug here.
pub(super) fn text(state: &State) -> prometheus::Result<String> {
    let families = [
        calls(state),
        durations(state),
        deadlines(state),
        messages(state),
        bytes(state),
        in_flight(state),
        downstream_connections(state),
        limits::abusive_connections(state),
        limits::refused_connections(state),
        limits::calls_without_memory(state),
        limits::memory(state),
        limits::memory_limit(state),
        foreign_connections(state),
        proxy_protocol_failures(state),
        expired_calls(state),
        tls::handshakes(state),
        tls::failures(state),
        upstream_connections(state),
        calls_waiting(state),
        connect_failures(state),
        tls_failures(state),
        transparent_retries(state),
        resets_delayed(state),
        retries(state),
        denied_retries(state),
        hedges::sent(state),
        hedges::won(state),
        hedges::denied(state),
        retry_buffer_overflows(state),
        retry_buffer_bytes(state),
        timed_out(state),
        streams_ended(state),
        shed(state),
        drain::state(state),
        drain::calls_left(state),
        endpoints::healthy(state),
        endpoints::streams(state),
        endpoints::health_checks(state),
        endpoints::dns_lookups(state),
        endpoints::ejected(state),
        endpoints::ejections(state),
        endpoints::ejections_prevented(state),
        endpoints::cluster_panic(state),
        endpoints::priority_share(state),
        endpoints::slow_start(state),
        plain(state, "weir_config_notices", "Notices of the running configuration.", |state| {
            state.plan.notices.len() as u64
        }),
        plain(state, "weir_workers", "Worker threads.", |state| state.workers.len() as u64),
        node_info(state),
        dropped_records(state),
    ];
    let mut page = Vec::new();
    // A family without metrics is an error to the encoder.
    let families = families.into_iter().chain(config::families(state)).chain(tls::files(state));
    let families: Vec<_> = families.filter(|family| !family.get_metric().is_empty()).collect();
    TextEncoder::new().encode(&families, &mut page)?;
    String::from_utf8(page).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn calls(state: &State) -> MetricFamily {
    let mut family =
        family("weir_calls_total", "Calls that ended, by the status that the client saw.", MetricType::COUNTER);
    each_pair(state, |listener, cluster, fold| {
        for code in Code::ALL {
            let count = fold(&|calls| &calls.ended[usize::from(code.number())]);
            if count > 0 {
                let labels = [("listener", listener), ("cluster", cluster), ("status", code.name())];
                family.mut_metric().push(counter(&labels, count));
            }
        }
    });
    family
}

fn durations(state: &State) -> MetricFamily {
    let help = "Time from a call's headers to its end, in seconds.";
    by_time(state, "weir_call_duration_seconds", help, |calls| &calls.durations)
}

fn deadlines(state: &State) -> MetricFamily {
    let help = "What a call's deadline left it when it came, in seconds; only calls with a deadline.";
    by_time(state, "weir_call_deadline_seconds", help, |calls| &calls.deadlines)
}

fn by_time(state: &State, name: &str, help: &str, times: fn(&CallMetrics) -> &Times) -> MetricFamily {
    let mut family = family(name, help, MetricType::HISTOGRAM);
    each_pair(state, |listener, cluster, fold| {
        let mut histogram = Histogram::default();
        let mut buckets = Vec::with_capacity(DURATION_BOUNDS.len());
        let mut sum = 0;
        for (at, bound) in DURATION_BOUNDS.iter().enumerate() {
            sum += fold(&|calls| &times(calls).counts[at]);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(sum);
            buckets.push(bucket);
        }
        sum += fold(&|calls| &times(calls).counts[DURATION_BOUNDS.len()]);
        if sum == 0 {
            return;
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(sum);
        histogram.set_sample_sum(fold(&|calls| &times(calls).sum) as f64 / 1e6);
        let mut metric = labelled(&[("listener", listener), ("cluster", cluster)]);
        metric.set_histogram(histogram);
        family.mut_metric().push(metric);
    });
    family
}

/// `in` is from clients, `out` is to them.
type Directions = [(&'static str, fn(&CallMetrics) -> &Cell); 2];

fn messages(state: &State) -> MetricFamily {
    let help = "gRPC messages of calls that ended; in is from clients.";
    by_direction(
        state,
        "weir_messages_total",
        help,
        [("in", |calls| &calls.messages_in), ("out", |calls| &calls.messages_out)],
    )
}

fn bytes(state: &State) -> MetricFamily {
    let help = "Bytes of DATA of calls that ended; in is from clients.";
    by_direction(state, "weir_bytes_total", help, [("in", |calls| &calls.bytes_in), ("out", |calls| &calls.bytes_out)])
}

fn by_direction(state: &State, name: &str, help: &str, directions: Directions) -> MetricFamily {
    let mut family = family(name, help, MetricType::COUNTER);
    for (index, cluster) in state.clusters.iter().enumerate() {
        for (direction, cell) in directions {
            let sum = (0..state.plan.listeners.len())
                .flat_map(|listener| {
                    state.workers.iter().map(move |worker| worker.metrics.calls(listener, Some(index)))
                })
                .map(|calls| cell(calls).get())
                .sum();
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name), ("direction", direction)], sum));
        }
    }
    family
}

fn in_flight(state: &State) -> MetricFamily {
    let mut family = family("weir_calls_in_flight", "Calls that have not ended.", MetricType::GAUGE);
    let clusters = state.places.clusters.taken();
    let clusters = clusters.iter().map(|cluster| (Some(cluster.index), &*cluster.name));
    for (index, name) in clusters.chain([(None, "")]) {
        let sum = sum(state, |metrics| metrics.in_flight(index));
        family.mut_metric().push(gauge(&[("cluster", name)], sum));
    }
    family
}

fn downstream_connections(state: &State) -> MetricFamily {
    let help = "Open connections from clients.";
    by_listener(state, "weir_downstream_connections", help, MetricType::GAUGE, |metrics, index| {
        &metrics.downstream_connections[index]
    })
}

fn foreign_connections(state: &State) -> MetricFamily {
    let help = "Connections that spoke something else than HTTP/2 without TLS.";
    let mut family = family("weir_foreign_connections_total", help, MetricType::COUNTER);
    for listener in state.places.listeners.taken() {
        let index = listener.index;
        for (kind, protocol) in FOREIGN.into_iter().enumerate() {
            let value = sum(state, |metrics| metrics.foreign_connections(index, kind));
            family.mut_metric().push(counter(&[("listener", &listener.name), ("protocol", protocol)], value));
        }
    }
    family
}

fn proxy_protocol_failures(state: &State) -> MetricFamily {
    let help = "Connections of sources of the PROXY protocol that did not begin with it.";
    let mut family = family("weir_proxy_protocol_failures_total", help, MetricType::COUNTER);
    for (index, listener) in state.plan.listeners.iter().enumerate() {
        if !listener.proxy_protocol.is_empty() {
            let value = sum(state, |metrics| &metrics.proxy_protocol_failures[index]);
            family.mut_metric().push(counter(&[("listener", &listener.name)], value));
        }
    }
    family
}

/// Only of listeners where that may happen.
fn expired_calls(state: &State) -> MetricFamily {
    let help = "Calls that ended because their connection was older than max_connection_age and its grace.";
    let mut family = family("weir_connection_age_calls_ended_total", help, MetricType::COUNTER);
    for (index, listener) in state.plan.listeners.iter().enumerate() {
        if listener.max_connection_age.is_some() && listener.max_connection_age_grace.is_some() {
            let value = sum(state, |metrics| &metrics.expired_calls[index]);
            family.mut_metric().push(counter(&[("listener", &listener.name)], value));
        }
    }
    family
}

fn upstream_connections(state: &State) -> MetricFamily {
    let help = "Open connections to backends.";
    by_cluster(state, "weir_upstream_connections", help, MetricType::GAUGE, |metrics, index| {
        &metrics.upstream_connections[index]
    })
}

fn calls_waiting(state: &State) -> MetricFamily {
    let help = "Calls that wait for a stream to a backend: for a connect, or for another stream to end.";
    by_cluster(state, "weir_calls_waiting", help, MetricType::GAUGE, |metrics, index| &metrics.calls_waiting[index])
}

fn connect_failures(state: &State) -> MetricFamily {
    let help = "Connects to backends that failed.";
    by_cluster(state, "weir_upstream_connect_failures_total", help, MetricType::COUNTER, |metrics, index| {
        &metrics.connect_failures[index]
    })
}

/// Of clusters that speak TLS; the others cannot have any.
fn tls_failures(state: &State) -> MetricFamily {
    let mut family =
        family("weir_upstream_tls_failures_total", "Connects to backends that failed in TLS.", MetricType::COUNTER);
    for cluster in state.clusters.iter().filter(|cluster| cluster.plan.tls.is_some()) {
        for (index, reason) in Reason::LABELS.into_iter().enumerate() {
            let value = sum(state, |metrics| metrics.tls_failures(cluster.index, index));
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name), ("reason", reason)], value));
        }
    }
    family
}

fn transparent_retries(state: &State) -> MetricFamily {
    let help = "Attempts repeated because no backend had processed them.";
    by_cluster(state, "weir_transparent_retries_total", help, MetricType::COUNTER, |metrics, index| {
        &metrics.transparent_retries[index]
    })
}

fn resets_delayed(state: &State) -> MetricFamily {
    let help = "Streams whose reset waited until the backend could have looked at them.";
    by_cluster(state, "weir_upstream_resets_delayed_total", help, MetricType::COUNTER, |metrics, index| {
        &metrics.resets_delayed[index]
    })
}

fn timed_out(state: &State) -> MetricFamily {
    let help = "Calls that a limit of their route ended.";
    let mut family = family("weir_calls_timed_out_total", help, MetricType::COUNTER);
    for cluster in &state.clusters {
        for limit in Limit::ALL {
            let value = sum(state, |metrics| metrics.timed_out(cluster.index, limit));
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name), ("limit", limit.key())], value));
        }
    }
    family
}

fn streams_ended(state: &State) -> MetricFamily {
    let help = "Streams that the gateway ended so that their clients open them elsewhere.";
    let mut family = family("weir_streams_ended_total", help, MetricType::COUNTER);
    for cluster in &state.clusters {
        for why in Move::ALL {
            let value = sum(state, |metrics| metrics.moved(cluster.index, why));
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name), ("reason", why.name())], value));
        }
    }
    family
}

fn retries(state: &State) -> MetricFamily {
    let help = "Attempts that failed and that a retry policy made again.";
    by_cluster(state, "weir_retries_total", help, MetricType::COUNTER, |metrics, index| &metrics.retries[index])
}

fn denied_retries(state: &State) -> MetricFamily {
    let help = "Failures that a retry policy would have made again, by what denied it.";
    let mut family = family("weir_retries_denied_total", help, MetricType::COUNTER);
    for cluster in &state.clusters {
        for (denied, reason) in Denied::RETRIES {
            let labels = [("cluster", &*cluster.plan.name), ("reason", reason)];
            let value = sum(state, |metrics| metrics.denied_retries(cluster.index, denied));
            family.mut_metric().push(counter(&labels, value));
        }
    }
    family
}

fn retry_buffer_overflows(state: &State) -> MetricFamily {
    let help = "Calls that could not be made again because they had sent more than is kept.";
    by_cluster(state, "weir_retry_buffer_overflows_total", help, MetricType::COUNTER, |metrics, index| {
        &metrics.retry_buffer_overflows[index]
    })
}

fn retry_buffer_bytes(state: &State) -> MetricFamily {
    let help = "Bytes of requests that are kept for another attempt.";
    let mut family = family("weir_retry_buffer_bytes", help, MetricType::GAUGE);
    for cluster in &state.clusters {
        let value = cluster.retries.buffered() as u64;
        family.mut_metric().push(gauge(&[("cluster", &cluster.plan.name)], value));
    }
    family
}

/// Only clusters with circuit breakers can reject a call.
fn shed(state: &State) -> MetricFamily {
    let mut family = family("weir_calls_shed_total", "Calls that a circuit breaker rejected.", MetricType::COUNTER);
    for cluster in state.clusters.iter().filter(|cluster| cluster.breaker.is_some()) {
        for full in Full::ALL {
            let value = sum(state, |metrics| metrics.shed(cluster.index, full));
            family.mut_metric().push(counter(&[("cluster", &cluster.plan.name), ("limit", full.key())], value));
        }
    }
    family
}

fn dropped_records(state: &State) -> MetricFamily {
    let help = "Lines that the access log lost because its writer was behind.";
    let mut family = family("weir_access_log_dropped_total", help, MetricType::COUNTER);
    if state.plan.access_log.is_some() {
        family.mut_metric().push(counter(&[], sum(state, |metrics| &metrics.dropped_records)));
    }
    family
}

// The shapes that families share.

/// Calls `tell` with the labels of every listener and cluster, and a function that sums one of their cells.
fn each_pair(state: &State, mut tell: impl FnMut(&str, &str, &dyn Fn(&dyn Fn(&CallMetrics) -> &Cell) -> u64)) {
    let clusters = state.places.clusters.taken();
    for listener in state.places.listeners.taken() {
        let clusters = clusters.iter().map(|cluster| (Some(cluster.index), &*cluster.name));
        for (cluster, name) in clusters.chain([(None, "")]) {
            tell(&listener.name, name, &|cell| {
                state.workers.iter().map(|worker| cell(worker.metrics.calls(listener.index, cluster)).get()).sum()
            });
        }
    }
}

fn by_listener(
    state: &State,
    name: &str,
    help: &str,
    kind: MetricType,
    cell: impl Fn(&WorkerMetrics, usize) -> &Cell,
) -> MetricFamily {
    let mut family = family(name, help, kind);
    for listener in state.places.listeners.taken() {
        let value = sum(state, |metrics| cell(metrics, listener.index));
        family.mut_metric().push(of_kind(kind, &[("listener", &listener.name)], value));
    }
    family
}

fn by_cluster(
    state: &State,
    name: &str,
    help: &str,
    kind: MetricType,
    cell: impl Fn(&WorkerMetrics, usize) -> &Cell,
) -> MetricFamily {
    let mut family = family(name, help, kind);
    for cluster in state.places.clusters.taken() {
        let value = sum(state, |metrics| cell(metrics, cluster.index));
        family.mut_metric().push(of_kind(kind, &[("cluster", &cluster.name)], value));
    }
    family
}

/// Without a name there is nothing to show, and no family.
fn node_info(state: &State) -> MetricFamily {
    let mut family = family("weir_node_info", "What the configuration calls this process.", MetricType::GAUGE);
    let node = &state.plan.node;
    if *node != Node::default() {
        let labels = [("id", node.id.as_deref()), ("cluster", node.cluster.as_deref())];
        family.mut_metric().push(gauge(&labels.map(|(label, value)| (label, value.unwrap_or_default())), 1));
    }
    family
}

fn plain(state: &State, name: &str, help: &str, value: impl Fn(&State) -> u64) -> MetricFamily {
    let mut family = family(name, help, MetricType::GAUGE);
    family.mut_metric().push(gauge(&[], value(state)));
    family
}

fn sum(state: &State, cell: impl Fn(&WorkerMetrics) -> &Cell) -> u64 {
    state.workers.iter().map(|worker| cell(&worker.metrics).get()).sum()
}

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let mut metric = Metric::default();
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

fn of_kind(kind: MetricType, labels: &[(&str, &str)], value: u64) -> Metric {
    if kind == MetricType::COUNTER { counter(labels, value) } else { gauge(labels, value) }
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}
