//! Rules for retries.

use std::sync::Arc;
use std::time::Duration;

use weir_filter::Code;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::Cluster;
use crate::config::file::retry::{RetryBudget, RetryBuffer, RetryPolicy, RetryThrottling};
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, StatusCodes, Thousandths};
use crate::config::suggest::did_you_mean;

/// More attempts than this are more load than help (gRFC A6, "Limits on Retries and Hedges").
pub(super) const MOST_ATTEMPTS: u64 = 5;

/// Waits where the policy does not say.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
const MULTIPLIER: Thousandths = Thousandths(2000);

/// How long response headers are held back where the policy does not say.
pub(super) const HOLD_HEADERS: Duration = Duration::from_secs(1);

/// More than this could not be counted in the tokens of a cluster.
pub(super) const MOST_TOKENS: u64 = 1000;

impl Checker<'_, '_> {
    pub(super) fn retry_policy(
        &self,
        field: Option<&At<RetryPolicy>>,
        scope: &Scope,
    ) -> Option<Arc<plan::RetryPolicy>> {
        let field = field?;
        let policy = field.value.as_ref()?;
        let scope = scope.key("retry_policy", field);
        let attempts = self.required(policy.max_attempts.as_ref(), "max_attempts", &scope);
        let attempts = attempts.and_then(|attempts| self.attempts(attempts, "retry_policy"));
        let codes = self.required(policy.retryable_status_codes.as_ref(), "retryable_status_codes", &scope);
        let codes = codes.and_then(|codes| self.status_codes(codes));
        let initial = self.positive(policy.initial_backoff.as_ref(), "initial_backoff").unwrap_or(INITIAL_BACKOFF);
        let max = self.positive(policy.max_backoff.as_ref(), "max_backoff");
        let max = max.unwrap_or(MAX_BACKOFF);
        if initial > max {
            let place =
                policy.initial_backoff.as_ref().or(policy.max_backoff.as_ref()).map_or(field.key, |at| at.place);
            let error = Diagnostic::new(place, "`initial_backoff` is longer than `max_backoff`");
            self.error(error.label("they are 100ms and 1s where nothing is said"));
        }
        let multiplier = policy.backoff_multiplier.as_ref();
        let multiplier = multiplier.and_then(|field| self.thousandths(field, "backoff_multiplier"));
        Some(Arc::new(plan::RetryPolicy {
            max_attempts: attempts?,
            initial_backoff: initial,
            max_backoff: max,
            backoff_multiplier: multiplier.unwrap_or(MULTIPLIER),
            retryable: codes?,
            per_attempt_timeout: self.positive(policy.per_attempt_timeout.as_ref(), "per_attempt_timeout"),
            hold_headers: self.duration(policy.hold_headers.as_ref()).unwrap_or(HOLD_HEADERS),
        }))
    }

    pub(super) fn attempts(&self, field: &At<u64>, policy: &str) -> Option<u32> {
        let number = field.value?;
        if (2..=MOST_ATTEMPTS).contains(&number) {
            return u32::try_from(number).ok();
        }
        let error = Diagnostic::new(field.place, format!("`max_attempts` is out of range: {number}"));
        self.error(error.label(if number > MOST_ATTEMPTS {
            "from 2 to 5: a backend that fails so often needs rest".to_owned()
        } else {
            format!("from 2 to 5: the first attempt counts; for no other leave `{policy}` out")
        }));
        None
    }

    pub(super) fn status_codes(&self, field: &At<Vec<At<String>>>) -> Option<StatusCodes> {
        let items = field.value.as_deref()?;
        if items.is_empty() {
            let error = Diagnostic::new(field.key, "no status is tried again");
            self.error(error.label("name at least one, such as `[UNAVAILABLE]`"));
            return None;
        }
        let mut codes = StatusCodes::default();
        for item in items {
            match status_code(item.value.as_deref()?) {
                Ok(code) => codes.insert(code),
                Err((message, label)) => self.error(Diagnostic::new(item.place, message).label(label)),
            }
        }
        Some(codes)
    }

    /// A positive number, of which three decimals count.
    pub(super) fn thousandths(&self, field: &At<f64>, key: &str) -> Option<Thousandths> {
        let number = field.value?;
        let found = thousandths(number);
        if found.is_none() {
            let error = Diagnostic::new(field.place, format!("`{key}` is out of range: {number}"));
            self.error(error.label("from 0.001 to 1000"));
        }
        found
    }

    pub(super) fn retry_throttling(
        &self,
        field: Option<&At<RetryThrottling>>,
        scope: &Scope,
    ) -> Option<plan::RetryThrottling> {
        let field = field?;
        let throttling = field.value.as_ref()?;
        let scope = scope.key("retry_throttling", field);
        let tokens = self.required(throttling.max_tokens.as_ref(), "max_tokens", &scope);
        let tokens = tokens.and_then(|tokens| self.in_range(tokens, "max_tokens", 1..=MOST_TOKENS));
        let ratio = self.required(throttling.token_ratio.as_ref(), "token_ratio", &scope);
        let ratio = ratio.and_then(|ratio| self.thousandths(ratio, "token_ratio"));
        Some(plan::RetryThrottling { max_tokens: u32::try_from(tokens?).ok()?, token_ratio: ratio? })
    }

    pub(super) fn retry_budget(&self, field: Option<&At<RetryBudget>>) -> Option<plan::RetryBudget> {
        let budget = field?;
        let budget = budget.value.as_ref()?;
        Some(plan::RetryBudget {
            percent: self.number(budget.percent.as_ref(), "percent", 0..=100, 20),
            min_concurrency: self.number(budget.min_concurrency.as_ref(), "min_concurrency", 0..=1_000_000, 3),
        })
    }

    pub(super) fn retry_buffer(&self, field: Option<&At<RetryBuffer>>) -> plan::RetryBuffer {
        let buffer = field.and_then(|field| field.value.as_ref());
        let default = plan::RetryBuffer::default();
        let size = |field: Option<&_>, key, default| {
            let bytes = self.size(field, key, 0..=u64::from(u32::MAX), "");
            bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default)
        };
        let per_call = buffer.and_then(|buffer| buffer.per_call.as_ref());
        let per_cluster = buffer.and_then(|buffer| buffer.per_cluster.as_ref());
        let found = plan::RetryBuffer {
            per_call: size(per_call, "per_call", default.per_call),
            per_cluster: size(per_cluster, "per_cluster", default.per_cluster),
        };
        let place = per_call.or(per_cluster).map(|field| field.place);
        if let (Some(place), true) = (place, found.per_call > found.per_cluster) {
            let error = Diagnostic::new(place, "`per_call` is larger than `per_cluster`");
            self.error(error.label("one call may not have more than all of them together"));
        }
        found
    }

    /// Keys that bound retries, where nothing of the cluster's is ever retried.
    pub(super) fn useless_retry_keys(&self, cluster: &Cluster) {
        let why = "no route to this cluster has a `retry_policy` or `hedging_policy`, nor has the cluster";
        self.useless("retry_throttling", cluster.retry_throttling.as_ref(), why);
        self.useless("retry_budget", cluster.retry_budget.as_ref(), why);
        self.useless("retry_buffer", cluster.retry_buffer.as_ref(), why);
    }

    /// The same of when its calls are made more than once, where both kinds of policy are one thing.
    pub(super) fn said_twice_of_calls(&self, key: &str, yaml: Place, theirs: &plan::CallPolicy, file: Place) {
        let their_key = if theirs.retry().is_some() { "retry_policy" } else { "hedging_policy" };
        if key == their_key {
            return self.said_twice(key, yaml, file);
        }
        let error = Diagnostic::new(yaml, format!("`{key}` stands here, and a `{their_key}` in the service config"));
        self.error(error.label("keep one of them").other(file, "the service config"));
    }

    /// Two places that say the same thing of one cluster.
    pub(super) fn said_twice(&self, what: &str, yaml: Place, file: Place) {
        let error = Diagnostic::new(yaml, format!("`{what}` stands here and in the service config"));
        self.error(error.label("keep one of them").other(file, "the service config"));
    }
}

/// The code of this name or number, unless it is OK.
///
/// # Errors
///
/// What is wrong with it, and advice.
pub(super) fn status_code(text: &str) -> Result<Code, (String, String)> {
    let named = Code::ALL.into_iter().find(|code| code.name() == text);
    match named.or_else(|| text.parse().ok().and_then(Code::from_number)) {
        Some(Code::Ok) => {
            Err(("OK is no failure".to_owned(), "name statuses that a call may be made again after".to_owned()))
        }
        Some(code) => Ok(code),
        None => {
            let names = Code::ALL.into_iter().map(Code::name);
            let label = did_you_mean(&text.to_ascii_uppercase(), names);
            let label = label.unwrap_or_else(|| "the names of gRPC, such as `UNAVAILABLE`".to_owned());
            Err((format!("no status is called `{text}`"), label))
        }
    }
}

/// The number with its first three decimals; `None` where that is out of range.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
pub(super) fn thousandths(number: f64) -> Option<Thousandths> {
    let thousandths = (number * 1000.0).round();
    (1.0..=1_000_000.0).contains(&thousandths).then_some(Thousandths(thousandths as u64))
}
