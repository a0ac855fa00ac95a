//! What the gateway answers by itself.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn calls_that_cannot_be_forwarded() -> Result<()> {
    check("local_replies", "statuses")
}

#[test]
fn requests_that_are_not_grpc() -> Result<()> {
    check("local_replies", "not_grpc")
}

#[test]
fn paths_that_name_no_method() -> Result<()> {
    check("local_replies", "paths")
}

#[test]
fn malformed_requests_end_alone() -> Result<()> {
    check("local_replies", "malformed")
}

#[test]
fn messages_over_a_limit() -> Result<()> {
    check("local_replies", "message_sizes")
}
