//! Clients that cancel or vanish: the backend sees RST CANCEL, and nobody else sees anything.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn a_cancel_reaches_the_backend() -> Result<()> {
    check("cancels", "library")
}

#[test]
fn a_client_that_vanishes() -> Result<()> {
    check("cancels", "vanished")
}

#[test]
fn a_thousand_cancels_at_once() -> Result<()> {
    check("cancels", "bursts")
}
