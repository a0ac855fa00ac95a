//! The end of a gateway, as clients see it frame by frame.

use anyhow::Result;
use weir_integration::parity::check_drain;

/// The exit code of a drain that cut calls.
const CUT: i32 = 4;

#[test]
fn every_connection_hears_goaway_and_every_call_finishes() -> Result<()> {
    check_drain("graceful", "timeout: 60s", 0)
}

#[test]
fn an_interrupt_is_a_drain_too() -> Result<()> {
    check_drain("interrupted", "timeout: 60s", 0)
}

#[test]
fn calls_that_outlive_the_timeout_are_told() -> Result<()> {
    check_drain("out_of_time", "timeout: 1s", CUT)
}

#[test]
fn a_second_signal_ends_it_now() -> Result<()> {
    check_drain("second_signal", "timeout: 60s", CUT)
}

#[test]
fn listeners_accept_until_the_delay_is_over() -> Result<()> {
    check_drain("delayed", "timeout: 60s, delay: 1s", 0)
}
