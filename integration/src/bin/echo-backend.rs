//! The echo backend as a process of its own, for tests that kill it: `echo-backend PORT [JOURNAL]`.

use anyhow::{Context, Result};
use weir_integration::load::backend::{Backend, Options};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().context("echo-backend PORT [JOURNAL]")?.parse()?;
    let backend = Backend::start(Options { port, journal: arguments.next().map(Into::into), ..Options::default() })?;
    println!("listening on {}", backend.address);
    loop {
        std::thread::park();
    }
}
