//! Rules for health checks.

use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::HealthCheck;
use crate::config::file::value::HealthProtocol;
use crate::config::located::At;
use crate::config::plan::{self, Probe};
use crate::config::suggest::did_you_mean;

/// Probes of Pixiu that Weir does not have so far.
const NOT_BUILT: [&str; 2] = ["http", "https"];

impl Checker<'_, '_> {
    pub(super) fn health_checks(
        &self,
        field: Option<&At<Vec<At<HealthCheck>>>>,
        scope: &Scope,
    ) -> Vec<plan::HealthCheck> {
        let items = field.and_then(|field| field.value.as_deref()).unwrap_or_default();
        items.iter().filter_map(|item| self.health_check(item, scope)).collect()
    }

    fn health_check(&self, at: &At<HealthCheck>, scope: &Scope) -> Option<plan::HealthCheck> {
        let check = at.value.as_ref()?;
        let scope = scope.item("health check", None, at);
        if let Some(field) = check.healthy_threshold.as_ref().or(check.unhealthy_threshold.as_ref()) {
            self.findings.difference(field.key, "health thresholds count here; in Pixiu they had no effect");
        }
        let probe = self.probe(check, &scope);
        let interval = self.positive(check.interval.as_ref(), "interval");
        let timeout = self.positive(check.timeout.as_ref(), "timeout");
        let threshold = |field: &Option<At<u64>>, key, default| self.number(field.as_ref(), key, 1..=1000, default);
        Some(plan::HealthCheck {
            interval: interval.unwrap_or(Duration::from_secs(3)),
            timeout: timeout.unwrap_or(Duration::from_secs(1)),
            healthy_threshold: threshold(&check.healthy_threshold, "healthy_threshold", 2),
            unhealthy_threshold: threshold(&check.unhealthy_threshold, "unhealthy_threshold", 3),
            probe: probe?,
        })
    }

    fn probe(&self, check: &HealthCheck, scope: &Scope) -> Option<Probe> {
        let field = self.required(check.protocol.as_ref(), "protocol", scope)?;
        let HealthProtocol(text) = field.value.as_ref()?;
        let service = check.service_name.as_ref();
        match text.to_ascii_lowercase().as_str() {
            "tcp" => {
                self.useless("service_name", service, "`tcp` asks no service");
                Some(Probe::Tcp)
            }
            "grpc" => {
                let service_name = service.and_then(|service| service.value.clone()).unwrap_or_default();
                Some(Probe::Grpc { service_name })
            }
            lower => {
                self.error(if NOT_BUILT.contains(&lower) {
                    let error = Diagnostic::new(field.place, format!("`{text}` health checks are not built yet"));
                    error.label("`tcp` and `grpc` are there so far")
                } else {
                    let label = did_you_mean(lower, ["tcp", "grpc"]).unwrap_or_else(|| "`tcp` or `grpc`".to_owned());
                    Diagnostic::new(field.place, format!("unknown health check protocol `{text}`")).label(label)
                });
                None
            }
        }
    }
}
