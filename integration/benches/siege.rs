//! What an attacker costs the calls of others: `cargo bench -p weir-integration --bench siege`.

use anyhow::Result;
use weir_integration::bench::{role, siege};

fn main() -> Result<()> {
    if role::play()? {
        return Ok(());
    }
    siege::run()
}
