//! Health checks and outlier detection in the words of the file.

use std::ops::RangeInclusive;

use serde_yaml::Value;

use super::{list, map, some, time};
use crate::config::plan::{FailurePercentage, HealthCheck, OutlierDetection, Probe, SuccessRate};

pub(super) fn checks(checks: &[HealthCheck]) -> Option<Value> {
    list(checks, check).filter(|_| !checks.is_empty())
}

fn check(check: &HealthCheck) -> Value {
    let Asked { protocol, service, path, host, use_http2, statuses } = asked(&check.probe);
    map([
        ("protocol", some(protocol)),
        ("service_name", service),
        ("path", path),
        ("host", host),
        ("use_http2", use_http2),
        ("expected_statuses", statuses),
        ("interval", time(check.interval)),
        ("unhealthy_interval", time(check.unhealthy_interval)),
        ("interval_jitter", check.interval_jitter.and_then(time)),
        ("initial_delay", time(check.initial_delay)),
        ("timeout", time(check.timeout)),
        ("healthy_threshold", some(check.healthy_threshold)),
        ("unhealthy_threshold", some(check.unhealthy_threshold)),
    ])
}

/// The keys of one protocol.
#[derive(Default)]
struct Asked {
    protocol: &'static str,
    service: Option<Value>,
    path: Option<Value>,
    host: Option<Value>,
    use_http2: Option<Value>,
    statuses: Option<Value>,
}

fn asked(probe: &Probe) -> Asked {
    match probe {
        Probe::Tcp => Asked { protocol: "tcp", ..Asked::default() },
        Probe::Grpc { service_name } => {
            Asked { protocol: "grpc", service: some(service_name.clone()), ..Asked::default() }
        }
        Probe::Http { path, host, use_http2, expected_statuses } => Asked {
            protocol: "http",
            path: some(path.as_str()),
            host: host.as_ref().and_then(|host| some(host.as_str())),
            use_http2: some(*use_http2),
            statuses: list(expected_statuses, statuses),
            ..Asked::default()
        },
    }
}

fn statuses(range: &RangeInclusive<u16>) -> Value {
    if range.start() == range.end() {
        Value::from(*range.start())
    } else {
        Value::from(format!("{}-{}", range.start(), range.end()))
    }
}

pub(super) fn outlier_detection(outlier: &OutlierDetection) -> Value {
    let codes: Vec<_> = outlier.failure_statuses.iter().collect();
    let rate = |value: fn(&SuccessRate) -> u64| outlier.success_rate.as_ref().map(value).and_then(some);
    let percentage =
        |value: fn(&FailurePercentage) -> u64| outlier.failure_percentage.as_ref().map(value).and_then(some);
    map([
        ("consecutive_gateway_failure", some(outlier.consecutive_gateway_failure)),
        ("consecutive_grpc_failure", some(outlier.consecutive_grpc_failure)),
        ("failure_statuses", list(&codes, |code| Value::from(code.name()))),
        ("interval", time(outlier.interval)),
        ("base_ejection_time", time(outlier.base_ejection_time)),
        ("max_ejection_time", time(outlier.max_ejection_time)),
        ("max_ejection_percent", some(outlier.max_ejection_percent)),
        ("success_rate_stdev_factor", rate(|rate| rate.stdev_factor.into())),
        ("success_rate_minimum_hosts", rate(|rate| rate.minimum_hosts as u64)),
        ("success_rate_request_volume", rate(|rate| rate.request_volume)),
        ("failure_percentage_threshold", percentage(|rate| rate.threshold.into())),
        ("failure_percentage_minimum_hosts", percentage(|rate| rate.minimum_hosts as u64)),
        ("failure_percentage_request_volume", percentage(|rate| rate.request_volume)),
    ])
}
