//! Rules for circuit breakers.

use std::time::Duration;

use super::Checker;
use crate::config::file::breaker::{CircuitBreakers, EndpointBudget};
use crate::config::located::At;
use crate::config::plan;

/// How long a rejected client is told to wait unless the cluster says otherwise.
const PUSHBACK: Duration = Duration::from_secs(1);

/// More than a process can have in flight, and well within what counters hold.
const MOST: u64 = 1_000_000_000;

impl Checker<'_, '_> {
    /// The limits of a cluster; `None` where it has none.
    pub(super) fn circuit_breakers(&self, field: Option<&At<CircuitBreakers>>) -> Option<plan::CircuitBreakers> {
        let field = field?;
        let value = field.value.as_ref()?;
        let most = |field: &Option<At<u64>>, key| {
            let most = self.in_range(field.as_ref()?, key, 1..=MOST)?;
            usize::try_from(most).ok()
        };
        let endpoint = value.per_endpoint.as_ref().and_then(|at| at.value.as_ref());
        let of_endpoint = |get: fn(&EndpointBudget) -> &Option<At<u64>>, key| most(get(endpoint?), key);
        let pending_timeout = self.positive(value.pending_timeout.as_ref(), "pending_timeout");
        let pushback = self.duration(value.pushback.as_ref()).unwrap_or(PUSHBACK);
        let breakers = plan::CircuitBreakers {
            cluster: plan::Budget {
                calls: most(&value.max_calls, "max_calls"),
                streams: most(&value.max_streams, "max_streams"),
                connections: most(&value.max_connections, "max_connections"),
            },
            endpoint: plan::Budget {
                calls: of_endpoint(|budget| &budget.max_calls, "max_calls"),
                streams: of_endpoint(|budget| &budget.max_streams, "max_streams"),
                connections: of_endpoint(|budget| &budget.max_connections, "max_connections"),
            },
            pending: most(&value.max_pending_calls, "max_pending_calls"),
            pending_timeout,
            pushback: Some(pushback).filter(|pushback| !pushback.is_zero()),
        };
        if !breakers.has_limits() {
            self.useless("circuit_breakers", Some(field), "there is no limit in it that a call could meet");
            return None;
        }
        Some(breakers)
    }
}
