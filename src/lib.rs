//! Weir: a transparent L7 gateway for gRPC.
//!
//! This is the table of contents. A gateway with filters of its own is [`run`] with a [`Registry`](registry::Registry)
//! that holds them.

pub mod cli;
pub mod config;
pub mod registry;

pub use cli::run;
