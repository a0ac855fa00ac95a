//! Calls that a backend provably did not process, and backends that take few calls at a time.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn refused_calls_are_tried_again() -> Result<()> {
    check("refusals", "refused")
}

#[test]
fn a_goaway_fails_no_call() -> Result<()> {
    check("refusals", "drains")
}

#[test]
fn a_backend_that_takes_one_stream_at_a_time() -> Result<()> {
    check("refusals", "few_streams")
}
