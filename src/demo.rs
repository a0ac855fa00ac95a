//! The first minute with Weir: a backend to call, the configuration of a gateway in front of it, and calls to make.
//!
//! Nothing here is part of the data plane. `cli/demo.rs` puts the pieces together.

pub mod backend;
pub mod calls;
pub mod config;
pub mod ports;
pub mod table;

/// The code that `build.rs` generates from `demo/echo.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("weir.demo.v1");

    /// The encoded descriptors, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/echo.descriptors"));
}
