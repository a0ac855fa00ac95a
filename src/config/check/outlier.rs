//! Rules for outlier detection and panic.

use std::time::Duration;

use weir_filter::Code;

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::{Cluster, OutlierDetection};
use crate::config::file::value::FailureStatus;
use crate::config::located::At;
use crate::config::plan::{self, Codes, FailurePercentage, SuccessRate};
use crate::config::suggest::did_you_mean;

/// What a backend says of itself, rather than of the call.
const FAILURE_STATUSES: [Code; 4] = [Code::Unknown, Code::Internal, Code::Unavailable, Code::DataLoss];

const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);

/// Unless the base is longer.
const MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

impl Checker<'_, '_> {
    pub(super) fn outlier_detection(&self, field: Option<&At<OutlierDetection>>) -> Option<plan::OutlierDetection> {
        let at = field?;
        let file = at.value.as_ref()?;
        let row = |field: &Option<At<u64>>, key| self.number(field.as_ref(), key, 0..=1_000_000, 5);
        let (base_ejection_time, max_ejection_time) = self.ejection_times(file);
        let plan = plan::OutlierDetection {
            consecutive_gateway_failure: row(&file.consecutive_gateway_failure, "consecutive_gateway_failure"),
            consecutive_grpc_failure: row(&file.consecutive_grpc_failure, "consecutive_grpc_failure"),
            failure_statuses: self.failure_statuses(file.failure_statuses.as_ref()),
            interval: self.positive(file.interval.as_ref(), "interval").unwrap_or(Duration::from_secs(10)),
            base_ejection_time,
            max_ejection_time,
            max_ejection_percent: self.number(file.max_ejection_percent.as_ref(), "max_ejection_percent", 1..=100, 10),
            success_rate: self.success_rate(file),
            failure_percentage: self.failure_percentage(file),
        };
        let rows = plan.consecutive_gateway_failure.max(plan.consecutive_grpc_failure);
        if rows == 0 && plan.success_rate.is_none() && plan.failure_percentage.is_none() {
            self.useless("outlier_detection", field, "every way to detect an outlier is off");
        }
        Some(plan)
    }

    fn ejection_times(&self, file: &OutlierDetection) -> (Duration, Duration) {
        let base = self.positive(file.base_ejection_time.as_ref(), "base_ejection_time").unwrap_or(BASE_EJECTION_TIME);
        let Some(field) = &file.max_ejection_time else { return (base, base.max(MAX_EJECTION_TIME)) };
        let max = self.positive(Some(field), "max_ejection_time").unwrap_or(base);
        if max < base {
            let error = Diagnostic::new(field.place, "`max_ejection_time` is shorter than `base_ejection_time`");
            let error = error.label("no ejection would last as long as the first should");
            self.error(match &file.base_ejection_time {
                Some(base) => error.other(base.place, "the first one's time"),
                None => error,
            });
        }
        (base, max)
    }

    fn failure_statuses(&self, field: Option<&At<Vec<At<FailureStatus>>>>) -> Codes {
        let Some(items) = field.and_then(|field| field.value.as_deref()) else {
            return FAILURE_STATUSES.into_iter().collect();
        };
        items.iter().filter_map(|item| self.failure_status(item)).collect()
    }

    fn failure_status(&self, at: &At<FailureStatus>) -> Option<Code> {
        let FailureStatus(text) = at.value.as_ref()?;
        let known = Code::ALL.into_iter().find(|code| code.name().eq_ignore_ascii_case(text));
        match known {
            Some(Code::Ok) => {
                self.error(Diagnostic::new(at.place, "`OK` is no failure").label("every other status may be"));
                None
            }
            Some(code) => Some(code),
            None => {
                let label = did_you_mean(&text.to_ascii_uppercase(), Code::ALL.map(Code::name));
                let error = Diagnostic::new(at.place, format!("unknown gRPC status `{text}`"));
                self.error(error.label(label.unwrap_or_else(|| "such as `UNAVAILABLE` or `INTERNAL`".to_owned())));
                None
            }
        }
    }

    fn success_rate(&self, file: &OutlierDetection) -> Option<SuccessRate> {
        let (hosts, volume) = (&file.success_rate_minimum_hosts, &file.success_rate_request_volume);
        let minimum_hosts = self.number(hosts.as_ref(), "success_rate_minimum_hosts", 1..=1_000_000, 5);
        let request_volume = self.number(volume.as_ref(), "success_rate_request_volume", 1..=1_000_000_000, 100);
        let Some(factor) = &file.success_rate_stdev_factor else {
            let why = "without `success_rate_stdev_factor` no success rate ejects";
            self.useless("success_rate_minimum_hosts", hosts.as_ref(), why);
            self.useless("success_rate_request_volume", volume.as_ref(), why);
            return None;
        };
        let stdev_factor = self.number(Some(factor), "success_rate_stdev_factor", 1..=1_000_000, 1900);
        Some(SuccessRate { stdev_factor, minimum_hosts, request_volume })
    }

    fn failure_percentage(&self, file: &OutlierDetection) -> Option<FailurePercentage> {
        let (hosts, volume) = (&file.failure_percentage_minimum_hosts, &file.failure_percentage_request_volume);
        let minimum_hosts = self.number(hosts.as_ref(), "failure_percentage_minimum_hosts", 1..=1_000_000, 5);
        let request_volume = self.number(volume.as_ref(), "failure_percentage_request_volume", 1..=1_000_000_000, 50);
        let Some(threshold) = &file.failure_percentage_threshold else {
            let why = "without `failure_percentage_threshold` no failure percentage ejects";
            self.useless("failure_percentage_minimum_hosts", hosts.as_ref(), why);
            self.useless("failure_percentage_request_volume", volume.as_ref(), why);
            return None;
        };
        let threshold = self.number(Some(threshold), "failure_percentage_threshold", 1..=100, 85);
        Some(FailurePercentage { threshold, minimum_hosts, request_volume })
    }

    pub(super) fn panic_threshold(&self, cluster: &Cluster) -> u32 {
        let field = cluster.healthy_panic_threshold.as_ref();
        let checked =
            cluster.health_checks.as_ref().is_some_and(|at| at.value.as_ref().is_none_or(|all| !all.is_empty()));
        if !checked && cluster.outlier_detection.is_none() {
            let why = "without `health_checks` and `outlier_detection` every endpoint is used anyway";
            self.useless("healthy_panic_threshold", field, why);
        }
        self.number(field, "healthy_panic_threshold", 0..=100, 0)
    }
}
