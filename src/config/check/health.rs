//! Rules for health checks.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::HealthCheck;
use crate::config::file::value::{HealthProtocol, HttpStatus};
use crate::config::located::At;
use crate::config::plan::{self, Probe};
use crate::config::suggest::did_you_mean;

const PROTOCOLS: [&str; 3] = ["tcp", "grpc", "http"];

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
        let interval = self.positive(check.interval.as_ref(), "interval").unwrap_or(Duration::from_secs(3));
        let unhealthy_interval = self.positive(check.unhealthy_interval.as_ref(), "unhealthy_interval");
        let timeout = self.positive(check.timeout.as_ref(), "timeout");
        let threshold = |field: &Option<At<u64>>, key, default| self.number(field.as_ref(), key, 1..=1000, default);
        Some(plan::HealthCheck {
            interval,
            unhealthy_interval: unhealthy_interval.unwrap_or(interval),
            interval_jitter: self.duration(check.interval_jitter.as_ref()),
            initial_delay: self.duration(check.initial_delay.as_ref()).unwrap_or_default(),
            timeout: timeout.unwrap_or(Duration::from_secs(1)),
            healthy_threshold: threshold(&check.healthy_threshold, "healthy_threshold", 2),
            unhealthy_threshold: threshold(&check.unhealthy_threshold, "unhealthy_threshold", 3),
            probe: probe?,
        })
    }

    fn probe(&self, check: &HealthCheck, scope: &Scope) -> Option<Probe> {
        let field = self.required(check.protocol.as_ref(), "protocol", scope)?;
        let HealthProtocol(text) = field.value.as_ref()?;
        let lower = text.to_ascii_lowercase();
        self.keys_of_others(check, &lower);
        match &*lower {
            "tcp" => Some(Probe::Tcp),
            "grpc" => {
                let service = check.service_name.as_ref().and_then(|service| service.value.clone());
                Some(Probe::Grpc { service_name: service.unwrap_or_default() })
            }
            "http" => self.http_probe(check, scope),
            _ => {
                self.error(unknown_protocol(text, field));
                None
            }
        }
    }

    /// Keys that this protocol has no use for.
    fn keys_of_others(&self, check: &HealthCheck, protocol: &str) {
        if !PROTOCOLS.contains(&protocol) {
            return;
        }
        if protocol != "grpc" {
            let why = format!("`{protocol}` asks no service");
            self.useless("service_name", check.service_name.as_ref(), &why);
        }
        if protocol != "http" {
            let why = format!("`{protocol}` makes no HTTP request");
            self.useless("path", check.path.as_ref(), &why);
            self.useless("host", check.host.as_ref(), &why);
            self.useless("use_http2", check.use_http2.as_ref(), &why);
            self.useless("expected_statuses", check.expected_statuses.as_ref(), &why);
        }
    }

    fn http_probe(&self, check: &HealthCheck, scope: &Scope) -> Option<Probe> {
        let expected_statuses = self.expected_statuses(check.expected_statuses.as_ref());
        let host = check.host.as_ref().and_then(|field| self.authority(field));
        let path = self.required(check.path.as_ref(), "path", scope).and_then(|field| self.request_path(field));
        let use_http2 = check.use_http2.as_ref().and_then(|field| field.value).unwrap_or(true);
        Some(Probe::Http { path: path?, host, use_http2, expected_statuses })
    }

    fn request_path(&self, field: &At<String>) -> Option<PathAndQuery> {
        let text = self.text(field, "path")?;
        let path = text.parse::<PathAndQuery>().ok().filter(|_| text.starts_with('/') && !text.contains('#'));
        if path.is_none() {
            let error = Diagnostic::new(field.place, format!("`{text}` is no path of a request"));
            self.error(error.label("such as `/healthz`"));
        }
        path
    }

    fn authority(&self, field: &At<String>) -> Option<Authority> {
        let text = self.text(field, "host")?;
        let host = text.parse::<Authority>().ok();
        if host.is_none() {
            let error = Diagnostic::new(field.place, format!("`{text}` is no host"));
            self.error(error.label("a name, with a port where it needs one"));
        }
        host
    }

    fn expected_statuses(&self, field: Option<&At<Vec<At<HttpStatus>>>>) -> Vec<RangeInclusive<u16>> {
        let Some(field) = field else { return vec![200..=200] };
        let items = field.value.as_deref().unwrap_or_default();
        if field.value.is_some() && items.is_empty() {
            let error = Diagnostic::new(field.place, "`expected_statuses` is empty");
            self.error(error.label("no answer would ever be good"));
        }
        items.iter().filter_map(|item| self.expected_status(item)).collect()
    }

    fn expected_status(&self, at: &At<HttpStatus>) -> Option<RangeInclusive<u16>> {
        let HttpStatus(text) = at.value.as_ref()?;
        let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = status(first).zip(status(last)).filter(|(first, last)| first <= last);
        if range.is_none() {
            let error = Diagnostic::new(at.place, format!("`{text}` is no HTTP status"));
            self.error(error.label("from 100 to 599, or a range such as `200-299`"));
        }
        range.map(|(first, last)| first..=last)
    }
}

fn unknown_protocol(text: &str, field: &At<HealthProtocol>) -> Diagnostic {
    let lower = text.to_ascii_lowercase();
    if lower == "https" {
        let error = Diagnostic::new(field.place, "`https` is no health check of its own");
        return error.label("write `http`: checks speak TLS where the cluster has `tls`");
    }
    let label = did_you_mean(&lower, PROTOCOLS).unwrap_or_else(|| "`tcp`, `grpc` or `http`".to_owned());
    Diagnostic::new(field.place, format!("unknown health check protocol `{text}`")).label(label)
}
