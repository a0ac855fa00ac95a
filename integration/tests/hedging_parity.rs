//! A client cannot tell a call that is hedged from one that is not: what grpcio sees direct it sees through a hedging policy.
//!
//! The delay never passes here: one attempt that wins goes another way through the gateway than one that was alone from the start.

use anyhow::Result;
use weir_integration::parity::check_with;

const POLICY: &str = "hedging_policy: {max_attempts: 2, hedging_delay: 10m}";

#[test]
fn every_status_with_its_message_and_details() -> Result<()> {
    check_with("parity", "statuses", POLICY)
}

#[test]
fn every_reset_at_every_point_of_a_response() -> Result<()> {
    check_with("parity", "resets", POLICY)
}

#[test]
fn a_connection_lost_at_every_point_of_a_response() -> Result<()> {
    check_with("parity", "losses", POLICY)
}

#[test]
fn responses_that_end_without_a_status() -> Result<()> {
    check_with("endings", "odd_endings", POLICY)
}

#[test]
fn http_answers_from_something_that_is_not_grpc() -> Result<()> {
    check_with("endings", "http_mapping", POLICY)
}

#[test]
fn two_thousand_calls_that_the_backend_ends_early() -> Result<()> {
    check_with("endings", "early_ends", POLICY)
}
