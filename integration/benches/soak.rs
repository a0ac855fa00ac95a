//! A gateway under everything at once: `cargo bench -p weir-integration --bench soak -- --minutes 30`.

use anyhow::Result;

fn main() -> Result<()> {
    weir_integration::soak::run()
}
