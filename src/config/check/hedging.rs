//! Rules for hedging, and for the choice between it and retries.

use std::sync::Arc;

use super::retry::HOLD_HEADERS;
use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::retry::{HedgingPolicy, RetryPolicy};
use crate::config::located::At;
use crate::config::plan::{self, CallPolicy, StatusCodes};

impl Checker<'_, '_> {
    /// What a route or a cluster says of when its calls are made more than once.
    pub(super) fn call_policy(
        &self,
        retry: Option<&At<RetryPolicy>>,
        hedging: Option<&At<HedgingPolicy>>,
        scope: &Scope,
    ) -> Option<CallPolicy> {
        self.not_both(retry, "retry_policy", hedging, "hedging_policy");
        let retry = self.retry_policy(retry, scope).map(CallPolicy::Retry);
        let hedging = self.hedging_policy(hedging, scope).map(|policy| CallPolicy::Hedging(Arc::new(policy)));
        retry.or(hedging)
    }

    /// A call is retried or hedged (gRFC A6, "Overview").
    pub(super) fn not_both<R, H>(
        &self,
        retry: Option<&At<R>>,
        retry_key: &str,
        hedging: Option<&At<H>>,
        hedging_key: &str,
    ) {
        if let (Some(retry), Some(hedging)) = (retry, hedging) {
            let error = Diagnostic::new(hedging.key, format!("`{retry_key}` and `{hedging_key}` for the same calls"));
            self.error(error.label("a call is retried or hedged: keep one of them").other(retry.key, "the other"));
        }
    }

    fn hedging_policy(&self, field: Option<&At<HedgingPolicy>>, scope: &Scope) -> Option<plan::HedgingPolicy> {
        let field = field?;
        let policy = field.value.as_ref()?;
        let scope = scope.key("hedging_policy", field);
        let attempts = self.required(policy.max_attempts.as_ref(), "max_attempts", &scope);
        let attempts = attempts.and_then(|attempts| self.attempts(attempts, "hedging_policy"));
        let delay = self.required(policy.hedging_delay.as_ref(), "hedging_delay", &scope);
        let delay = delay.and_then(|delay| self.duration(Some(delay)));
        let non_fatal = self.non_fatal(policy.non_fatal_status_codes.as_ref());
        Some(plan::HedgingPolicy {
            max_attempts: attempts?,
            hedging_delay: delay?,
            non_fatal: non_fatal?,
            hold_headers: self.duration(policy.hold_headers.as_ref()).unwrap_or(HOLD_HEADERS),
        })
    }

    /// There need be none: any failure ends the call then.
    pub(super) fn non_fatal(&self, field: Option<&At<Vec<At<String>>>>) -> Option<StatusCodes> {
        match field {
            Some(codes) if codes.value.as_ref().is_none_or(|items| !items.is_empty()) => self.status_codes(codes),
            _ => Some(StatusCodes::default()),
        }
    }
}
