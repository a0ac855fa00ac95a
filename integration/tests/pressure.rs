//! Back-pressure, which is the slow reader's alone, and bursts, which are not a flood.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn slow_readers_stop_only_their_senders() -> Result<()> {
    check("pressure", "slow_readers")
}

#[test]
fn bursts_of_small_messages() -> Result<()> {
    check("pressure", "bursts")
}

#[test]
fn bursts_that_wait_for_a_reader() -> Result<()> {
    check("pressure", "unread_bursts")
}
