//! The same retry policy in grpcio and in the gateway: what a client sees of it is the same.

use anyhow::Result;
use weir_integration::parity::check_with;

const POLICY: &str = "retry_policy: {max_attempts: 3, initial_backoff: 10ms, max_backoff: 50ms, \
                      retryable_status_codes: [UNAVAILABLE, ABORTED]}";

#[test]
fn statuses() -> Result<()> {
    check_with("retries", "statuses", POLICY)
}

#[test]
fn pushback() -> Result<()> {
    check_with("retries", "pushback", POLICY)
}

#[test]
fn what_has_begun_is_committed() -> Result<()> {
    check_with("retries", "committed", POLICY)
}
