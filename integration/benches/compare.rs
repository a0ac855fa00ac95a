//! The comparison of Weir with other proxies. What it does, `cargo bench -p weir-integration --bench compare -- --help`
//! says.

use anyhow::Result;
use weir_integration::bench::{compare, role};

fn main() -> Result<()> {
    if role::play()? {
        return Ok(());
    }
    compare::run()
}
