//! `grpc-timeout`: passed on with what is left of it, and enforced.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn what_is_left_is_passed_on() -> Result<()> {
    check("deadlines", "forwarding")
}

#[test]
fn the_gateway_ends_a_call_in_time() -> Result<()> {
    check("deadlines", "expiry")
}

#[test]
fn deadlines_of_a_library_and_of_a_backend() -> Result<()> {
    check("deadlines", "library")
}
