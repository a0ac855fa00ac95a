//! The guard over what a call costs: `cargo bench -p weir-integration --bench guard -- --help`.

use anyhow::Result;
use weir_integration::bench::{guard, role};

fn main() -> Result<()> {
    if role::play()? {
        return Ok(());
    }
    guard::run()
}
