//! Frame by frame: what a raw client and a raw backend see of each other, direct and through the gateway.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn responses_keep_their_frames() -> Result<()> {
    check("framing", "frames")
}

#[test]
fn requests_keep_their_bytes() -> Result<()> {
    check("framing", "requests")
}

#[test]
fn pieces_travel_when_they_come() -> Result<()> {
    check("framing", "timing")
}

#[test]
fn a_reset_does_not_wait_for_a_client_that_does_not_read() -> Result<()> {
    check("framing", "unread")
}
