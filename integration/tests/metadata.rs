//! Metadata in both directions: nothing lost, nothing changed, nothing added.

use anyhow::Result;
use weir_integration::parity::check;

#[test]
fn metadata_of_a_library() -> Result<()> {
    check("metadata", "library")
}

#[test]
fn fields_of_grpc_and_http() -> Result<()> {
    check("metadata", "fields_of_grpc")
}

#[test]
fn hop_by_hop_fields_do_not_cross() -> Result<()> {
    check("metadata", "hop_by_hop")
}

#[test]
fn the_authority_that_was_dialled() -> Result<()> {
    check("metadata", "authority")
}
