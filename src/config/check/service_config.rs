//! Rules for a gRPC service config: a file beside the configuration, in the form that gRPC's clients read.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::retry::{HOLD_HEADERS, MOST_ATTEMPTS, MOST_TOKENS};
use super::{Bound, Checker, Names, ProxySettings, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::duration;
use crate::config::file::cluster::Cluster;
use crate::config::file::service_config::{HedgingPolicy, MethodConfig, Name, RetryPolicy, ServiceConfig, Throttling};
use crate::config::findings::Findings;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, CallPolicy};
use crate::config::read::{Held, Reader};
use crate::config::trail::Trail;
use crate::config::tree;

impl Checker<'_, '_> {
    /// Reads the cluster's service config. What is wrong with it is told at the key that names it.
    pub(super) fn service_config(&self, cluster: &Cluster) -> Option<Arc<plan::ServiceConfig>> {
        let field = cluster.service_config_file.as_ref()?;
        let path = PathBuf::from(self.text(field, "service_config_file")?);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("`{}` cannot be read: {error}", path.display());
                self.error(Diagnostic::new(field.place, message).label("a path from where Weir is started"));
                return None;
            }
        };
        let config = self.read_service_config(&text, &path, field.place)?;
        let of_cluster = [
            ("retry_policy", cluster.retry_policy.as_ref().map(|yaml| yaml.key)),
            ("hedging_policy", cluster.hedging_policy.as_ref().map(|yaml| yaml.key)),
        ];
        let theirs = config.methods.values().find_map(|method| method.call_policy.as_ref());
        for (key, yaml) in of_cluster {
            if let (Some(yaml), Some(theirs)) = (yaml, theirs) {
                self.said_twice_of_calls(key, yaml, theirs, field.place);
            }
        }
        if let (Some(yaml), true) = (&cluster.retry_throttling, config.throttling.is_some()) {
            self.said_twice("retry_throttling", yaml.key, field.place);
        }
        Some(Arc::new(config))
    }

    fn read_service_config(&self, text: &str, path: &Path, place: Place) -> Option<plan::ServiceConfig> {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let said = error.to_string();
            let said = said.split(" at line ").next().unwrap_or_default();
            let message = format!("{}:{}:{}: no JSON: {said}", path.display(), error.line(), error.column());
            self.error(Diagnostic::new(place, message));
            return None;
        }
        let findings = Findings::new(&path.display().to_string());
        let config = within(
            &findings,
            text,
            |checker, config, root| {
                let scope = Scope::new(root, "the service config");
                checker.service_config_notices(config);
                let methods = config.method_config.as_ref().and_then(|methods| methods.value.as_deref());
                plan::ServiceConfig {
                    file: path.to_owned(),
                    methods: checker.methods_of(methods.unwrap_or_default(), &scope),
                    throttling: config.retry_throttling.as_ref().and_then(|at| checker.json_throttling(at, &scope)),
                }
            },
            self,
        );
        let (errors, notices) = findings.into_parts();
        for error in &errors {
            let at = format!("{}:{}:{}", path.display(), error.place.line, error.place.column);
            let told = Diagnostic::new(place, format!("{at}: {}", error.message));
            self.error(told.maybe_label(error.label.clone()));
        }
        for notice in notices {
            self.notice(place, format!("{}: {}", notice.place, notice.text));
        }
        config.filter(|_| errors.is_empty())
    }

    fn service_config_notices(&self, config: &ServiceConfig) {
        let why = "`lb_policy` of the cluster counts";
        self.useless("loadBalancingPolicy", config.load_balancing_policy.as_ref(), why);
        self.useless("loadBalancingConfig", config.load_balancing_config.as_ref(), why);
        let why = "`health_checks` of the cluster count";
        self.useless("healthCheckConfig", config.health_check_config.as_ref(), why);
    }

    fn methods_of(&self, items: &[At<MethodConfig>], scope: &Scope) -> BTreeMap<String, plan::MethodConfig> {
        let mut methods = BTreeMap::new();
        let mut first = BTreeMap::new();
        for item in items {
            let Some(value) = &item.value else { continue };
            let scope = scope.item("method config", None, item);
            let method = self.method_config(value, &scope);
            let names = value.name.as_ref().and_then(|names| names.value.as_deref()).unwrap_or_default();
            if names.is_empty() {
                self.notice(item.place, "a method config without a `name` has no effect");
            }
            for at in names {
                let Some(name) = self.method_name(at) else { continue };
                if let Some(earlier) = first.insert(name.clone(), at.place) {
                    let error = Diagnostic::new(at.place, "two method configs with the same name");
                    self.error(error.label(format!("the first is in line {}", earlier.line)));
                }
                methods.insert(name, method.clone());
            }
        }
        methods
    }

    /// The name as [`plan::ServiceConfig::methods`] has it.
    fn method_name(&self, at: &At<Name>) -> Option<String> {
        let name = at.value.as_ref()?;
        let text = |field: &Option<At<String>>| field.as_ref().and_then(|at| at.value.clone()).unwrap_or_default();
        let (service, method) = (text(&name.service), text(&name.method));
        match (service.is_empty(), method.is_empty()) {
            (true, true) => Some(String::new()),
            (true, false) => {
                let error = Diagnostic::new(at.place, "a `name` with a `method` and no `service`");
                self.error(error.label("name the service too"));
                None
            }
            (false, _) => Some(format!("{service}/{method}")),
        }
    }

    fn method_config(&self, config: &MethodConfig, scope: &Scope) -> plan::MethodConfig {
        let why = "a call waits for a connect as long as `connect_timeout` of the cluster says";
        self.useless("waitForReady", config.wait_for_ready.as_ref(), why);
        let why = "`max_receive_message_size` of the listener counts";
        self.useless("maxRequestMessageBytes", config.max_request_message_bytes.as_ref(), why);
        let why = "`max_send_message_size` of the listener counts";
        self.useless("maxResponseMessageBytes", config.max_response_message_bytes.as_ref(), why);
        let (retry, hedging) = (config.retry_policy.as_ref(), config.hedging_policy.as_ref());
        self.not_both(retry, "retryPolicy", hedging, "hedgingPolicy");
        let retry = retry.and_then(|at| self.json_policy(at, scope));
        let hedging = hedging.and_then(|at| self.json_hedging(at, scope));
        plan::MethodConfig {
            call_policy: retry
                .map(|policy| CallPolicy::Retry(Arc::new(policy)))
                .or_else(|| hedging.map(|policy| CallPolicy::Hedging(Arc::new(policy)))),
            timeout: config.timeout.as_ref().and_then(|at| self.seconds(at, "timeout")),
        }
    }

    fn json_policy(&self, at: &At<RetryPolicy>, scope: &Scope) -> Option<plan::RetryPolicy> {
        let policy = at.value.as_ref()?;
        let scope = scope.key("retryPolicy", at);
        let attempts = self.required(policy.max_attempts.as_ref(), "maxAttempts", &scope);
        let attempts = attempts.and_then(|at| self.json_attempts(at));
        let time = |field: Option<&At<String>>, key| {
            self.required(field, key, &scope).and_then(|field| self.seconds(field, key))
        };
        let initial = time(policy.initial_backoff.as_ref(), "initialBackoff");
        let max = time(policy.max_backoff.as_ref(), "maxBackoff");
        let multiplier = self.required(policy.backoff_multiplier.as_ref(), "backoffMultiplier", &scope);
        let multiplier = multiplier.and_then(|at| self.thousandths(at, "backoffMultiplier"));
        let codes = self.required(policy.retryable_status_codes.as_ref(), "retryableStatusCodes", &scope);
        let codes = codes.and_then(|codes| self.status_codes(codes));
        let timeout = policy.per_attempt_recv_timeout.as_ref();
        Some(plan::RetryPolicy {
            max_attempts: attempts?,
            initial_backoff: initial?,
            max_backoff: max?,
            backoff_multiplier: multiplier?,
            retryable: codes?,
            per_attempt_timeout: timeout.and_then(|at| self.seconds(at, "perAttemptRecvTimeout")),
            hold_headers: HOLD_HEADERS,
        })
    }

    fn json_hedging(&self, at: &At<HedgingPolicy>, scope: &Scope) -> Option<plan::HedgingPolicy> {
        let policy = at.value.as_ref()?;
        let scope = scope.key("hedgingPolicy", at);
        let attempts = self.required(policy.max_attempts.as_ref(), "maxAttempts", &scope);
        let attempts = attempts.and_then(|at| self.json_attempts(at));
        let delay = policy.hedging_delay.as_ref();
        let delay = delay.map_or(Some(Duration::ZERO), |at| self.any_seconds(at, "hedgingDelay", true));
        let non_fatal = self.non_fatal(policy.non_fatal_status_codes.as_ref());
        Some(plan::HedgingPolicy {
            max_attempts: attempts?,
            hedging_delay: delay?,
            non_fatal: non_fatal?,
            hold_headers: HOLD_HEADERS,
        })
    }

    /// More than five are taken for five, as gRFC A6 asks of a client.
    fn json_attempts(&self, at: &At<u64>) -> Option<u32> {
        let number = self.in_range(at, "maxAttempts", 2..=u64::from(u32::MAX))?;
        if number > MOST_ATTEMPTS {
            self.notice(at.place, format!("`maxAttempts` of {number} counts as {MOST_ATTEMPTS}, as in gRPC's clients"));
        }
        u32::try_from(number.min(MOST_ATTEMPTS)).ok()
    }

    fn json_throttling(&self, at: &At<Throttling>, scope: &Scope) -> Option<plan::RetryThrottling> {
        let throttling = at.value.as_ref()?;
        let scope = scope.key("retryThrottling", at);
        let tokens = self.required(throttling.max_tokens.as_ref(), "maxTokens", &scope);
        let tokens = tokens.and_then(|tokens| self.in_range(tokens, "maxTokens", 1..=MOST_TOKENS));
        let ratio = self.required(throttling.token_ratio.as_ref(), "tokenRatio", &scope);
        let ratio = ratio.and_then(|ratio| self.thousandths(ratio, "tokenRatio"));
        Some(plan::RetryThrottling { max_tokens: u32::try_from(tokens?).ok()?, token_ratio: ratio? })
    }

    /// A duration in seconds, as JSON has them (proto3, `google.protobuf.Duration`).
    fn seconds(&self, at: &At<String>, key: &str) -> Option<Duration> {
        self.any_seconds(at, key, false)
    }

    fn any_seconds(&self, at: &At<String>, key: &str, may_be_zero: bool) -> Option<Duration> {
        let text = at.value.as_deref()?;
        let digits = text.strip_suffix('s').unwrap_or_default();
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let found = duration::parse(text).ok().filter(|found| plain && (may_be_zero || !found.is_zero()));
        if found.is_none() {
            let what = if may_be_zero { "duration" } else { "positive duration" };
            let error = Diagnostic::new(at.place, format!("`{key}` is no {what}: `{text}`"));
            self.error(error.label("seconds with an `s` behind them, such as \"0.1s\""));
        }
        found
    }
}

/// Checks a text in JSON by rules that record what they find apart from the configuration's own findings.
fn within<T>(
    findings: &Findings,
    text: &str,
    check: impl FnOnce(&Checker<'_, '_>, &ServiceConfig, Place) -> T,
    outer: &Checker<'_, '_>,
) -> Option<T> {
    // JSON is YAML, but for tabs. In JSON they stand only between tokens.
    let text = text.replace('\t', " ");
    let root = tree::parse(&text, &|_| None, findings)?;
    let reader = Reader::new(findings);
    let config: ServiceConfig = reader.read(&Held { node: &root, trail: Trail::default() })?;
    let checker = Checker {
        findings,
        reader: &reader,
        registry: outer.registry,
        names: Names::default(),
        proxies: ProxySettings::default(),
        bound: Bound::default(),
        system_roots: OnceCell::new(),
        retried: RefCell::default(),
        asked: RefCell::default(),
        stream_idle: None,
        here: None,
    };
    Some(check(&checker, &config, root.place))
}
