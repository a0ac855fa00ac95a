//! How a call ends for a grpcio client, whatever the backend does: the same through the gateway as direct.
//!
//! Each test compares status code, status message (where the backend wrote one), initial and trailing metadata and the
//! messages, for unary calls, streams, clients that do not read and clients that go on sending, with one worker and two.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn every_status_with_its_message_and_details() -> Result<()> {
    check("parity", "statuses")
}

#[test]
fn every_reset_at_every_point_of_a_response() -> Result<()> {
    check("parity", "resets")
}

#[test]
fn a_connection_lost_at_every_point_of_a_response() -> Result<()> {
    check("parity", "losses")
}

#[test]
fn responses_that_end_without_a_status() -> Result<()> {
    check("endings", "odd_endings")
}

#[test]
fn http_answers_from_something_that_is_not_grpc() -> Result<()> {
    check("endings", "http_mapping")
}

#[test]
fn content_length_beside_trailers() -> Result<()> {
    check("endings", "lengths")
}

#[test]
fn response_metadata_of_seventy_kilobytes() -> Result<()> {
    check("endings", "large_metadata")
}

#[test]
fn two_thousand_calls_that_the_backend_ends_early() -> Result<()> {
    check("endings", "early_ends")
}
