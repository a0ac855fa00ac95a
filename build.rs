//! Generates the code of the demo's service. protox compiles the `.proto` itself, so that nobody needs a `protoc`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/demo/echo.proto");
    let mut compiler = protox::Compiler::new(["src/demo"])?;
    compiler.include_imports(true).include_source_info(true).open_file("echo.proto")?;

    // The reflection service of the demo's backend serves the descriptors themselves.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    std::fs::write(out.join("echo.descriptors"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
